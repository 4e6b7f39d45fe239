"""The task as every rival does it: the same data, model, first values and steps.

Runs in each rival's own environment, so it knows numpy and torch alone. Whatever is to
be known about a run is noted in files of its directory, with the machine's clock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

LOOK_S = 0.002


@dataclass(frozen=True)
class Settings:
    """What one run is: ``task.json`` of its directory."""

    peers: int
    rounds: int
    epochs: int
    batch: int
    rate: float
    momentum: float
    keep_every: int
    """Values are kept after so many rounds, to be looked at later; 0: never."""
    widths: tuple[int, ...]
    """Of the perceptron: inputs, hidden layers, classes."""
    addresses: tuple[str, ...]
    """Of the machines by rank; the last one is for a server, where there is one."""
    system: dict[str, float]
    """Settings of the system that is measured."""


class Task:
    """One peer's part in a run."""

    def __init__(self, directory: Path, rank: int) -> None:
        data = json.loads((directory / "task.json").read_text())
        data["widths"], data["addresses"] = map(
            tuple, (data["widths"], data["addresses"])
        )
        self.settings = Settings(**data)
        self.directory = directory
        self.rank = rank
        torch.set_num_threads(1)

    @cached_property
    def records(self) -> tuple[Tensor, Tensor]:
        """This peer's images (N, inputs), and labels (N)."""
        with np.load(self.directory / f"share-{self.rank}.npz") as found:
            images = torch.from_numpy(found["images"]).flatten(1)
            return images, torch.from_numpy(found["labels"])

    @property
    def record_count(self) -> int:
        """How many they are."""
        return len(self.records[1])

    @cached_property
    def module(self) -> nn.Sequential:
        """The perceptron, with the values that all begin with."""
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(self.settings.widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        module = nn.Sequential(*layers[:-1])
        with np.load(self.directory / "initial.npz") as found:
            write(module, [found[f"v{n}"] for n in range(len(found.files))])
        return module

    def train(self, module: nn.Module, round_index: int) -> float:
        """One round of local steps in place; the last loss.

        The optimiser begins afresh; the order of batches is drawn by round and rank.
        """
        settings, (images, labels) = self.settings, self.records
        optimiser = torch.optim.SGD(
            module.parameters(), settings.rate, momentum=settings.momentum
        )
        order = torch.Generator().manual_seed(1_000 * round_index + self.rank)
        loss = torch.zeros(())
        for _ in range(settings.epochs):
            shuffled = torch.randperm(len(labels), generator=order)
            for batch in shuffled.split(settings.batch):
                loss = nn.functional.cross_entropy(module(images[batch]), labels[batch])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return float(loss.detach())

    def note(self, event: str, **details: object) -> None:
        """Remembers that something has happened just now."""
        line = json.dumps({"event": event, "at": time.time(), **details})
        with open(self.directory / f"notes-{self.rank}.jsonl", "a") as file:
            file.write(line + "\n")

    def round_done(self, number: int, values: Sequence[np.ndarray]) -> None:
        """So many rounds are done, and these are the model's values now."""
        self.note("round", number=number)
        every = self.settings.keep_every
        if self.rank in (0, self.settings.peers) and every and number % every == 0:
            named = {f"v{n}": value for n, value in enumerate(values)}
            np.savez(self.directory / f"kept-{number:04}.npz", **named)

    def tell(self, name: str, text: str) -> None:
        """Leaves a word for the others."""
        half = self.directory / f"{name}.half"
        half.write_text(text)
        half.rename(self.directory / name)

    def hear(self, name: str) -> str:
        """Waits for such a word."""
        path = self.directory / name
        while not path.exists():
            time.sleep(LOOK_S)
        return path.read_text()

    def meet(self, name: str) -> None:
        """Waits until every peer is here."""
        self.tell(f"{name}-{self.rank}", "")
        for rank in range(self.settings.peers):
            self.hear(f"{name}-{rank}")


def read(module: nn.Module) -> list[np.ndarray]:
    """Copies of the values, layer by layer: weight, then bias."""
    return [each.detach().numpy().copy() for each in module.parameters()]


def write(module: nn.Module, values: Sequence[np.ndarray]) -> None:
    """Replaces the values."""
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), values, strict=True):
            parameter.copy_(torch.from_numpy(np.array(value)))
