"""Where torch computes, and on how many threads."""

from __future__ import annotations

import torch

from p2pfusion.errors import ConfigError


def find_device(name: str) -> torch.device:
    """The torch device of that name; ``ConfigError`` if this machine lacks it."""
    hint = 'use "cpu", or "cuda" on a machine with a supported graphics card'
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name!r} is unknown", hint=hint) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} is not available here", hint=hint)
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r} is not supported", hint=hint)
    return device


def use_one_thread() -> None:
    """Computes on one thread: runs side by side then disturb each other least."""
    torch.set_num_threads(1)
