"""p2pfl: the task, one node per process, over gRPC.

    python p2pfl_peer.py DIRECTORY RANK

Everybody is connected to everybody and trains in every round. Settings are those of
``set_standalone_settings``, which p2pfl's examples use on one machine, and the run may
say otherwise for the two waits that a round consists of.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
from p2pfl.settings import Settings
from task import LOOK_S, Task
from torch import Tensor, nn

Settings.general.DISABLE_RAY = True  # before anything looks for it
Settings.ssl.USE_SSL = False

# A torch for processors alone lacks what torchvision describes when it is imported.
OPERATORS = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor")

import lightning  # noqa: E402
from datasets import Dataset, DatasetDict  # noqa: E402
from p2pfl.learning.dataset.p2pfl_dataset import P2PFLDataset  # noqa: E402
from p2pfl.learning.frameworks.pytorch.lightning_learner import (  # noqa: E402
    LightningLearner,
)
from p2pfl.learning.frameworks.pytorch.lightning_model import (  # noqa: E402
    LightningModel,
)
from p2pfl.node import Node  # noqa: E402
from p2pfl.utils.utils import set_standalone_settings, wait_convergence  # noqa: E402

PORT = 41_000
JOIN_S = 60.0


class Perceptron(lightning.LightningModule):
    """The task's network as Lightning trains it."""

    def __init__(self, module: nn.Module, rate: float, momentum: float) -> None:
        super().__init__()
        self.module = module
        self._rate, self._momentum = rate, momentum

    def training_step(self, batch: dict[str, Tensor], number: int) -> Tensor:
        """The loss of one batch."""
        logits = self.module(batch["image"].float())
        return nn.functional.cross_entropy(logits, batch["label"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Afresh in every round."""
        return torch.optim.SGD(self.parameters(), self._rate, momentum=self._momentum)


class Learner(LightningLearner):
    """Lightning's, but that it takes note where it would evaluate: p2pfl does that
    when a round begins, and once more at the end."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._task = task
        self._rounds_done = 0

    def evaluate(self) -> dict[str, float]:
        """No metrics, at no cost."""
        if self._rounds_done:
            values = self.get_model().get_parameters()
            self._task.round_done(self._rounds_done, values)
        else:
            self._task.note("begin")
        self._rounds_done += 1
        return {}


def data(task: Task) -> P2PFLDataset:
    """This peer's records; the part for tests is never looked at."""
    images, labels = task.records
    table = {"image": images.numpy(), "label": labels.numpy()}
    whole = Dataset.from_dict(table)
    split = DatasetDict({"train": whole, "test": whole.select([0])})
    return P2PFLDataset(split, batch_size=task.settings.batch)


def main() -> None:
    """All rounds, which rank 0 starts."""
    task = Task(Path(sys.argv[1]), int(sys.argv[2]))
    settings = task.settings
    set_standalone_settings()
    for key, value in settings.system.items():
        setattr(Settings.gossip, key, value)
    module = Perceptron(task.module, settings.rate, settings.momentum)
    node = Node(
        LightningModel(module),
        data(task),
        addr=f"{settings.addresses[task.rank]}:{PORT}",
        learner=Learner(task),
    )
    node.start()
    task.meet("listening")
    for rank in range(task.rank):
        node.connect(f"{settings.addresses[rank]}:{PORT}")
    wait_convergence([node], settings.peers - 1, wait=JOIN_S)
    task.meet("connected")
    if task.rank == 0:
        node.set_start_learning(
            rounds=settings.rounds,
            epochs=settings.epochs,
            trainset_size=settings.peers,
        )
    while not node.learning_workflow.finished:
        time.sleep(LOOK_S)
    task.meet("done")
    # Its threads would look for the others for a while.
    os._exit(0)


if __name__ == "__main__":
    main()
