"""What a manifest may say of the objective, checked where there is no torch.

The trainer has the losses (``training/objectives/``); here are their names, their
options with defaults and bounds, and what they ask of a model's layout. A test compares
the two tables. What a function of one's own (``package.module:function``) or of an
installed package takes, the trainer knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from p2pfusion.errors import ConfigError
from p2pfusion.limits import (
    MAX_CONTRAST_PREVIOUS,
    MAX_CONTRAST_TEMPERATURE,
    MAX_CONTRAST_WEIGHT,
    MAX_DISTILLATION_ROUND,
    MAX_NAME_CHARACTERS,
    MIN_CONTRAST_TEMPERATURE,
    MIN_VIEW_CROP,
)
from p2pfusion.split.layout import Layout

Arguments = Mapping[str, object]

_VIEWS = {"crop": 0.2, "solarize": 0.0, "alignment": 0.0}

OBJECTIVES: dict[str, Arguments] = {
    "byol": {"momentum": 0.99, **_VIEWS},
    "contrastive": {"weight": 1.0, "temperature": 0.5, "previous": 1},
    "exits": {
        "weight": 0.5,
        "temperature": 3.0,
        "distill_from": 10,
        "per_sample": False,
    },
    "moco": {"temperature": 0.2, "momentum": 0.99, **_VIEWS},
    "simclr": {"temperature": 0.5, **_VIEWS},
    "task": {},
}
"""Every objective's arguments, with their defaults."""

SELF_SUPERVISED = ("byol", "moco", "simclr")
"""Those that compare two views of an image and look at no labels."""

PROJECTION = "projection.weight"
"""The parameter by whose outputs sub-models can be compared."""

PROJECTOR = "heads.projector.layers.0.weight"
PREDICTOR = "heads.predictor.layers.0.weight"
"""By these parameters a layout shows that its model has such heads."""

FIRST_EXIT = "exits.0.classifier.weight"
"""By this one, that it can answer before its last block."""

_Check = tuple[Callable[[object], bool], str]


def check_objective(name: object, arguments: Arguments, layout: Layout) -> None:
    """``ConfigError`` names the key.

    A layout without parameters is that of a profile whose model nobody has looked up.
    """
    if isinstance(name, str) and _is_outside(name):
        return
    if not isinstance(name, str) or name not in OBJECTIVES:
        raise ConfigError(
            f"swarm key 'objective' is {name!r}: it must be one of "
            + ", ".join(OBJECTIVES)
            + ", or package.module:function"
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
    if layout.parameters:
        _check_layout(name, {parameter.name for parameter in layout.parameters})


def _is_outside(name: str) -> bool:
    """Whether it is a function of one's own, ``package.module:function``, or an entry
    point's, ``package.name``: the dot keeps these from what the table will have."""
    is_short = len(name) <= MAX_NAME_CHARACTERS
    return is_short and name.isprintable() and (":" in name or "." in name)


def _check_layout(name: str, parameters: set[str]) -> None:
    if name == "contrastive" and PROJECTION not in parameters:
        raise ConfigError(
            "the objective 'contrastive' needs a model with a projection",
            hint="set the model argument projection, for example to 64",
        )
    if name == "exits" and FIRST_EXIT not in parameters:
        raise ConfigError(
            "the objective 'exits' needs a model with exits", hint="vit-units has them"
        )
    if name in SELF_SUPERVISED and PROJECTOR not in parameters:
        raise ConfigError(
            f"the objective {name!r} needs a model with heads",
            hint="set the model arguments head_hidden and head_output, for example to "
            "128 and 64; vit has them",
        )
    if name in ("byol", "moco") and PREDICTOR not in parameters:
        raise ConfigError(
            f"the objective {name!r} needs a model with a predictor",
            hint="leave the model argument predictor at true",
        )


def objective_options(name: str, arguments: Arguments) -> dict[str, object]:
    """Every argument of an objective, and its name."""
    return {"name": name, **OBJECTIVES.get(name, {}), **arguments}


def frozen_copies(name: str, arguments: Arguments) -> int:
    """Copies of the sub-model that a trainer holds beside the one that it trains."""
    options = objective_options(name, arguments)
    if name in SELF_SUPERVISED:
        return ("momentum" in options) + bool(options["alignment"])
    if name != "contrastive":
        return 0
    previous = options["previous"]
    assert isinstance(previous, int)
    return 1 + previous if previous and options["weight"] else 0


def views_of(name: str) -> int:
    """How many inputs a step sees of each record."""
    return 2 if name in SELF_SUPERVISED else 1


def _number(low: float, high: float) -> _Check:
    def good(value: object) -> bool:
        real = isinstance(value, (int, float)) and not isinstance(value, bool)
        return real and low <= value <= high  # type: ignore[operator]

    return good, f"a number from {low:g} to {high:g}"


def _count(high: int, *, low: int = 1) -> _Check:
    def good(value: object) -> bool:
        return type(value) is int and low <= value <= high

    return good, f"a whole number from {low} to {high}"


_CHECKS: dict[str, _Check] = {
    "weight": _number(0.0, MAX_CONTRAST_WEIGHT),
    "temperature": _number(MIN_CONTRAST_TEMPERATURE, MAX_CONTRAST_TEMPERATURE),
    "previous": _count(MAX_CONTRAST_PREVIOUS),
    "distill_from": _count(MAX_DISTILLATION_ROUND, low=0),
    "per_sample": (lambda value: isinstance(value, bool), "true or false"),
    "momentum": _number(0.0, 1.0),
    "crop": _number(MIN_VIEW_CROP, 1.0),
    "solarize": _number(0.0, 1.0),
    "alignment": _number(0.0, MAX_CONTRAST_WEIGHT),
}
