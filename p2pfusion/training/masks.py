"""Masks that are learned: which units of a model suit a peer's own data.

A sub-model in its full width is read once. Its matrices and their biases, and what cuts
images into tokens, are frozen; norms, positions and the deepest exit are trained beside
a score s for every cell of every axis that shall be cut:

    g ~ Bernoulli(p),  p = sigmoid(s)         afresh for every axis and step
    loss = CE(deepest exit, y) + | mean of all g - part |

where the activations of a cell are multiplied by its g. The gradient of a draw is p
times that of g (straight through), and the sigmoid's behind it. At the end the cells
with the highest scores are the mask, as many as every axis may have; or, ``sampled``,
one more draw, repeated for an axis of which it has nothing.

Source: Co-S2P (arXiv 2410.08457, data-aware width pruning), as its published code has
it, and its weight 1 of the second term.

Differs: a score belongs to a grid cell, not to one unit; g multiplies what a unit
sends on, so that heads learn nothing by way of their scores and feed-forward units
nothing by way of GELU's slope; the mask has an exact budget. Scores begin near 0 and
have an optimiser of their own, because weights and scores do not need one rate.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import LocalProtocolError, NonFiniteError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Layout
from p2pfusion.split.masks import encode_mask
from p2pfusion.split.segment import Split
from p2pfusion.training.data.augment import Augmentation
from p2pfusion.training.data.records import NO_ANSWER, Records
from p2pfusion.training.descent import Descent, Optimiser
from p2pfusion.training.loop import Progress, Schedule, batches
from p2pfusion.training.models.base import Width

SCORES = Optimiser(rule="adamw", clip=None)
SCORE_RATE = 0.05
"""Adam moves a score by about so much in a step: in a hundred steps p can go from a
half to near 0 or 1."""

SCORE_DEVIATION = 0.1
"""Of fresh scores: far less than they move, so that data decides and not chance."""


@dataclass(frozen=True)
class Question:
    """What a mask is asked for."""

    split: Split
    """The sub-model in its full width."""
    axes: tuple[Axis, ...]
    """Those that shall be cut, in the order of the mask's bytes."""
    cells: Mapping[str, int]
    """How many cells of each are wanted."""
    part: float
    """The part of all cells that draws are driven to."""
    epochs: int
    sampled: bool

    @classmethod
    def from_data(cls, data: Mapping[str, object], layout: Layout) -> Question:
        """From plain data; ``LocalProtocolError`` if it is none."""
        cells = data.get("cells")
        try:
            assert isinstance(cells, Mapping)
            axes = tuple(layout.axis(name) for name in cells)
            return cls(
                Split.from_data(data["split"], layout),
                axes,
                {axis.name: int(cells[axis.name]) for axis in axes},
                float(data["part"]),  # type: ignore[arg-type]
                int(data["epochs"]),  # type: ignore[call-overload]
                bool(data["sampled"]),
            )
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise LocalProtocolError(f"a mask was asked for without {error}") from error

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to leave out."""
        return all(self.cells[axis.name] >= axis.cell_count for axis in self.axes)

    def everything(self) -> dict[str, IndexSet]:
        """The mask that leaves out nothing."""
        return {axis.name: IndexSet.span(0, axis.cell_count) for axis in self.axes}

    def encode(self, mask: Mapping[str, IndexSet]) -> bytes:
        """The announcement."""
        return encode_mask(self.axes, mask)


class Gates:
    """Scores of all cells, and draws of which are open."""

    def __init__(
        self, question: Question, generator: torch.Generator, device: torch.device
    ) -> None:
        self._question, self._generator = question, generator
        self.scores = {
            axis.name: (
                SCORE_DEVIATION * torch.randn(axis.cell_count, generator=generator)
            )
            .to(device)
            .requires_grad_()
            for axis in question.axes
        }

    def draw(self) -> dict[str, Tensor]:
        """A fresh draw of every axis: zeros and ones, one for each cell."""
        return {name: self._draw(scores) for name, scores in self.scores.items()}

    def _draw(self, scores: Tensor) -> Tensor:
        # Drawn on the processor, where the generator is: the same on every device.
        chance = torch.rand(scores.shape, generator=self._generator).to(scores.device)
        gates: Tensor = _Draw.apply(scores.sigmoid(), chance)  # type: ignore[no-untyped-call]
        return gates

    def mask(self) -> dict[str, IndexSet]:
        """What has been found: the highest scores, or a last draw."""
        choose = self._sampled if self._question.sampled else self._highest
        return {axis.name: choose(axis) for axis in self._question.axes}

    def _highest(self, axis: Axis) -> IndexSet:
        scores = self.scores[axis.name].tolist()
        order = sorted(range(axis.cell_count), key=lambda cell: (-scores[cell], cell))
        return IndexSet.from_indices(order[: self._question.cells[axis.name]])

    @torch.no_grad()
    def _sampled(self, axis: Axis) -> IndexSet:
        while not (gates := self._draw(self.scores[axis.name])).any():
            pass
        return IndexSet.from_indices(gates.nonzero().flatten().tolist())


class _Draw(torch.autograd.Function):
    """Bernoulli draws whose gradient is that of the draw times its chance."""

    @staticmethod
    def forward(context: object, chances: Tensor, uniform: Tensor) -> Tensor:
        context.save_for_backward(chances)  # type: ignore[attr-defined]
        return (uniform < chances).to(chances.dtype)

    @staticmethod
    def backward(context: object, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (chances,) = context.saved_tensors  # type: ignore[attr-defined]
        return chances * gradient, None


def learn_mask(
    module: nn.Module,
    records: Records,
    question: Question,
    *,
    optimiser: Optimiser,
    schedule: Schedule,
    learning_rate: float,
    generator: torch.Generator,
    device: torch.device,
    augment: Augmentation | None = None,
    on_progress: Progress | None = None,
) -> dict[str, IndexSet]:
    """The cells of every axis that suit these records; changes the module's norms,
    positions and deepest exit on the way, so it is of no use afterwards."""
    gates = Gates(question, generator, device)
    freeze(module)
    module.train()
    trained = [each for each in module.parameters() if each.requires_grad]
    descents = (
        (Descent(trained, optimiser), learning_rate),
        (Descent(list(gates.scores.values()), SCORES), SCORE_RATE),
    )
    order = batches(len(records), schedule.batch, generator)
    steps = schedule.step_count(len(records))
    for step in range(1, steps + 1):
        inputs, targets = records.batch(next(order), device)
        if augment is not None:
            inputs = augment(inputs, generator)
        drawn = gates.draw()
        with gated(module, question, drawn):
            loss = functional.cross_entropy(
                module(inputs).flatten(0, -2),
                targets.flatten(),
                ignore_index=NO_ANSWER,
            )
        loss = loss + (torch.cat(list(drawn.values())).mean() - question.part).abs()
        value = loss.item()
        if not math.isfinite(value):
            raise NonFiniteError(
                f"learning a mask diverged: the loss of step {step} of {steps} is "
                f"{value}",
                hint="lower the learning rate or the gradient clip",
            )
        loss.backward()  # type: ignore[no-untyped-call]
        for descent, rate in descents:
            descent.step(rate)
        if on_progress is not None:
            on_progress(step, steps, value)
    return gates.mask()


def freeze(module: nn.Module) -> None:
    """Leaves only norms, tables of positions and the deepest exit to be trained."""
    heads = {id(part) for part in _classifiers(module)[-1:]}
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d) and id(part) not in heads:
            part.requires_grad_(False)


def _classifiers(module: nn.Module) -> list[nn.Module]:
    return [p for n, p in module.named_modules() if n.split(".")[-1] == "classifier"]


@contextlib.contextmanager
def gated(
    module: nn.Module, question: Question, gates: Mapping[str, Tensor]
) -> Iterator[None]:
    """While this lasts, cells of the axes are multiplied by their gates, and by what
    a sub-model of that size would multiply its sums by."""
    axes = {axis.name: axis for axis in question.axes}
    with contextlib.ExitStack() as hooks:
        for part in module.modules():
            if isinstance(part, Width) and part.axis in axes:
                axis = axes[part.axis]
                factors = _expanded(axis, gates[axis.name])
                if part.scaled:
                    wanted = axis.cells(IndexSet.span(0, question.cells[axis.name]))
                    factors = factors * (axis.size / len(wanted))
                hooks.callback(part.register_forward_hook(_Times(factors)).remove)
        yield


def _expanded(axis: Axis, gates: Tensor) -> Tensor:
    """One number for each index of the axis; the last cell may be smaller."""
    return gates.repeat_interleave(axis.cell_size)[: axis.size]


class _Times:
    """A hook that multiplies an axis' activations."""

    def __init__(self, factors: Tensor) -> None:
        self._factors = factors

    def __call__(self, module: Width, given: object, output: Tensor) -> Tensor:
        shape = [1] * output.dim()
        shape[module.dim] = len(self._factors)
        return output * self._factors.reshape(shape)
