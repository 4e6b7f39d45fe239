"""Flower, ``start_client``: one peer of the task.

python flower_client.py DIRECTORY RANK
"""

from __future__ import annotations

import sys
from pathlib import Path

from flower_server import PORT
from flwr.client import NumPyClient, start_client
from flwr.common import NDArrays, Scalar
from task import Task, read, write


class Trainer(NumPyClient):
    """Trains what it gets, and gives it back."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._round_index = 0

    def fit(
        self, parameters: NDArrays, config: dict[str, Scalar]
    ) -> tuple[NDArrays, int, dict[str, Scalar]]:
        """One round's local steps."""
        module = self._task.module
        write(module, parameters)
        self._task.train(module, self._round_index)
        self._round_index += 1
        return read(module), self._task.record_count, {}


if __name__ == "__main__":
    task = Task(Path(sys.argv[1]), int(sys.argv[2]))
    start_client(
        server_address=f"{task.settings.addresses[-1]}:{PORT}",
        client=Trainer(task).to_client(),
        insecure=True,
    )
