"""Co-S2P, arm by arm: peers of different strength and speed train one deep model.

    python benchmarks/masked.py [--seeds 3] [--minutes 60] [--processes 2]
    python benchmarks/masked.py --table

Eight peers with split fractions of 1, 1/2 and 1/4, of which some are up to four times
as slow, on 4,000 images of Fashion-MNIST. The model begins as one peer with a
twentieth of the data has trained it, which is done first for each seed. What an arm
leaves out or changes is in its title. Rounds that close early are short, so their arms
have more of them; what counts is accuracy at equal *virtual time* (``clock.py``): when
the first arm of a seed has ended, and at a third of that. Runs are kept with those of
``methods.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction

from arms import ARMS, SETS, TASKS
from runs import (
    Found,
    Run,
    asked,
    collected,
    do,
    known,
    paired,
    spread,
    train_once,
)

TASK, PEERS, WHOLE = "unequal", 8, Fraction(1)
FLOOR = "masked-all"
EARLY = 1 / 3

HEAD = (
    "| arm | accuracy at equal virtual time, % | against co-s2p that waits, paired "
    "| at a third of that time, % | at the end, % | seeds | rounds in that time | busy "
    "| too late | sent per peer and round |\n|---|---|---|---|---|---|---|---|---|---|"
)


def chosen(seeds: int) -> Iterator[Run]:
    """All arms of one seed before the next seed."""
    for seed in range(seeds):
        for arm in SETS["masked"].split():
            yield Run(TASK, arm, WHOLE, seed)


def warm(seed: int) -> None:
    """Makes the model that a seed's runs begin with, if it is not there."""
    run, task = Run(TASK, FLOOR, WHOLE, seed), TASKS[TASK]
    told = {
        **{"--method": "fedavg", "--split-fraction": "1", "--partition": "iid"},
        **{"--model": task.model, "--model-arguments": json.dumps(task.arguments)},
        **{"--data": task.data, "--limit": 4000, "--limit-test": 2000},
        **{"--objective": "exits", "--optimiser": "adamw", "--learning-rate": 0.001},
        **{"--peers": 1, "--shares": 20, "--rounds": 10, "--eval-every": 10},
        "--seed": seed,
    }
    train_once(run.pretrained, told)


def at(found: Found, time_s: float) -> tuple[float, int]:
    """Accuracy in percent and number of rounds, at a virtual time."""
    curve = found["curve"]
    assert isinstance(curve, list)
    until = [point for point in curve if point["virtual_seconds"] <= time_s * 1.001]
    point = until[-1] if until else curve[0]
    return 100 * point["accuracy"], point["round"]


def table() -> Iterator[str]:
    """Markdown, line by line, as far as there are runs."""
    arms = collected().get((TASK, WHOLE, PEERS), {})
    times = {
        int(str(floor["seed"])): min(
            float(str(run["virtual_seconds"]))
            for runs in arms.values()
            for run in runs
            if run["seed"] == floor["seed"]
        )
        for floor in arms.get(FLOOR, [])
    }
    scores: dict[str, dict[int, float]] = {}
    early: dict[str, dict[int, float]] = {}
    for arm, runs in arms.items():
        seeds = {int(str(run["seed"])): run for run in runs}
        common = {seed: run for seed, run in seeds.items() if seed in times}
        scores[arm] = {seed: at(run, times[seed])[0] for seed, run in common.items()}
        early[arm] = {
            seed: at(run, EARLY * times[seed])[0] for seed, run in common.items()
        }
    if times:
        yield HEAD
    for arm in SETS["masked"].split():
        if not scores.get(arm):
            continue
        first = next(run for run in arms[arm] if int(str(run["seed"])) in times)
        cells = (
            *(ARMS[arm].title, spread(list(scores[arm].values()))),
            spread(paired(scores[arm], scores[FLOOR]), sign="+"),
            spread(list(early[arm].values())),
            spread([100 * float(str(run["accuracy"])) for run in arms[arm]]),
            str(len(scores[arm])),
            str(at(first, times[int(str(first["seed"]))])[1]),
            f"{100 * float(str(first['utilisation'])):.0f} %",
            str(first["updates_too_late"]),
            f"{float(str(first['bytes_per_peer_round'])) / 1024:.0f} KiB",
        )
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Does what is missing, then prints the table."""
    options = asked(__doc__)
    if not options.table:
        missing = [
            run for run in chosen(options.seeds) if tuple(run.words()) not in known()
        ]
        for seed in sorted({run.seed for run in missing}):
            warm(seed)
        do(missing, options.processes, options.minutes)
    print("\n".join(table()))


if __name__ == "__main__":
    main()
