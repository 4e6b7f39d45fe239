"""Where torch computes, how precisely, and on how many threads."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch

from p2pfusion.errors import ConfigError

PRECISIONS = ("float32", "bfloat16")
"""What products are computed in. Parameters, gradients and losses are float32."""


def find_device(name: str) -> torch.device:
    """The torch device of that name; ``ConfigError`` if this machine lacks it."""
    hint = 'use "cpu"; "cuda" or "mps" on a machine with a supported graphics card'
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name!r} is unknown", hint=hint) from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"device {name!r} is not supported", hint=hint)
    is_there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not is_there[device.type]:
        raise ConfigError(f"device {name!r} is not available here", hint=hint)
    return device


def computing_in(
    precision: str, device: torch.device
) -> AbstractContextManager[object]:
    """While this lasts, products are computed in that precision."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def use_one_thread() -> None:
    """Computes on one thread: runs side by side then disturb each other least."""
    torch.set_num_threads(1)
