"""Training methods: who trains which part of the model, in which round.

``METHODS`` is the table of the methods that ship with the package. Other packages add
theirs under the entry-point group ``p2pfusion.methods``; these are looked up only when
a name is not in the table, and only what is installed on this machine is ever loaded.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points

from p2pfusion.errors import ConfigError
from p2pfusion.methods.base import (
    Member,
    Method,
    PlanContext,
    announcing,
    initial_layout,
    sharing,
    skipping,
    split_fraction,
)
from p2pfusion.methods.co_s2p import co_s2p
from p2pfusion.methods.fedavg import FedAvg
from p2pfusion.methods.federated_dropout import FederatedDropout
from p2pfusion.methods.fedrolex import FedRolex
from p2pfusion.methods.heterofl import HeteroFL
from p2pfusion.methods.layer_finetune import LayerFinetune
from p2pfusion.methods.lw_fedssl import LwFedSSL
from p2pfusion.methods.msfusion import MSfusion
from p2pfusion.methods.prog_fedssl import ProgFedSSL

__all__ = [
    "METHODS",
    "Member",
    "Method",
    "PlanContext",
    "announcing",
    "build_method",
    "initial_layout",
    "sharing",
    "skipping",
    "split_fraction",
]

METHODS: dict[str, Callable[..., Method]] = {
    "co-s2p": co_s2p,
    "fedavg": FedAvg,
    "federated-dropout": FederatedDropout,
    "fedrolex": FedRolex,
    "heterofl": HeteroFL,
    "layer-finetune": LayerFinetune,
    "lw-fedssl": LwFedSSL,
    "msfusion": MSfusion,
    "prog-fedssl": ProgFedSSL,
}

_GROUP = "p2pfusion.methods"


def build_method(name: str, arguments: Mapping[str, object]) -> Method:
    """The method of a manifest; ``ConfigError`` names what is wrong with it."""
    make = METHODS.get(name) or _installed(name)
    signature = inspect.signature(make)
    known = list(signature.parameters)
    for argument in arguments:
        if argument not in known:
            raise ConfigError(
                f"method {name!r} takes no argument {argument!r}",
                hint=_suggestion(argument, known) or "it takes none",
            )
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"method {name!r}: {error}") from None
    try:
        return make(**arguments)
    except ConfigError as error:
        text = f"method {name!r}: {error.message}"
        raise ConfigError(text, hint=error.hint) from None


def _installed(name: str) -> Callable[..., Method]:
    found = {point.name: point for point in entry_points(group=_GROUP)}
    if name not in found:
        raise ConfigError(
            f"there is no method {name!r}", hint=_suggestion(name, [*METHODS, *found])
        )
    try:
        make: Callable[..., Method] = found[name].load()
        inspect.signature(make)
    except Exception as error:  # A plug-in's import can raise whatever it likes.
        raise ConfigError(f"method {name!r} cannot be loaded: {error}") from error
    return make


def _suggestion(word: str, known: Iterable[str]) -> str:
    choices = sorted(known)
    close = difflib.get_close_matches(word, choices, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"choose from {', '.join(choices)}" if choices else ""
