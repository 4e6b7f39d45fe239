"""Models: the table, and how a name of a manifest becomes one.

Beside the table there are functions of one's own, ``package.module:function``, and
models of installed packages, from the entry-point group ``p2pfusion.models``
(``training/outside.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from p2pfusion.errors import ConfigError
from p2pfusion.training.models.base import (
    Model,
    check_fit,
    held,
    is_deep,
    settle,
    statistics,
)
from p2pfusion.training.models.cnn import Cnn
from p2pfusion.training.models.mlp import Mlp
from p2pfusion.training.models.resnet import ResNet
from p2pfusion.training.models.text_classifier import TextClassifier
from p2pfusion.training.models.transformer import Transformer
from p2pfusion.training.models.vit import Vit
from p2pfusion.training.models.vit_units import UnitVit
from p2pfusion.training.outside import MODEL, find_own, installed, is_own

__all__ = [
    "MODELS",
    "Model",
    "check_fit",
    "find_model",
    "held",
    "is_deep",
    "settle",
    "statistics",
]

MODELS: dict[str, Model] = {
    "cnn": Cnn(),
    "mlp": Mlp(),
    "resnet18": ResNet("resnet18", (2, 2, 2, 2)),
    "resnet34": ResNet("resnet34", (3, 4, 6, 3)),
    "transformer": Transformer(),
    "transformer-classifier": TextClassifier(),
    "vit": Vit(),
    "vit-units": UnitVit(),
}


def find_model(name: str) -> Model:
    """The model of that name; ``ConfigError`` if it is unknown or not allowed."""
    if name in MODELS:
        return MODELS[name]
    if is_own(name):
        return _own(name)
    found = _of_package(name)
    if found is None:
        raise ConfigError(
            f"model {name!r} is unknown",
            hint=f"known models: {', '.join(MODELS)}; your own: "
            "package.module:function",
        )
    return found


def _own(name: str) -> Model:
    return _traced(name, find_own(MODEL, name))


@cache
def _of_package(name: str) -> Model | None:
    """A model of an installed package, or the function that builds one."""
    found = installed(MODEL, name)
    if found is None:
        return None
    if hasattr(found, "layout"):
        return found  # type: ignore[return-value]
    if not callable(found):
        raise ConfigError(f"model {name!r} is neither a model nor a function")
    return _traced(name, found)


@cache
def _traced(name: str, function: Callable[..., object]) -> Model:
    # What traces is loaded where something is traced: it builds on the files here.
    from p2pfusion.training.models.own import Own

    return Own(name, function)
