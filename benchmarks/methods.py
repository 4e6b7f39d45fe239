"""Accuracy of every method, against its rivals, the small model and the controls.

    python benchmarks/methods.py [--tasks fashion,cifar] [--fractions 1/4] [--seeds 5]
                                 [--arms small,msfusion] [--minutes 60] [--processes 2]
    python benchmarks/methods.py --table

Every run is one ``p2pfusion sim --train`` process, as a user would type it. Runs are
kept in ``docs/methods.jsonl``, and a run that is there already is not done again: stop
it whenever you like, and go on later. ``--table`` prints what is there as Markdown.

Within a task and a split fraction all arms have the same data, shares, rounds, batch
order, optimiser and learning rate; what differs is in ``ARMS``. The learning rate is
the best of three for the *small model* (seed 100, which no table uses), so the choice
is the rival's. Seeds are paired: seed k has the same shares in every arm. Accuracy (of
running text: perplexity) is the assembled whole model's on held-out data; no peer ever
trains more than its split fraction, but in the arms that say so.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "methods.jsonl"

Table = Mapping[str, object]


@dataclass(frozen=True)
class Task:
    """Data, model and training; ``widths`` are the model arguments that are cut."""

    data: str
    model: str
    widths: Mapping[str, int | tuple[int, ...]]
    options: Table
    arguments: Table = field(default_factory=dict)
    higher_is_better: bool = True

    def model_arguments(self, fraction: Fraction) -> dict[str, object]:
        """Of a model that is so wide, of the whole one's width."""

        def cut(width: int | tuple[int, ...]) -> object:
            if isinstance(width, tuple):
                return [int(each * fraction) for each in width]
            return int(width * fraction)

        cuts = {key: cut(width) for key, width in self.widths.items()}
        return {**self.arguments, **cuts}


IMAGES = {"--limit": 4000, "--limit-test": 2000, "--rounds": 40, "--alpha": 0.5}
TASKS = {
    "fashion": Task(
        data="fashion-mnist",
        model="cnn",
        widths={"channels": (32, 32, 32)},
        options={**IMAGES, "--learning-rate": 0.2},
    ),
    "cifar": Task(
        data="cifar10-jpeg",
        model="cnn",
        widths={"channels": (64, 64, 64)},
        options={**IMAGES, "--learning-rate": 0.2},
    ),
    "shakespeare": Task(
        data="tiny-shakespeare",
        model="transformer",
        widths={"width": 128, "inner": 256},
        arguments={"length": 64, "heads": 4, "layers": 2, "group": 8},
        options={
            **{"--vocabulary": '{"level": "character"}', "--learning-rate": 0.5},
            **{"--limit": 4000, "--limit-test": 500, "--rounds": 40},
        },
        higher_is_better=False,
    ),
    "sst2": Task(
        data="sst2",
        model="transformer-classifier",
        widths={"width": 128, "inner": 256},
        arguments={"length": 32, "heads": 4, "layers": 2, "group": 8},
        options={
            **{"--vocabulary": '{"level": "word", "size": 4096}', "--alpha": 0.5},
            **{"--limit": 8000, "--rounds": 40, "--learning-rate": 0.2},
        },
    ),
}


@dataclass(frozen=True)
class Arm:
    """One row of the table. ``width`` of the model: whole, or as small as a split."""

    title: str
    method: str
    small: bool = False
    options: Callable[[Fraction], Table] = lambda fraction: {}
    arguments: Callable[[Fraction], Table] = lambda fraction: {}


def msfusion(title: str, options: Table | None = None, **arguments: object) -> Arm:
    """An arm of msfusion; ``blocks`` follows from the fraction where there are any."""

    def settled(fraction: Fraction) -> Table:
        if arguments.get("shift") == "blocks" or arguments.get("start") == "silent":
            return {**arguments, "blocks": int(1 / fraction)}
        return arguments

    return Arm(title, "msfusion", options=lambda _: options or {}, arguments=settled)


def plainly(title: str, method: str, **options: object) -> Arm:
    """An arm whose options do not depend on the fraction."""
    words = {f"--{key.replace('_', '-')}": value for key, value in options.items()}
    return Arm(title, method, options=lambda _: words)


PAST = {"--logit-adjustment": 0, "--label-mask": None}
"""The objective of the published baselines."""

MOMENTUM = {"--outer-momentum": 0.6, "--learning-rate": 0.1}
"""Outer momentum makes steps 2.5 times as long, so the rate is halved."""

BLOCKS = {"shift": "blocks", "start": "silent"}
ARMS = {
    "whole": plainly("whole model, FedAvg", "fedavg"),
    "whole-few": Arm(
        "whole model, as few peer-updates per entry",
        "fedavg",
        options=lambda f: {"--participants": max(1, round(8 * f * f))},
    ),
    "small": Arm("small model, FedAvg (fedavg-small)", "fedavg", small=True),
    "small-momentum": Arm(
        "small model, outer momentum", "fedavg", small=True, options=lambda _: MOMENTUM
    ),
    "alone": Arm(
        "small model, one peer alone",
        "fedavg",
        small=True,
        options=lambda _: {"--peers": 1, "--shares": 8},
    ),
    "ensemble": Arm(
        "ensemble of small models, each by all peers (1/mu times the cost)",
        "fedavg",
        small=True,
        options=lambda f: {"--ensemble": int(1 / f)},
    ),
    "heterofl": plainly("heterofl", "heterofl"),
    "fedrolex": plainly("fedrolex", "fedrolex"),
    "federated-dropout": plainly("federated-dropout", "federated-dropout"),
    "tied": msfusion("msfusion, tied windows (published idea)", shift="tied"),
    "blocks-1": msfusion("msfusion, silent blocks, dwell 1", **BLOCKS, dwell=1),
    "blocks-4": msfusion("msfusion, silent blocks, dwell 4", **BLOCKS, dwell=4),
    "blocks-8": msfusion("msfusion, silent blocks, dwell 8", **BLOCKS, dwell=8),
    "blocks-0": msfusion("msfusion, silent blocks that stay", **BLOCKS, dwell=0),
    "blocks-momentum": msfusion(
        "msfusion, silent blocks, dwell 4, outer momentum", MOMENTUM, **BLOCKS, dwell=4
    ),
    "blocks-dense": msfusion(
        "msfusion, blocks, dense start, dwell 4", shift="blocks", dwell=4
    ),
    "tied-silent": msfusion("msfusion, tied windows, silent start", start="silent"),
    "tied-4": msfusion("msfusion, tied windows, dwell 4", shift="tied", dwell=4),
    "skewed": msfusion("msfusion, skewed windows", shift="skewed"),
    "tied-forward": msfusion(
        "msfusion, tied windows, whole forward pass (whole cost)",
        {"--full-forward": None},
    ),
    "small-plain": Arm(
        "small model, no logit adjustment",
        "fedavg",
        small=True,
        options=lambda _: {"--logit-adjustment": 0},
    ),
    "small-mask": Arm(
        "small model, label mask", "fedavg", small=True, options=lambda _: PAST
    ),
    "blocks-plain": msfusion(
        "msfusion, silent blocks, dwell 4, no logit adjustment",
        {"--logit-adjustment": 0},
        **BLOCKS,
        dwell=4,
    ),
    "blocks-mask": msfusion(
        "msfusion, silent blocks, dwell 4, label mask", PAST, **BLOCKS, dwell=4
    ),
    "tied-mask": msfusion("msfusion, tied windows, label mask", PAST),
    "heterofl-mask": Arm("heterofl, label mask", "heterofl", options=lambda _: PAST),
}

SETS = {
    "main": "whole whole-few small small-momentum alone ensemble heterofl fedrolex "
    "federated-dropout tied blocks-1 blocks-4",
    "ablations": "blocks-0 blocks-8 blocks-momentum blocks-dense tied-silent tied-4 "
    "skewed tied-forward small-plain small-mask blocks-plain blocks-mask tied-mask "
    "heterofl-mask",
}


@dataclass(frozen=True)
class Run:
    """One process; what it is told is what it is known by."""

    task: str
    arm: str
    fraction: Fraction
    seed: int

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
            "--peers": 8,
            "--seed": self.seed,
            "--eval-every": 5,
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
        print(f"{run.task} {run.fraction} {run.arm} seed {run.seed}: {told}")

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
        if run.task in TASKS and run.arm in ARMS and run.words() == found["words"]:
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
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--json", action="store_true", help="the runs as JSON")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--fractions", default="1/4,1/8,1/2")
    parser.add_argument("--arms", default="main", help="a set, or names with commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e6, help="start none later")
    options = parser.parse_args()
    if not options.table:
        do(chosen(options), options.processes, options.minutes)
    if options.json:
        print(json.dumps(list(known().values())))
        return
    print("\n\n".join(tables()))


if __name__ == "__main__":
    main()
