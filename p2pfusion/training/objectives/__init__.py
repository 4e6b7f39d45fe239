"""Objectives: what a peer minimises on its own data, and their table.

Beside the table there are functions of one's own (``own.py``), and those of installed
packages, from the entry-point group ``p2pfusion.objectives``; the names of these have
a dot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.objectives.contrastive import Contrast, ContrastiveObjective
from p2pfusion.training.objectives.exits import Distillation, ExitsObjective
from p2pfusion.training.objectives.own import own_objective
from p2pfusion.training.objectives.self_supervised import (
    DEFAULTS,
    ByolObjective,
    MocoObjective,
    SimclrObjective,
)
from p2pfusion.training.objectives.task import TaskObjective
from p2pfusion.training.outside import OBJECTIVE, find_own, installed, is_own

__all__ = [
    "OBJECTIVES",
    "SELF_SUPERVISED",
    "Dated",
    "Objective",
    "check_name",
    "create_objective",
]

Options = Mapping[str, object]


class Objective(Protocol):
    """A loss on one batch after another, and what it remembers between rounds.

    A round is ``begin``, any number of losses with a step of the optimiser and
    ``after_step`` behind each, and ``end`` if it came to its end; after a round that
    failed comes the next ``begin``.
    """

    @property
    def absent(self) -> Tensor | None:
        """Classes that this peer's training leaves alone, as a mask; None: no class."""
        ...

    @property
    def labelled(self) -> bool:
        """Whether labels are looked at. Otherwise the classifier learns nothing, and
        what it answers says nothing."""
        ...

    def begin(
        self, module: nn.Module, split: Split, generator: torch.Generator
    ) -> tuple[Split, ...]:
        """A round begins, and the module of this split has the values as received.

        ``generator``: for what the round draws, the same if the round is repeated. The
        splits of the sub-models that run beside the module in every step of the round,
        without gradients: what they cost is counted.
        """
        ...

    def loss(self, module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over the batch's targets, a scalar with gradient."""
        ...

    def after_step(self, module: nn.Module) -> None:
        """The optimiser has moved the module's values."""
        ...

    def end(self, module: nn.Module, split: Split) -> None:
        """The round's last step is done. The module's values may change afterwards."""
        ...


@runtime_checkable
class Dated(Protocol):
    """An objective that is another one in later rounds."""

    def at(self, round_index: int) -> None:
        """Which round begins next."""
        ...


Create = Callable[[Options, Sequence[int], torch.device, Layout], Objective]

OBJECTIVES: dict[str, Create] = {
    "byol": ByolObjective.create,
    "contrastive": ContrastiveObjective.create,
    "exits": ExitsObjective.create,
    "moco": MocoObjective.create,
    "simclr": SimclrObjective.create,
    "task": TaskObjective.create,
}

SELF_SUPERVISED = tuple(DEFAULTS)
"""Objectives that look at no labels."""

_COMMON = ("name", "label_mask", "logit_adjustment")
_OPTIONS = {
    "contrastive": [f.name for f in fields(Contrast)],
    "exits": [f.name for f in fields(Distillation)],
    "task": [],
    **{name: list(defaults) for name, defaults in DEFAULTS.items()},
}


def create_objective(
    options: Options,
    class_counts: Sequence[int],
    device: torch.device,
    layout: Layout,
) -> Objective:
    """The objective that the manifest's options name (``task`` without a name)."""
    name = str(options.get("name", "task"))
    check_name(name)
    if name not in OBJECTIVES:
        function = _outside(name)
        assert function is not None, "check_name has found it"
        made = own_objective(name, function, options, class_counts, device, layout)
        return made  # type: ignore[return-value]
    unknown = set(options) - {*_COMMON, *_OPTIONS[name]}
    if unknown:
        raise ConfigError(f"objective.{min(unknown)}: unknown key")
    return OBJECTIVES[name](options, class_counts, device, layout)


def check_name(name: str) -> None:
    """``ConfigError`` if there is no such objective, or it may not be imported."""
    if name not in OBJECTIVES and _outside(name) is None:
        raise ConfigError(
            f"objective.name: {name!r} is unknown",
            hint=f"known objectives: {', '.join(OBJECTIVES)}; your own: "
            "package.module:function",
        )


def _outside(name: str) -> Callable[..., object] | None:
    """The function of one's own, or of an installed package, that makes it."""
    if is_own(name):
        return find_own(OBJECTIVE, name)
    found = installed(OBJECTIVE, name)
    if found is not None and not callable(found):
        raise ConfigError(f"objective {name!r} is not a function")
    return found
