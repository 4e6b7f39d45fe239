"""Claim: a step on a sub-model costs what a small dense network costs.

Trains steps (forward, loss, backward, descent) of a ResNet18 and of two transformers on
random data: the whole model, sub-models at split fractions 0.5 and 0.25, and networks
of the sub-models' widths written by hand with torch's own layers and the same norms;
the transformers also with LayerNorm instead, which is cheaper, but cannot be cut. One
thread; all are interleaved in one process. Times are medians of processor time, ratios
medians over the steps that followed each other.

    python benchmarks/models.py [--json] [--repeats 9] [--model resnet18]

A sub-model's step must be at least 2.5 (0.5) and 6 (0.25) times faster than the whole
model's, but for the transformer of many tokens, and take at most 1.1 times as long as
the one written by hand; otherwise it exits with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pfusion.training.descent import Descent, Optimiser
from p2pfusion.training.models import MODELS, settle

FRACTIONS = ("0.5", "0.25")
FASTER = {"0.5": 2.5, "0.25": 6.0}
WORDY = "transformer, 8192 tokens"
"""Not held to FASTER: of its head no row is ever cut, and a softmax over 8,192 tokens
costs a sub-model what it costs the whole."""

LARGE = {
    "vocabulary": 2048,
    "classes": 2048,
    "length": 128,
    "width": 512,
    "heads": 8,
    "layers": 6,
    "inner": 2048,
    "group": 32,
}
AT_MOST = 1.1
BY_HAND = "by hand"
RATE, SEED = 0.01, 0


@dataclass(frozen=True)
class Task:
    """A model with arguments, random data for it, and the same model by hand."""

    model: str
    arguments: Mapping[str, object]
    inputs: Tensor
    labels: Tensor
    by_hand: Mapping[str, Callable[[Fraction], nn.Module]]
    """Builders of networks, by what they are called."""

    def cut(self, fraction: Fraction) -> nn.Module:
        """The sub-model of so much of every axis."""
        model = MODELS[self.model]
        axes = model.layout(self.arguments).axes
        sizes = {axis.name: int(axis.size * fraction) for axis in axes}
        return model.build(self.arguments, sizes)


# --- The same models, by hand --------------------------------------------------------


class PlainBlock(nn.Module):
    """A pre-activation block."""

    def __init__(self, inputs: int, outputs: int, group: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.norm1 = nn.GroupNorm(inputs // group, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.GroupNorm(outputs // group, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        if stride > 1:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.opens = stride > 1

    def forward(self, stream: Tensor) -> Tensor:
        """The stream behind it."""
        values = torch.relu_(self.norm1(stream))
        added: Tensor = self.conv2(torch.relu_(self.norm2(self.conv1(values))))
        return added + (self.shortcut(values) if self.opens else stream)


def plain_resnet(fraction: Fraction, group: int = 4) -> nn.Module:
    """A ResNet18 of so much of the usual width."""
    first, *others = (int(64 * 2**stage * fraction) for stage in range(4))
    blocks = [PlainBlock(first, first, group) for _ in range(2)]
    before = first
    for width in others:
        blocks += [PlainBlock(before, width, group), PlainBlock(width, width, group)]
        before = width
    return nn.Sequential(
        nn.Conv2d(3, first, 3, padding=1, bias=False),
        *blocks,
        nn.GroupNorm(before // group, before),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(before, 10),
    )


class GroupedLayerNorm(nn.Module):
    """Normalises groups of a token's channels."""

    def __init__(self, width: int, group: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.group = group

    def forward(self, stream: Tensor) -> Tensor:
        """The same, normalised."""
        groups = stream.unflatten(-1, (-1, self.group))
        normal = functional.layer_norm(groups, (self.group,)).flatten(-2)
        return normal * self.weight + self.bias


def plain_norm(width: int, group: int | None) -> nn.Module:
    """A norm over groups, or over all channels."""
    return nn.LayerNorm(width) if group is None else GroupedLayerNorm(width, group)


class PlainLayer(nn.Module):
    """A causal pre-norm layer."""

    def __init__(self, width: int, inner: int, heads: int, group: int | None) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = plain_norm(width, group), plain_norm(width, group)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, stream: Tensor) -> Tensor:
        """The stream behind it."""
        parts = self.qkv(self.norm1(stream)).chunk(3, -1)
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts
        )
        found = functional.scaled_dot_product_attention(
            queries, keys, values, is_causal=True
        )
        stream = stream + self.out(found.transpose(1, 2).flatten(2))
        values = functional.gelu(self.up(self.norm2(stream)))
        behind: Tensor = stream + self.down(values)
        return behind


class PlainTransformer(nn.Module):
    """A language model with a tied head."""

    def __init__(
        self, settled: Mapping[str, int], fraction: Fraction, group: int | None
    ) -> None:
        super().__init__()
        width, inner = (int(settled[key] * fraction) for key in ("width", "inner"))
        self.table = nn.Embedding(settled["vocabulary"], width)
        self.places = nn.Embedding(settled["length"], width)
        self.layers = nn.Sequential(
            *(
                PlainLayer(width, inner, settled["heads"], group)
                for _ in range(settled["layers"])
            )
        )
        self.norm = plain_norm(width, group)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits."""
        stream = self.layers(self.table(tokens) + self.places.weight)
        return functional.linear(self.norm(stream), self.table.weight)


# --- Measuring -----------------------------------------------------------------------


def tasks() -> dict[str, Task]:
    """What is measured, by its name."""
    random = torch.Generator().manual_seed(SEED)
    images = torch.randn(16, 3, 32, 32, generator=random)
    labels = torch.randint(10, (16,), generator=random)
    return {
        "resnet18": Task("resnet18", {}, images, labels, {BY_HAND: plain_resnet}),
        "transformer": language(LARGE, batch=4, random=random),
        WORDY: language({}, batch=16, random=random),
    }


def language(
    arguments: Mapping[str, object], *, batch: int, random: torch.Generator
) -> Task:
    """A transformer with these arguments, and random tokens."""
    settled = settle(MODELS["transformer"], arguments)
    counts = {key: value for key, value in settled.items() if isinstance(value, int)}
    tokens = torch.randint(
        counts["vocabulary"], (batch, counts["length"] + 1), generator=random
    )
    return Task(
        "transformer",
        arguments,
        tokens[:, :-1],
        tokens[:, 1:].flatten(),
        {
            BY_HAND: lambda part: PlainTransformer(counts, part, counts["group"]),
            "LayerNorm": lambda part: PlainTransformer(counts, part, None),
        },
    )


def stepper(module: nn.Module, task: Task) -> Callable[[], float]:
    """What does one training step and returns its processor time."""
    descent = Descent(list(module.parameters()), Optimiser())

    def step() -> float:
        start_s = time.process_time()
        logits = module(task.inputs).flatten(0, -2)
        functional.cross_entropy(logits, task.labels).backward()
        descent.step(RATE)
        return time.process_time() - start_s

    return step


def measure(task: Task, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every step, by arm; each arm's turn comes in each repeat."""
    arms = {"whole": task.cut(Fraction(1))}
    for fraction in FRACTIONS:
        arms[fraction] = task.cut(Fraction(fraction))
        for name, build in task.by_hand.items():
            arms[f"{fraction} {name}"] = build(Fraction(fraction))
    steps = {name: stepper(module, task) for name, module in arms.items()}
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            times[name].append(1e3 * step())
    return times


def ratios(times: Mapping[str, list[float]]) -> dict[str, float]:
    """Per fraction: how much faster than the whole, and how long beside by hand."""
    found = {}
    for fraction in FRACTIONS:
        found[f"whole / {fraction}"] = ratio(times["whole"], times[fraction])
        for name in times:
            if name.startswith(f"{fraction} "):
                found[f"{fraction} / {name}"] = ratio(times[fraction], times[name])
    return found


def ratio(above: list[float], below: list[float]) -> float:
    """The median over the repeats."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def passes(name: str, found: Mapping[str, float]) -> bool:
    """Whether all bounds of a task hold."""
    return all(
        (name == WORDY or found[f"whole / {fraction}"] >= FASTER[fraction])
        and found[f"{fraction} / {fraction} {BY_HAND}"] <= AT_MOST
        for fraction in FRACTIONS
    )


def main() -> int:
    """Measures, prints, and says by its exit code whether the bounds hold."""
    chosen = tasks()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--model", choices=tuple(chosen), help="only this one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [options.model] if options.model else list(chosen)
    times = {name: measure(chosen[name], options.repeats) for name in names}
    medians = {
        name: {arm: statistics.median(found) for arm, found in times[name].items()}
        for name in names
    }
    found = {name: ratios(times[name]) for name in names}
    passed = all(passes(name, found[name]) for name in names)
    if options.json:
        machine = {"python": platform.python_version(), "cpu_count": os.cpu_count()}
        document = {
            "benchmark": "models",
            "median_ms": medians,
            "ratios": found,
            "bounds": {"faster": FASTER, "by_hand": AT_MOST},
            "passed": passed,
            "machine": {**machine, "torch": torch.__version__},
        }
        print(json.dumps(document, indent=1))
        return 0 if passed else 1
    for name in names:
        for arm, median_ms in medians[name].items():
            print(f"{name:26} {arm:24} {median_ms:9.1f} ms")
        for what, value in found[name].items():
            print(f"{name:26} {what:24} {value:9.2f}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
