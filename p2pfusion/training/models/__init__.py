"""Models: the table, and how a name of a manifest becomes one.

An installed package adds models through the entry-point group ``p2pfusion.models``;
they are imported only when they are named. ``package.module:function`` names a model of
one's own, and is imported only if whoever owns this machine has named it, too: such
names come in manifests and checkpoints, which others write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from torch import nn

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

__all__ = [
    "MODELS",
    "Model",
    "allow",
    "check_fit",
    "find_model",
    "held",
    "is_deep",
    "settle",
    "statistics",
]

ENTRY_POINTS = "p2pfusion.models"

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

_ALLOWED: set[str] = set()
"""Functions that this process may import. It is the process' own, as its path of
imports is: whatever asks for a model later, the answer is the same."""


def allow(names: Iterable[str]) -> None:
    """The owner of this machine has named these functions."""
    _ALLOWED.update(names)


def find_model(name: str) -> Model:
    """The model of that name; ``ConfigError`` if it is unknown or not allowed."""
    if name in MODELS:
        return MODELS[name]
    if ":" in name:
        if name not in _ALLOWED:
            raise ConfigError(
                f"model {name!r} is code that nobody has named on this machine",
                hint=f'if you trust it, write models = ["{name}"] in [peer] of the '
                "profile, or name it with --model",
            )
        return _own(name)
    if entry_points(group=ENTRY_POINTS, name=name):
        return _of_package(name)
    raise ConfigError(
        f"model {name!r} is unknown",
        hint=f"known models: {', '.join(MODELS)}; your own: package.module:function",
    )


@cache
def _own(name: str) -> Model:
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except Exception as error:  # its owner's code can raise whatever it likes
        raise ConfigError(
            f"model {name!r} cannot be imported: {type(error).__name__}: {error}",
            hint="its package must be installed, or its directory be in PYTHONPATH",
        ) from error
    return _traced(name, found)


def _traced(name: str, function: Callable[..., nn.Module]) -> Model:
    # What traces is loaded where something is traced: it builds on the files here.
    from p2pfusion.training.models.own import Own

    return Own(name, function)


@cache
def _of_package(name: str) -> Model:
    """A model of an installed package, or the function that builds one."""
    entry = next(iter(entry_points(group=ENTRY_POINTS, name=name)))
    try:
        found = entry.load()
    except Exception as error:
        raise ConfigError(f"model {name!r} cannot be loaded: {error}") from error
    return found if hasattr(found, "layout") else _traced(name, found)
