"""Machines that train one model together, each a part that it can hold.

The public names load on first use: ``import p2pfusion`` costs no numpy, and torch is
imported by ``Layout.trace`` alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pfusion.api import Peer, simulate
    from p2pfusion.daemon.client import LocalClient as connect
    from p2pfusion.daemon.config import load_profile
    from p2pfusion.protocol.manifest import Manifest
    from p2pfusion.split.layout import Layout
    from p2pfusion.split.plan import plan_round as plan
    from p2pfusion.split.segment import Segment, Split

__version__ = "0.1.0"

__all__ = [
    "Layout",
    "Manifest",
    "Peer",
    "Segment",
    "Split",
    "__version__",
    "connect",
    "load_profile",
    "plan",
    "simulate",
]

_HOMES = {
    "Layout": ("p2pfusion.split.layout", "Layout"),
    "Manifest": ("p2pfusion.protocol.manifest", "Manifest"),
    "Peer": ("p2pfusion.api", "Peer"),
    "Segment": ("p2pfusion.split.segment", "Segment"),
    "Split": ("p2pfusion.split.segment", "Split"),
    "connect": ("p2pfusion.daemon.client", "LocalClient"),
    "load_profile": ("p2pfusion.daemon.config", "load_profile"),
    "plan": ("p2pfusion.split.plan", "plan_round"),
    "simulate": ("p2pfusion.api", "simulate"),
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(importlib.import_module(module), attribute)
    if name == "Layout":
        # A layout is data and knows no torch; that one can be traced is said here.
        value.trace = staticmethod(_trace)
    globals()[name] = value
    return value


def _trace(module: object, example: object) -> Layout:
    """The layout of an ``nn.Module`` for records like the tensor ``example``, (B, ...);
    ``ConfigError`` says in one line why it has none."""
    tracing = importlib.import_module("p2pfusion.training.tracing")
    found: Layout = tracing.trace(module, example).layout
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
