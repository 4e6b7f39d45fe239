"""The server's side: FedAvg over all peers."""

from __future__ import annotations

from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from task import Task, read

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """All rounds."""
    directory = Path(str(context.run_config["directory"]))
    task = Task(directory, 0)
    task.rank = peers = task.settings.peers

    def looked_at(number: int, arrays: ArrayRecord) -> MetricRecord:
        # Called with every new model, the first one before round 1.
        if number:
            task.round_done(number, arrays.to_numpy_ndarrays())
        else:
            task.note("begin")
        return MetricRecord()

    strategy = FedAvg(
        fraction_evaluate=0.0, min_train_nodes=peers, min_available_nodes=peers
    )
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(read(task.module)),
        num_rounds=task.settings.rounds,
        evaluate_fn=looked_at,
    )
    task.tell("over", "")
