"""Claim: a peer's trainer needs memory in proportion to its split fraction.

Runs the real trainer process (``p2pfusion.training``), each time a fresh one,
for one round of the CNN at split fractions 1, 0.5 and 0.25, and takes its peak resident
memory from the kernel (``ru_maxrss``). What bare torch needs, importing it and adding
two numbers, is subtracted. This program never imports torch itself: a child's peak
counts from its parent's size on.

    python benchmarks/memory.py [--json] [--channels 256] [--batch 512]

The ratios to fraction 1 must be at most 0.65 and 0.45; otherwise it exits with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.store.store import Store

FRACTIONS = ("1", "0.5", "0.25")
BOUNDS = {"0.5": 0.65, "0.25": 0.45}
IMAGES, SIDE, STEPS, SEED = 1024, 28, 3, 0

Fields = dict[str, object]
Measured = tuple[float, int]
"""Peak memory in MiB, and parameters of the sub-model."""


def main() -> int:
    """Measures, prints, and says by its exit code whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--channels", type=int, default=256, help="width of each layer")
    parser.add_argument("--batch", type=int, default=512, help="examples per step")
    options = parser.parse_args()
    bare_mib = bare_torch_mib()
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "noise.npz"
        write_noise(data)
        measured = {
            fraction: trainer_peak(
                fraction, data, channels=options.channels, batch=options.batch
            )
            for fraction in FRACTIONS
        }
    above = {fraction: peak - bare_mib for fraction, (peak, _) in measured.items()}
    ratios = {fraction: round(above[fraction] / above["1"], 4) for fraction in BOUNDS}
    passed = all(ratios[fraction] <= bound for fraction, bound in BOUNDS.items())
    if options.json:
        print(json.dumps(document(options, bare_mib, measured, ratios, passed)))
    else:
        print_table(bare_mib, measured, above)
    return 0 if passed else 1


def document(
    options: argparse.Namespace,
    bare_mib: float,
    measured: dict[str, Measured],
    ratios: dict[str, float],
    passed: bool,
) -> Fields:
    """The JSON document."""
    return {
        "benchmark": "memory",
        "model": "cnn",
        "channels": [options.channels] * 3,
        "batch": options.batch,
        "image": [1, SIDE, SIDE],
        "bare_torch_mib": round(bare_mib, 1),
        "peak_mib": {
            fraction: round(peak, 1) for fraction, (peak, _) in measured.items()
        },
        "parameters": {fraction: size for fraction, (_, size) in measured.items()},
        "ratios": ratios,
        "bounds": BOUNDS,
        "passed": passed,
        "machine": {"python": platform.python_version(), "cpu_count": os.cpu_count()},
    }


def print_table(
    bare_mib: float, measured: dict[str, Measured], above: dict[str, float]
) -> None:
    """The same for people."""
    print(f"bare torch: {bare_mib:.1f} MiB")
    print("fraction  parameters  peak MiB  above bare  ratio  at most")
    for fraction, (peak_mib, size) in measured.items():
        print(
            f"{fraction:>8}  {size:>10}  {peak_mib:8.1f}  {above[fraction]:10.1f}  "
            f"{above[fraction] / above['1']:5.3f}  {BOUNDS.get(fraction, 1.0):7.2f}"
        )


def bare_torch_mib() -> float:
    """Peak memory of a process that imports torch and does next to nothing."""
    program = "import torch; torch.set_num_threads(1); torch.ones(2) + 1"
    process = subprocess.Popen([sys.executable, "-c", program])
    return reaped_mib(process)


def reaped_mib(process: subprocess.Popen[bytes]) -> float:
    """Waits for the process; its peak resident memory."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"a measured process ended with {process.returncode}")
    # Linux counts kibibytes, macOS bytes.
    return usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def write_noise(path: Path) -> None:
    """A small file of random images: memory does not depend on what they show."""
    random = np.random.default_rng(SEED)
    images = random.integers(0, 256, (IMAGES, SIDE, SIDE), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(IMAGES) % 10)


def trainer_peak(fraction: str, data: Path, *, channels: int, batch: int) -> Measured:
    """Peak memory of a trainer that trains one round at this split fraction."""
    arguments: Fields = {"channels": [channels] * 3}
    with trainer() as (process, channel):
        described = ask(
            channel, {"do": "describe", "model": "cnn", "arguments": arguments}
        )
        layout = Layout.from_data(described["layout"])
        split = Split.of(
            {
                a.name: IndexSet.span(0, int(a.size * Fraction(fraction)))
                for a in layout.axes
            }
        )
        home = data.parent / f"home-{fraction}"
        (home / "offers").mkdir(parents=True)
        Store.create(home / "store", layout, SEED)
        ask(channel, setup_request(arguments, layout, data, home, batch))
        request = {"do": "train", "round": 0, "learning_rate": 0.01}
        ask(channel, {**request, "split": split.to_data()})
        channel.close()
        return reaped_mib(process), split.size(layout)


def setup_request(
    arguments: Fields, layout: Layout, data: Path, home: Path, batch: int
) -> Fields:
    """What a daemon would send."""
    return {
        "do": "setup",
        "model": "cnn",
        "arguments": arguments,
        "layout": layout.to_data(),
        "seed": SEED,
        "objective": {"label_mask": False},
        "optimiser": {"momentum": 0.9, "weight_decay": 0.0, "clip": 1.0},
        "outer_momentum": 0.0,
        "augment": "none",
        "batch": batch,
        "local_epochs": 1,
        "local_steps": STEPS,
        "data": {"kind": "npz", "path": str(data), "partition": None, "validation": 0},
        "store": str(home / "store"),
        "offers": str(home / "offers"),
        "accumulation": 1,
        "precision": "float32",
        "device": "cpu",
        "processes": 1,
        "threads": 1,
    }


@contextmanager
def trainer() -> Iterator[tuple[subprocess.Popen[bytes], BinaryIO]]:
    """A fresh trainer process and our end of its channel."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "p2pfusion.training", str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    theirs.close()
    channel = ours.makefile("rwb")
    ours.close()
    try:
        yield process, channel  # type: ignore[misc]
    finally:
        channel.close()
        if process.returncode is None:
            process.wait()


def ask(channel: BinaryIO, request: Fields) -> Fields:
    """Sends one request and returns its last line; a failure ends the program."""
    channel.write(json.dumps(request).encode() + b"\n")
    channel.flush()
    for line in channel:
        reply: Fields = json.loads(line)
        if "failed" in reply:
            raise SystemExit(f"the trainer failed: {reply['error']}")
        if "done" in reply:
            return reply
    raise SystemExit("the trainer ended without an answer")


if __name__ == "__main__":
    raise SystemExit(main())
