"""Accuracy of every method, against its rivals, the small model and the controls.

    python benchmarks/methods.py [--tasks fashion,cifar] [--fractions 1/4] [--seeds 5]
                                 [--arms small,msfusion] [--minutes 60] [--processes 2]
    python benchmarks/methods.py --table

Every run is one ``p2pfusion sim --train`` process, as a user would type it. Runs are
kept in ``docs/methods.jsonl``, and a run that is there already is not done again: stop
it whenever you like, and go on later. ``--table`` prints what is there as Markdown.

Within a task and a split fraction all arms have the same data, shares, rounds, batch
order and optimiser; what differs is in ``arms.py``. The learning rate is chosen once
for each kind of arm, the whole model, the small one, and those that train splits
(``--tune`` runs what it was chosen from, on seeds that no table uses). Seeds are
paired: seed k has the same shares in every arm. Accuracy (of running text: perplexity)
is the assembled whole model's on held-out data; no peer ever trains more than its split
fraction, but in the arms that say so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Lock

from arms import ARMS, SETS, TASKS, Task

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "methods.jsonl"


@dataclass(frozen=True)
class Run:
    """One process; what it is told is what it is known by."""

    task: str
    arm: str
    fraction: Fraction
    seed: int
    rate: float | None = None
    """Another learning rate than the task's."""

    def words(self) -> list[str]:
        """The command's options."""
        task, arm = TASKS[self.task], ARMS[self.arm]
        width = self.fraction if arm.small else Fraction(1)
        split = self.fraction if arm.method != "fedavg" else Fraction(1)
        kind = "split" if arm.method != "fedavg" else "small" if arm.small else "whole"
        told = {
            "--method": arm.method,
            "--method-arguments": json.dumps(arm.arguments(self.fraction)),
            "--model": task.model,
            "--model-arguments": json.dumps(task.model_arguments(width)),
            "--split-fraction": str(split),
            "--data": task.data,
            "--peers": 8,
            "--seed": self.seed,
            "--eval-every": 5,
            "--learning-rate": self.rate or task.rates[kind] * arm.faster,
            **task.options,
            **arm.options(self.fraction),
        }
        pairs = ([key] if v is None else [key, str(v)] for key, v in told.items())
        return [word for pair in pairs for word in pair]

    def measure(self) -> dict[str, object]:
        """Runs it; ends the benchmark if it fails."""
        command = [sys.executable, str(ROOT / "cli.py"), "--json", "sim", "--train"]
        done = subprocess.run(
            [*command, *self.words()],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if done.returncode:
            sys.exit(f"{self}: {done.stdout}{done.stderr}")
        data = json.loads(done.stdout)["data"]
        kept = {key: data[key] for key in KEPT if key in data}
        return {
            "task": self.task,
            "arm": self.arm,
            "fraction": str(self.fraction),
            "seed": self.seed,
            "words": self.words(),
            **kept,
        }


TUNING_SEEDS = (100, 101)
"""For learning rates; no table has them."""

KEPT = (
    *("accuracy", "perplexity", "loss", "curve", "ever_trained_fraction"),
    *("bytes_per_peer_round", "train_flops_per_peer_round", "peak_activation_bytes"),
    *("full_model_parameters", "seconds"),
)


def known() -> dict[tuple[str, ...], dict[str, object]]:
    """All runs that were ever done, by what they were told."""
    if not RESULTS.exists():
        return {}
    lines = RESULTS.read_text().splitlines()
    return {tuple(found["words"]): found for found in map(json.loads, lines)}


def chosen(options: argparse.Namespace) -> Iterator[Run]:
    """The runs that are asked for, all arms of one seed before the next seed."""
    arms = SETS.get(options.arms, options.arms.replace(",", " ")).split()
    for seed in range(options.seeds):
        for task in options.tasks.split(","):
            for fraction in options.fractions.split(","):
                for arm in arms:
                    yield Run(task, arm, Fraction(fraction), seed)


def tuning(options: argparse.Namespace) -> Iterator[Run]:
    """Each kind of arm at half and twice its learning rate, and at it."""
    for seed in TUNING_SEEDS[: options.seeds]:
        for task in options.tasks.split(","):
            for fraction in options.fractions.split(","):
                for arm, kind in (("small", "small"), ("blocks-1", "split")):
                    for times in (0.5, 1.0, 2.0):
                        rate = times * TASKS[task].rates[kind]
                        yield Run(task, arm, Fraction(fraction), seed, rate)


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


def score(task: Task, run: Mapping[str, object]) -> float:
    """Accuracy in percent, or perplexity."""
    if task.higher_is_better:
        return 100 * float(str(run["accuracy"]))
    return float(str(run["perplexity"]))


def row(task: Task, runs: list[dict[str, object]], floor: Mapping[int, float]) -> str:
    """One arm: mean and deviation, the paired difference to the floor, and costs."""
    scores = {int(str(run["seed"])): score(task, run) for run in runs}
    paired = [scores[seed] - floor[seed] for seed in scores if seed in floor]
    first = runs[0]
    cells = (
        _spread(list(scores.values())),
        _spread(paired, sign="+"),
        str(len(scores)),
        f"{100 * float(str(first['ever_trained_fraction'])):.0f} %",
        f"{float(str(first['bytes_per_peer_round'])) / 1024:.0f} KiB",
        f"{float(str(first['train_flops_per_peer_round'])) / 1e6:,.0f}",
    )
    return " | ".join(cells)


def _spread(values: list[float], sign: str = "") -> str:
    if not values:
        return "-"
    mean = f"{statistics.mean(values):{sign}.1f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.1f}"


HEAD = (
    "| arm | {what} | against the small model, paired | seeds | ever trained "
    "| sent per peer and round | training MFLOPs per peer and round |\n"
    "|---|---|---|---|---|---|---|"
)


def tables() -> Iterator[str]:
    """Markdown of every task and fraction that has runs."""
    runs: dict[tuple[str, str], dict[str, list[dict[str, object]]]] = {}
    for found in known().values():
        run = Run(
            str(found["task"]),
            str(found["arm"]),
            Fraction(str(found["fraction"])),
            int(str(found["seed"])),
        )
        ours = run.task in TASKS and run.arm in ARMS and run.seed not in TUNING_SEEDS
        if ours and run.words() == found["words"]:
            place = runs.setdefault((run.task, str(run.fraction)), defaultdict(list))
            place[run.arm].append(found)
    for (name, fraction), arms in sorted(runs.items()):
        task = TASKS[name]
        small = arms.get("small", [])
        floor = {int(str(run["seed"])): score(task, run) for run in small}
        what = "accuracy, %" if task.higher_is_better else "perplexity"
        lines = [f"{name}, split fraction {fraction}:", "", HEAD.format(what=what)]
        for arm in ARMS:
            if arm in arms:
                lines.append(f"| {ARMS[arm].title} | {row(task, arms[arm], floor)} |")
        yield "\n".join(lines)


def main() -> None:
    """Does what is missing, then prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tune", action="store_true", help="the learning rates")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--json", action="store_true", help="the runs as JSON")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--fractions", default="1/4,1/8,1/2")
    parser.add_argument("--arms", default="main", help="a set, or names with commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=10, help="start none later")
    options = parser.parse_args()
    if not options.table:
        runs = tuning(options) if options.tune else chosen(options)
        do(runs, options.processes, options.minutes)
    if options.json:
        print(json.dumps(list(known().values())))
        return
    print("\n\n".join(tables()))


if __name__ == "__main__":
    main()
