"""One sub-model in several processes, each of which computes a part of every batch.

A peer with several graphics cards has a process for each (``siblings.py`` starts them).
All of them hold the whole sub-model, read the same values, draw the same batches, and
take the same steps: torch's ``DistributedDataParallel`` averages their gradients while
they are computed. What comes of a round is that of one process with the same batches,
but for the rounding of sums, and for statistics of batches, which are of the parts.

Values travel by NCCL between cards and by gloo between processes on the processor;
numbers that the processes have to agree on go by gloo in any case. Everything stays on
this machine, on its loopback interface.
"""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from p2pfusion.training.objectives import Objective


@dataclass(frozen=True)
class Part:
    """Which records of a batch of ``of`` a process computes with."""

    start: int
    stop: int
    of: int
    counts: bool = True
    """Whether they are its own: where there are fewer records than processes, one that
    has none computes the first, for nothing, because all take part in every step."""


class Loss(Protocol):
    """An objective's loss of a module, (B, ...) inputs and targets in, a scalar out."""

    def __call__(self, inputs: Tensor, targets: Tensor, *, is_last: bool) -> Tensor:
        """``is_last``: whether a step is taken after this one's gradients."""
        ...


class Team(Protocol):
    """The processes that train together, as one of them sees them."""

    @property
    def rank(self) -> int:
        """Which of them this one is; the first one gives away what is trained."""
        ...

    @property
    def count(self) -> int:
        """How many there are; gradients are their mean."""
        ...

    def part(self, count: int) -> Part:
        """What this one has of a batch of so many records."""
        ...

    def loss_of(self, module: nn.Module, objective: Objective) -> Loss:
        """The loss of a round's module, whose gradients are everybody's."""
        ...

    def total(self, value: float) -> float:
        """The sum of what all of them say."""
        ...

    def average(self, values: Iterable[Tensor]) -> None:
        """Makes these the mean of everybody's, in place."""
        ...


class Alone:
    """One process is all there is."""

    rank, count = 0, 1

    def part(self, count: int) -> Part:
        """All of it."""
        return Part(0, count, count)

    def loss_of(self, module: nn.Module, objective: Objective) -> Loss:
        """The objective's."""

        def loss(inputs: Tensor, targets: Tensor, *, is_last: bool) -> Tensor:
            return objective.loss(module, inputs, targets)

        return loss

    def total(self, value: float) -> float:
        """What this one says."""
        return value

    def average(self, values: Iterable[Tensor]) -> None:
        """They are the mean already."""


class Replica:
    """One of several processes; made by ``join``."""

    def __init__(self, rank: int, count: int, device: torch.device) -> None:
        self.rank, self.count = rank, count
        self._device = device

    def part(self, count: int) -> Part:
        """As many as the others have, or one more."""
        start, stop = (count * n // self.count for n in (self.rank, self.rank + 1))
        if start == stop:
            return Part(0, 1, count, counts=False)
        return Part(start, stop, count)

    def loss_of(self, module: nn.Module, objective: Objective) -> Loss:
        """The objective's, of this process' records; its gradients are the mean of
        everybody's after the last part of a batch."""
        shared = self.wrapped(_Loss(module, objective))

        def loss(inputs: Tensor, targets: Tensor, *, is_last: bool) -> Tensor:
            with nullcontext() if is_last else shared.no_sync():
                found: Tensor = shared(inputs, targets)
            return found

        return loss

    def wrapped(self, module: nn.Module) -> DistributedDataParallel:
        """The module, with gradients that are the mean of everybody's."""
        constants = [name for name, _ in module.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(
            module, constants
        )
        return DistributedDataParallel(
            module,
            device_ids=[self._device] if self._device.type == "cuda" else None,
            # A projection that no loss looks at, an exit that is not asked.
            find_unused_parameters=True,
        )

    def total(self, value: float) -> float:
        """The sum of what all of them say; the same at each, to the bit."""
        found = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(found)
        return found.item()

    def average(self, values: Iterable[Tensor]) -> None:
        """Makes these the mean of everybody's, in place."""
        for each in values:
            distributed.all_reduce(each.detach().div_(self.count))


ALONE = Alone()


class _Loss(nn.Module):
    """A loss as a module's output: that is what torch averages gradients of."""

    def __init__(self, module: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.module = module
        self._objective = objective

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The objective's loss of the module."""
        return self._objective.loss(self.module, inputs, targets)


def join(rank: int, devices: Sequence[torch.device], meeting: Path) -> Replica:
    """Becomes one of as many processes as there are devices, once all of them are
    there. ``meeting``: a file that is not there yet, by which they find each other."""
    device = devices[rank]
    # Whoever connects is not asked who it is: nobody but this machine shall.
    for library in ("GLOO", "NCCL"):
        os.environ[f"{library}_SOCKET_IFNAME"] = _loopback()
    on_card = device.type == "cuda"
    if on_card:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if on_card else "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=len(devices),
    )
    # Convolutions of one channel: their strides differ, and mean the same.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    replica = Replica(rank, len(devices), device)
    # Torch loads its compiler for the first one: now, when nobody waits for a round,
    # and before anybody asks how much memory is taken.
    replica.wrapped(nn.Linear(1, 1, device=device))
    return replica


def part_ways() -> None:
    """Undoes ``join``."""
    distributed.destroy_process_group()


def _loopback() -> str:
    """The name of the loopback interface: lo, or lo0."""
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if name.startswith("lo")), names[0])
