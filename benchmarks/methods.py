"""Accuracy of every method, against its rivals, the small model and the controls.

    python benchmarks/methods.py [--tasks fashion,cifar] [--fractions 1/4] [--seeds 5]
                                 [--arms small,msfusion] [--peers 16] [--minutes 60]
                                 [--processes 2]
    python benchmarks/methods.py --table

Every run is one ``p2pfusion sim --train`` process, as a user would type it. Runs are
kept in ``docs/methods.jsonl``, and a run that is there already is not done again: stop
it whenever you like, and go on later. ``--table`` prints what is there as Markdown.

Within a task and a split fraction all arms have the same data, shares, rounds, batch
order and optimiser; what differs is in ``width_arms.py``. The learning rate is chosen
once for each kind of arm, the whole model, the small one, and those that train splits,
and for an arm of its own where that helps it (``--tune`` runs what it was chosen from,
on seeds that no table uses). Seeds are paired: seed k has the same shares in every arm.
Accuracy (of running text: perplexity) is the assembled whole model's on held-out data;
no peer ever trains more than its split fraction, but in the arms that say so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from arms import ARMS, SETS, TASKS
from contest import Task
from delay_arms import ARMS as DELAY_ARMS
from runs import (
    PEERS,
    TUNING_SEEDS,
    Found,
    Run,
    bytes_per_round,
    collected,
    do,
    known,
    paired,
    scores,
    spread,
)
from wire_arms import ARMS as WIRE_ARMS

ELSEWHERE = {*WIRE_ARMS, *DELAY_ARMS}
"""Arms that other benchmarks have tables of."""

COMPARED = "fashion,cifar,cifar-resnet,shakespeare,sst2"


def chosen(options: argparse.Namespace) -> Iterator[Run]:
    """The runs that are asked for, all arms of one seed before the next seed."""
    arms = SETS.get(options.arms, options.arms.replace(",", " ")).split()
    for seed in range(options.seeds):
        for task in options.tasks.split(","):
            for fraction in options.fractions.split(","):
                for arm in arms:
                    yield Run(task, arm, Fraction(fraction), seed, peers=options.peers)


def tuning(options: argparse.Namespace) -> Iterator[Run]:
    """Each arm at half and twice its learning rate, and at it."""
    for seed in TUNING_SEEDS[: options.seeds]:
        for task in options.tasks.split(","):
            for fraction in options.fractions.split(","):
                for arm in options.arms.split(","):
                    settled = Run(task, arm, Fraction(fraction), seed)
                    for times in (0.5, 1.0, 2.0):
                        yield replace(settled, rate=times * settled.learning_rate)


def row(task: Task, runs: list[Found], floors: list[Mapping[int, float]]) -> str:
    """One arm: mean and deviation, paired differences to the floors, and costs."""
    ours = scores(task, runs)
    first = runs[0]
    cells = (
        spread(list(ours.values())),
        *(spread(paired(ours, floor), sign="+") for floor in floors),
        str(len(ours)),
        f"{100 * float(str(first['ever_trained_fraction'])):.0f} %",
        f"{bytes_per_round(first) / 1024:.0f} KiB",
        f"{float(str(first['train_flops_per_peer_round'])) / 1e6:,.0f}",
    )
    return " | ".join(cells)


HEAD = (
    "| arm | {what} | against the small model, paired | against it with outer momentum "
    "| seeds | ever trained | sent per peer and round "
    "| training MFLOPs per peer and round |\n"
    "|---|---|---|---|---|---|---|---|"
)
FLOORS = ("small", "small-momentum")


def tables() -> Iterator[str]:
    """Markdown of every task and fraction that has runs."""
    for (name, fraction, peers), arms in sorted(collected().items()):
        if name not in COMPARED.split(","):
            continue
        task = TASKS[name]
        floors = [scores(task, arms.get(floor, [])) for floor in FLOORS]
        what = "accuracy, %" if task.higher_is_better else "perplexity"
        size = "" if peers == PEERS else f", {peers} peers"
        title = f"{name}, split fraction {fraction}{size}:"
        lines = [title, "", HEAD.format(what=what)]
        for arm in ARMS:
            if arm in arms and arm not in ELSEWHERE:
                lines.append(f"| {ARMS[arm].title} | {row(task, arms[arm], floors)} |")
        yield "\n".join(lines)


def main() -> None:
    """Does what is missing, then prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tune", action="store_true", help="the learning rates")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--json", action="store_true", help="the runs as JSON")
    parser.add_argument("--tasks", default=COMPARED)
    parser.add_argument("--fractions", default="1/4,1/8,1/2")
    parser.add_argument("--arms", default="main", help="a set, or names with commas")
    parser.add_argument("--peers", type=int, default=PEERS)
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
