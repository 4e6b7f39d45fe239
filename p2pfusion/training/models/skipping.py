"""Depth dropout: frozen blocks that are left out of some steps of training.

A block only adds to a residual stream, so a network does without it for a while: what
is behind it reads the stream as it was before. In each step of training every frozen
block is left out with a given chance, drawn for the whole batch. All copies of the
sub-model, the momentum branch as well, leave out the same ones in a step, so that they
read the same stream. Evaluation has all blocks, and nothing is scaled.

Source: the add-on DD of LW-FedSSL (Tun et al., arXiv 2401.11647, version 4, table 6):
frozen layers are skipped at random; of its chance we know only that 0.3 fits the FLOPs
of that table. The idea is stochastic depth (Huang et al., ECCV 2016), which scales
blocks down in evaluation. Differs: nothing is scaled here, because the frozen blocks
were trained without being left out.
"""

from __future__ import annotations

import torch
from torch import nn


class Switch:
    """Whether a block is left out of the present step; one for all copies of it."""

    is_off = False

    def __deepcopy__(self, memo: object) -> Switch:
        """Itself: a copied sub-model leaves out what the first one does."""
        return self


class Skippable(nn.Module):
    """A block that adds to a stream, and can be left out of a step of training."""

    switch: Switch | None = None

    @property
    def is_skipped(self) -> bool:
        """Whether the stream behind the block is the one before it."""
        return self.training and self.switch is not None and self.switch.is_off


class DepthDropout:
    """Draws which frozen blocks of a sub-model are left out, step by step."""

    def __init__(
        self, module: nn.Module, chance: float, generator: torch.Generator
    ) -> None:
        """Finds the blocks of which nothing is trained; none with a chance of 0."""
        self._chance = chance
        self._generator = generator
        self._switches: list[Switch] = []
        for block in _frozen_blocks(module) if chance else ():
            block.switch = Switch()
            self._switches.append(block.switch)

    @property
    def count(self) -> int:
        """How many blocks may be left out."""
        return len(self._switches)

    def draw(self) -> None:
        """A step begins: draws for each block. Without blocks nothing is drawn."""
        if self._switches:
            drawn = torch.rand(self.count, generator=self._generator)
            self._set((drawn < self._chance).tolist())

    def leave_out_all(self) -> None:
        """The smallest network that a step may train."""
        self._set([True] * self.count)

    def end(self) -> None:
        """The last step is done: whoever computes with copies later has all blocks."""
        self._set([False] * self.count)

    def _set(self, are_off: list[bool]) -> None:
        for switch, is_off in zip(self._switches, are_off, strict=True):
            switch.is_off = is_off


def _frozen_blocks(module: nn.Module) -> list[Skippable]:
    return [
        part
        for part in module.modules()
        if isinstance(part, Skippable)
        and not any(parameter.requires_grad for parameter in part.parameters())
    ]
