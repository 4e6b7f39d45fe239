"""Flower, ``start_server``: the task's server.

    python flower_server.py DIRECTORY RANK

Deprecated in favour of SuperLink, but it runs, and its clients stay alive from round to
round: it is the quicker of Flower's two ways.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flwr.common import NDArrays, Scalar, ndarrays_to_parameters
from flwr.server import ServerConfig, start_server
from flwr.server.strategy import FedAvg
from task import Task, read

PORT = 41_000


def main() -> None:
    """Serves all rounds."""
    task = Task(Path(sys.argv[1]), int(sys.argv[2]))
    peers = task.settings.peers

    def looked_at(number: int, values: NDArrays, config: dict[str, Scalar]) -> None:
        # Called with every new model, the first one before round 1.
        if number:
            task.round_done(number, values)
        else:
            task.note("begin")

    strategy = FedAvg(
        fraction_evaluate=0.0,
        min_fit_clients=peers,
        min_available_clients=peers,
        evaluate_fn=looked_at,
        initial_parameters=ndarrays_to_parameters(read(task.module)),
    )
    start_server(
        server_address=f"{task.settings.addresses[task.rank]}:{PORT}",
        config=ServerConfig(num_rounds=task.settings.rounds),
        strategy=strategy,
    )


if __name__ == "__main__":
    main()
