"""Trainings that are done once and remembered: ``docs/methods.jsonl``.

Every run is one ``p2pfusion sim --train`` process, as a user would type it. What it is
told is what it is known by, so a run that is there already is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Lock

from arms import ARMS, TASKS
from contest import Task

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "methods.jsonl"
PEERS = 8
PRETRAINED = "{pretrained}"
"""In an option, stands for the checkpoint of the run's seed."""

TUNING_SEEDS = (100, 101)
"""For learning rates; no table has them."""

Found = dict[str, object]
"""The result of a run: what it was, what it was told, and what is kept of it."""

LORA = ROOT / "benchmarks" / "lora"
"""A model from outside the package, which processes find on their path."""

Place = tuple[str, Fraction, int]
"""Task, split fraction and peers: what is compared."""


def environment() -> dict[str, str]:
    """Of every process: one thread, and the benchmarks' own model."""
    path = os.pathsep.join([str(LORA), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def simulated(words: list[str]) -> Found:
    """What ``sim --train`` gives with these options; ends the benchmark if it fails."""
    command = [sys.executable, str(ROOT / "cli.py"), "--json", "sim", "--train", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment()
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    data: Found = json.loads(done.stdout)["data"]
    return data


@dataclass(frozen=True)
class Run:
    """One process; what it is told is what it is known by."""

    task: str
    arm: str
    fraction: Fraction
    seed: int
    rate: float | None = None
    """Another learning rate than the task's."""
    peers: int = PEERS

    def words(self) -> list[str]:
        """The command's options."""
        task, arm = TASKS[self.task], ARMS[self.arm]
        width = self.fraction if arm.small else Fraction(1)
        split = self.fraction if arm.method != "fedavg" else Fraction(1)
        told = {
            "--method": arm.method,
            "--method-arguments": json.dumps(arm.arguments(self.fraction)),
            "--model": task.model,
            "--model-arguments": json.dumps(task.model_arguments(width)),
            "--split-fraction": str(split),
            "--data": task.data,
            "--peers": self.peers,
            "--seed": self.seed,
            "--eval-every": 5,
            "--learning-rate": self.rate or self.learning_rate,
            **task.options,
            **arm.options(self.fraction),
        }
        pairs = ([key] if v is None else [key, str(v)] for key, v in told.items())
        words = [word for pair in pairs for word in pair]
        return [self.pretrained if word == PRETRAINED else word for word in words]

    @property
    def pretrained(self) -> str:
        """The checkpoint of this seed, for tasks that begin with one, from the
        repository's root."""
        return f"build/{self.task}-{self.seed}.safetensors"

    @property
    def learning_rate(self) -> float:
        """The task's: the arm's own, or that of its kind."""
        arm, rates = ARMS[self.arm], TASKS[self.task].rates
        if self.arm in rates:
            return rates[self.arm]
        kind = "split" if arm.method != "fedavg" else "small" if arm.small else "whole"
        return rates[kind]

    def measure(self) -> dict[str, object]:
        """Runs it; ends the benchmark if it fails."""
        data = simulated(self.words())
        kept = {key: data[key] for key in KEPT if key in data}
        return {
            "task": self.task,
            "arm": self.arm,
            "fraction": str(self.fraction),
            "seed": self.seed,
            "peers": self.peers,
            "words": self.words(),
            **kept,
        }

    @classmethod
    def of(cls, found: Found) -> Run | None:
        """The run whose result this is; None if its task or arm is another by now."""
        task, arm = str(found["task"]), str(found["arm"])
        if task not in TASKS or arm not in ARMS:
            return None
        run = cls(
            task,
            arm,
            Fraction(str(found["fraction"])),
            int(str(found["seed"])),
            peers=int(str(found.get("peers", PEERS))),
        )
        return run if run.words() == found["words"] else None


KEPT = (
    *("accuracy", "perplexity", "loss", "curve", "ever_trained_fraction"),
    *("bytes_per_peer_round", "train_flops_per_peer_round", "peak_activation_bytes"),
    *("full_model_parameters", "seconds"),
    *("virtual_seconds", "utilisation", "updates_too_late"),
    *("random_encoder_accuracy", "one_view_flops_per_peer_round"),
)


def train_once(checkpoint: str, told: Mapping[str, object]) -> None:
    """Makes a checkpoint, by its path from the repository's root, with these options of
    the command, unless it is there."""
    path = ROOT / checkpoint
    if path.exists():
        return
    path.parent.mkdir(exist_ok=True)
    words = [str(word) for pair in {**told, "--save": path}.items() for word in pair]
    command = [sys.executable, str(ROOT / "cli.py"), "sim", "--train", *words]
    subprocess.run(command, check=True, cwd=ROOT, env=environment())


def known(path: Path = RESULTS) -> dict[tuple[str, ...], Found]:
    """All runs that a file has kept, by what they were told."""
    if not path.exists():
        return {}
    lines = path.read_text().splitlines()
    return {tuple(found["words"]): found for found in map(json.loads, lines)}


def collected() -> dict[Place, dict[str, list[Found]]]:
    """All runs of today's tasks and arms, those for learning rates left out."""
    places: dict[Place, dict[str, list[Found]]] = {}
    for found in known().values():
        run = Run.of(found)
        if run is not None and run.seed not in TUNING_SEEDS:
            place = places.setdefault((run.task, run.fraction, run.peers), {})
            place.setdefault(run.arm, []).append(found)
    return places


def asked(doc: str | None) -> argparse.Namespace:
    """What most benchmarks that train are told on the command line."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=10, help="start none later")
    return parser.parse_args()


def do(runs: Iterable[Run], processes: int, minutes: float) -> None:
    """What is missing, until the time is over."""
    done, end, lock = known(), time.monotonic() + 60 * minutes, Lock()

    def one(run: Run) -> None:
        if time.monotonic() > end:
            return
        found = run.measure()
        with lock, RESULTS.open("a") as file:
            file.write(json.dumps(found) + "\n")
        told = f"{found['accuracy']:.3f} {found.get('perplexity', '')}"
        rate = f" at rate {run.rate:g}" if run.rate else ""
        print(f"{run.task} {run.fraction} {run.arm}{rate} seed {run.seed}: {told}")

    missing = {tuple(run.words()): run for run in runs}
    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(one, [run for key, run in missing.items() if key not in done]))


def compare(
    doc: str | None,
    chosen: Callable[[int], Iterable[Run]],
    tables: Callable[[], Iterable[str]],
) -> None:
    """A whole benchmark: does what is missing of what is chosen for so many seeds, then
    prints the tables."""
    options = asked(doc)
    if not options.table:
        do(chosen(options.seeds), options.processes, options.minutes)
    print("\n\n".join(tables()))


def score(task: Task, run: Found) -> float:
    """Accuracy in percent, or perplexity."""
    if task.higher_is_better:
        return 100 * float(str(run["accuracy"]))
    return float(str(run["perplexity"]))


def points(run: Found) -> list[Found]:
    """All that was measured of the run, in the order of rounds."""
    curve = run["curve"]
    assert isinstance(curve, list)
    return curve


def bytes_per_round(run: Found) -> float:
    """What one peer sent in a round, on average."""
    return float(str(run["bytes_per_peer_round"]))


def scores(task: Task, runs: Iterable[Found]) -> dict[int, float]:
    """Of each seed."""
    return {int(str(run["seed"])): score(task, run) for run in runs}


def paired(ours: Mapping[int, float], floor: Mapping[int, float]) -> list[float]:
    """The differences to the floor, seed by seed."""
    return [ours[seed] - floor[seed] for seed in ours if seed in floor]


def spread(values: Sequence[float], sign: str = "", places: int = 1) -> str:
    """Mean and deviation."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):{sign}.{places}f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(values):.{places}f}"
