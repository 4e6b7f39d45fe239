"""Objectives of one's own: a function that makes a loss, as for any torch program.

``package.module:function`` is called with those of the objective's arguments that it
names, and with ``class_counts``, this peer's training answers per class, if it has a
parameter of that name. It returns ``loss(logits, targets)``, a module or a function:
logits are (B, classes) for targets (B,), or (B * T, classes) for (B * T,) where tokens
are foretold, without the places that have no answer. What it returns may also be a
whole ``Objective``, which then is told of rounds and sees module and inputs.

The loss sees logits as ``task`` has them: with the swarm's label mask and logit
adjustment, if these are on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Layout
from p2pfusion.training.data.records import NO_ANSWER
from p2pfusion.training.objectives.task import TaskObjective
from p2pfusion.training.outside import OBJECTIVE, foreign_code, lacking, parameters

Loss = Callable[[Tensor, Tensor], object]

COUNTS = "class_counts"
"""The parameter that is told how many answers of each class this peer has."""

NOT_PASSED_ON = ("name", "label_mask", "logit_adjustment")
"""Options that every objective has."""

TRIED = 3
"""Answers with which a loss is tried before it trains."""


@dataclass(frozen=True)
class OwnObjective(TaskObjective):
    """A task whose loss is another one than cross-entropy."""

    criterion: Loss | None = None

    def measure(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The owner's loss, of those that have an answer."""
        assert self.criterion is not None, "own_objective has set it"
        answered = targets != NO_ANSWER
        if not bool(answered.all()):
            logits, targets = logits[answered], targets[answered]
        loss = self.criterion(logits, targets)
        assert isinstance(loss, Tensor), "it was tried"
        return loss


def own_objective(
    name: str,
    function: Callable[..., object],
    options: Mapping[str, object],
    class_counts: Sequence[int],
    device: torch.device,
    layout: Layout,
) -> object:
    """The objective that a function makes; ``ConfigError`` says in one line why it
    makes none."""
    made = _made(name, function, options, class_counts)
    if hasattr(made, "begin"):
        return made
    if not callable(made):
        raise ConfigError(
            f"objective {name!r} gives {type(made).__name__}, which is no function of "
            "logits and targets"
        )
    if isinstance(made, torch.nn.Module):
        made = made.to(device)
    task = TaskObjective.create(options, class_counts, device, layout)
    objective = OwnObjective(task.absent, task.prior, made)
    _try(name, objective, len(class_counts), device)
    return objective


def _made(
    name: str,
    function: Callable[..., object],
    options: Mapping[str, object],
    class_counts: Sequence[int],
) -> object:
    given = {key: options[key] for key in options if key not in NOT_PASSED_ON}
    known = parameters(OBJECTIVE, name, function)
    unknown = set(given) - set(known)
    if unknown:
        raise ConfigError(f"objective {name!r} takes no argument {min(unknown)!r}")
    if COUNTS in known:
        given[COUNTS] = list(class_counts)
    missing = lacking(known, given)
    if missing is not None:
        raise ConfigError(
            f"objective {name!r} needs the argument {missing!r}",
            hint=f"say it in objective_arguments, as {{ {missing} = 1.0 }}",
        )
    with foreign_code(f"objective {name!r} cannot be made"):
        return function(**given)


def _try(
    name: str, objective: OwnObjective, classes: int, device: torch.device
) -> None:
    """One loss of zeros, whose numbers mean nothing, and whose kind does."""
    logits = torch.zeros(TRIED, classes, device=device, requires_grad=True)
    targets = torch.zeros(TRIED, dtype=torch.int64, device=device)
    assert objective.criterion is not None
    try:
        loss = objective.criterion(logits, targets)
    except Exception as error:  # whatever its owner's code may raise
        raise ConfigError(
            f"objective {name!r} fails on logits of shape {tuple(logits.shape)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(loss, Tensor):
        raise ConfigError(
            f"objective {name!r} gives {type(loss).__name__} for a loss, not a tensor"
        )
    if loss.shape != ():
        raise ConfigError(
            f"objective {name!r} gives a loss of shape {tuple(loss.shape)}, not one "
            "number",
            hint="take the mean over the records",
        )
    if not loss.requires_grad:
        raise ConfigError(
            f"objective {name!r} gives a loss that does not depend on the logits"
        )
