"""hivemind: the task, with an averaging of parameters after every round.

    python hivemind_peer.py DIRECTORY RANK

The group of a round is found while the peer trains, as ``hivemind.Optimizer`` does it;
``Optimizer`` itself has no fixed number of local steps between two averagings.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from hivemind_average import PATIENCE_S, averager, join
from task import Task, read, write


def main() -> None:
    """All rounds."""
    task = Task(Path(sys.argv[1]), int(sys.argv[2]))
    shared = [torch.from_numpy(value) for value in read(task.module)]
    made = averager(task, shared, join(task))
    task.note("begin")
    for number in range(task.settings.rounds):
        control = made.step(
            weight=float(task.record_count),
            wait=False,
            require_trigger=True,
            timeout=PATIENCE_S,
        )
        task.train(task.module, number)
        with made.get_tensors() as tensors:
            for tensor, value in zip(tensors, task.module.parameters(), strict=True):
                tensor.copy_(value.detach())
        control.allow_allreduce()
        found = control.result()
        assert len(found) == task.settings.peers, "somebody is missing"
        with made.get_tensors() as tensors:
            values = [tensor.numpy().copy() for tensor in tensors]
        write(task.module, values)
        task.round_done(number + 1, values)
    task.meet("done")


if __name__ == "__main__":
    main()
