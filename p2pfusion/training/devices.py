"""Where torch computes, how precisely, and on how many threads."""

from __future__ import annotations

import contextlib
import gc
from contextlib import AbstractContextManager

import torch

from p2pfusion.errors import ConfigError, DeviceError
from p2pfusion.training.heap import resident_bytes

PRECISIONS = ("float32", "bfloat16")
"""What products are computed in. Parameters, gradients and losses are float32."""


def find_device(name: str) -> torch.device:
    """The torch device of that name; ``DeviceError`` if this machine lacks it."""
    hint = 'use "cpu"; "cuda" or "mps" on a machine with a supported graphics card'
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"device {name!r} is unknown", hint=hint) from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"device {name!r} is not supported", hint=hint)
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if (device.index or 0) >= counts[device.type]:
        raise DeviceError(f"device {name!r} is not available here", hint=hint)
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def check_precision(precision: str, device: torch.device) -> None:
    """``ConfigError`` if the device cannot compute in it."""
    try:
        with computing_in(precision, device):
            pass
    except RuntimeError as error:
        raise ConfigError(
            f"device {str(device)!r} cannot compute in {precision}: {error}",
            hint='leave out precision, or set it to "float32"',
        ) from None


def find_devices(name: str, processes: int) -> list[torch.device]:
    """Of each of several processes that train together: all on the processor, or each
    on a graphics card of its own, from the named one on."""
    first = find_device(name)
    if processes == 1 or first.type == "cpu":
        return [first] * processes
    cards = torch.cuda.device_count() if first.type == "cuda" else 1
    numbers = [(first.index or 0) + number for number in range(processes)]
    if numbers[-1] >= cards:
        raise DeviceError(
            f"device {name!r} with {processes} processes needs {numbers[-1] + 1} of "
            f"them, and there are {cards} here",
            hint="set processes in [peer] to the number of cards that are to train",
        )
    return [torch.device(first.type, number) for number in numbers]


def has_own_memory(device: torch.device) -> bool:
    """Whether it has memory beside the machine's, as a graphics card that is no part of
    the processor."""
    if device.type != "cuda":
        return False
    return not torch.cuda.get_device_properties(device).is_integrated


def taken_bytes(device: torch.device) -> int:
    """What this process has taken already of the memory that the device computes in,
    when all that it can give back is given back. Of a card: what torch's libraries hold
    there; CUDA's own part is not known to it."""
    if not has_own_memory(device):
        return resident_bytes()
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved(device)


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
