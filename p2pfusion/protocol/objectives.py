"""What a manifest may say of the objective, checked where there is no torch.

The trainer has the losses (``training/objectives/``); here are their names, their
options with defaults and bounds, and what they ask of a model's layout. A test compares
the two tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from p2pfusion.errors import ConfigError
from p2pfusion.limits import (
    MAX_CONTRAST_PREVIOUS,
    MAX_CONTRAST_TEMPERATURE,
    MAX_CONTRAST_WEIGHT,
    MIN_CONTRAST_TEMPERATURE,
)
from p2pfusion.split.layout import Layout

Arguments = Mapping[str, object]

OBJECTIVES: dict[str, Arguments] = {
    "contrastive": {"weight": 1.0, "temperature": 0.5, "previous": 1},
    "task": {},
}
"""Every objective's arguments, with their defaults."""

PROJECTION = "projection.weight"
"""The parameter by whose outputs sub-models can be compared."""

_Check = tuple[Callable[[object], bool], str]


def check_objective(name: object, arguments: Arguments, layout: Layout) -> None:
    """``ConfigError`` names the key.

    A layout without parameters is that of a profile whose model nobody has looked up.
    """
    if not isinstance(name, str) or name not in OBJECTIVES:
        raise ConfigError(
            f"swarm key 'objective' is {name!r}: it must be one of "
            + ", ".join(OBJECTIVES)
        )
    for key, value in arguments.items():
        if key not in OBJECTIVES[name]:
            known = ", ".join(OBJECTIVES[name])
            raise ConfigError(
                f"objective {name!r} takes no argument {key!r}",
                hint=f"choose from {known}" if known else "it takes none",
            )
        good, want = _CHECKS[key]
        if not good(value):
            raise ConfigError(
                f"swarm key 'objective_arguments': {key} is {value!r}: it must be "
                f"{want}"
            )
    has_projection = any(p.name == PROJECTION for p in layout.parameters)
    if name == "contrastive" and layout.parameters and not has_projection:
        raise ConfigError(
            "the objective 'contrastive' needs a model with a projection",
            hint="set the model argument projection, for example to 64",
        )


def objective_options(name: str, arguments: Arguments) -> dict[str, object]:
    """Every argument of an objective, and its name."""
    return {"name": name, **OBJECTIVES[name], **arguments}


def frozen_copies(name: str, arguments: Arguments) -> int:
    """Copies of the sub-model that a trainer holds beside the one that it trains."""
    options = objective_options(name, arguments)
    previous = options.get("previous", 0)
    assert isinstance(previous, int)
    return 1 + previous if previous and options["weight"] else 0


def _number(low: float, high: float) -> _Check:
    def good(value: object) -> bool:
        real = isinstance(value, (int, float)) and not isinstance(value, bool)
        return real and low <= value <= high  # type: ignore[operator]

    return good, f"a number from {low:g} to {high:g}"


def _count(high: int) -> _Check:
    def good(value: object) -> bool:
        return type(value) is int and 1 <= value <= high

    return good, f"a whole number from 1 to {high}"


_CHECKS: dict[str, _Check] = {
    "weight": _number(0.0, MAX_CONTRAST_WEIGHT),
    "temperature": _number(MIN_CONTRAST_TEMPERATURE, MAX_CONTRAST_TEMPERATURE),
    "previous": _count(MAX_CONTRAST_PREVIOUS),
}
