"""The peers' side: one round's local steps."""

from __future__ import annotations

from pathlib import Path

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from task import Task, read, write

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Trains what it gets, and gives it back."""
    directory = Path(str(context.run_config["directory"]))
    task = Task(directory, int(str(context.node_config["rank"])))
    number = int(str(message.content["config"]["server-round"]))
    write(task.module, message.content["arrays"].to_numpy_ndarrays())
    loss = task.train(task.module, number - 1)
    metrics = {"loss": loss, "num-examples": task.record_count}
    content = RecordDict(
        {
            "arrays": ArrayRecord(read(task.module)),
            "metrics": MetricRecord(metrics),
        }
    )
    return Message(content=content, reply_to=message)
