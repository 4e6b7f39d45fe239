"""hivemind: how long four peers take to average an array of float32.

    python hivemind_average.py DIRECTORY RANK

Every peer has a DHT node and a ``DecentralizedAverager``, as hivemind's documentation
shows them; libp2p encrypts with TLS 1.3 by default. Steps of two kinds take turns:
*step* is ``averager.step()`` whole; for *all-reduce* the group is found in advance, as
``hivemind.Optimizer`` does it, and only what follows ``allow_allreduce`` is timed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import hivemind
import torch
from hivemind.averaging import DecentralizedAverager
from hivemind.averaging.control import AveragingStage, StepControl
from task import LOOK_S, Task

PORT = 41_000
PATIENCE_S = 60.0


def join(task: Task) -> hivemind.DHT:
    """A node of the DHT; all others know that of rank 0."""
    place = f"/ip4/{task.settings.addresses[task.rank]}/tcp/{PORT}"
    known = [task.hear("first")] if task.rank else None
    dht = hivemind.DHT(initial_peers=known, host_maddrs=[place], start=True)
    if task.rank == 0:
        task.tell("first", str(dht.get_visible_maddrs()[0]))
    task.meet("joined")
    return dht


def averager(
    task: Task, tensors: list[torch.Tensor], dht: hivemind.DHT
) -> DecentralizedAverager:
    """As documented; the group is complete, and begins, with the last peer."""
    system = task.settings.system
    made = DecentralizedAverager(
        tensors,
        dht,
        prefix="rivals",
        target_group_size=task.settings.peers,
        min_group_size=task.settings.peers,
        min_matchmaking_time=system["matchmaking_s"],
        request_timeout=system["request_timeout_s"],
        start=True,
    )
    task.meet("ready")
    return made


def grouped(control: StepControl) -> None:
    """Waits until the group is complete."""
    while control.stage != AveragingStage.AWAITING_TRIGGER:
        assert not control.done(), control.exception()
        time.sleep(LOOK_S)


def main() -> None:
    """All repetitions."""
    task = Task(Path(sys.argv[1]), int(sys.argv[2]))
    values = torch.zeros(int(task.settings.system["elements"]))
    made = averager(task, [values], join(task))
    for number in range(task.settings.rounds):
        ahead = number % 2 == 1
        with made.get_tensors() as tensors:
            tensors[0][:] = torch.arange(len(values)) % 97 + task.rank
        if ahead:
            control = made.step(wait=False, require_trigger=True, timeout=PATIENCE_S)
            grouped(control)
        task.meet(f"step-{number}")
        task.note("begin", number=number, kind="all-reduce" if ahead else "step")
        if ahead:
            control.allow_allreduce()
            assert control.result() is not None
        else:
            assert made.step(timeout=PATIENCE_S) is not None
        task.note("end", number=number)
        wanted = torch.arange(len(values)) % 97 + (task.settings.peers - 1) / 2
        with made.get_tensors() as tensors:
            assert torch.allclose(tensors[0], wanted), "that is not the mean"
        task.meet(f"checked-{number}")


if __name__ == "__main__":
    main()
