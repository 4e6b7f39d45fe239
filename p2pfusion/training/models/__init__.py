"""Models: the table, and how a name of a manifest becomes one.

An installed package adds models through the entry-point group ``p2pfusion.models``;
they are imported only when they are named.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from p2pfusion.errors import ConfigError
from p2pfusion.training.models.base import Model, check_depth, check_fit, settle
from p2pfusion.training.models.cnn import Cnn
from p2pfusion.training.models.mlp import Mlp
from p2pfusion.training.models.resnet import ResNet
from p2pfusion.training.models.text_classifier import TextClassifier
from p2pfusion.training.models.transformer import Transformer
from p2pfusion.training.models.vit import Vit
from p2pfusion.training.models.vit_units import UnitVit

__all__ = ["MODELS", "Model", "check_depth", "check_fit", "find_model", "settle"]

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


def find_model(name: str) -> Model:
    """The model of that name; ``ConfigError`` if there is none."""
    if name in MODELS:
        return MODELS[name]
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        found: Model = entry.load()
        return found
    raise ConfigError(
        f"model {name!r} is unknown", hint=f"known models: {', '.join(MODELS)}"
    )
