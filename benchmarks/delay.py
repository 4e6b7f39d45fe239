"""What averages that come a round late (``delay = 1``) cost in accuracy.

    python benchmarks/delay.py [--seeds 3] [--minutes 60] [--processes 1]
    python benchmarks/delay.py --table

The default method at a quarter of the width with blocks that stay for some rounds, on
images and on running text, and the small model, which stays for good; beside them the
default itself, whose blocks move every round, so that nothing of it can be late. Seeds
are paired: *cost* is against the same arm with averages in time, *against the default*
says what it takes to have a delay at all. Runs are kept and repeated as those of
``methods.py``, whose tasks and learning rates these are. What a delay brings in time:
``overlap.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from arms import ARMS, TASKS
from delay_arms import PAIRS
from runs import PEERS, Run, collected, compare, paired, scores, spread

COMPARED = ("fashion", "shakespeare")
FRACTION = Fraction(1, 4)
DEFAULT = "blocks-momentum"

HEAD = (
    "| arm | {what} | cost of the delay, paired | against the default, paired | seeds |"
    "\n|---|---|---|---|---|"
)


def shown() -> Iterator[str]:
    """All arms, each after the one that it is compared with."""
    yield DEFAULT
    for late, in_time in PAIRS.items():
        yield from (in_time, late)


def chosen(seeds: int) -> Iterator[Run]:
    """All arms of one seed before the next seed."""
    for seed in range(seeds):
        for task in COMPARED:
            for arm in shown():
                yield Run(task, arm, FRACTION, seed)


def tables() -> Iterator[str]:
    """Markdown of each task."""
    places = collected()
    for name in COMPARED:
        task, arms = TASKS[name], places.get((name, FRACTION, PEERS), {})
        seeds = {int(str(run["seed"])) for late in PAIRS for run in arms.get(late, [])}
        found = {
            arm: {
                seed: score
                for seed, score in scores(task, arms.get(arm, [])).items()
                if seed in seeds
            }
            for arm in shown()
        }
        what = "accuracy, %" if task.higher_is_better else "perplexity"
        lines = [f"{name}:", "", HEAD.format(what=what)]
        for arm, ours in found.items():
            cells = (
                ARMS[arm].title,
                spread(list(ours.values()), places=2),
                spread(paired(ours, found.get(PAIRS.get(arm, ""), {})), "+", 2),
                spread(paired(ours, found[DEFAULT]), "+", 2),
                str(len(ours)),
            )
            lines.append(f"| {' | '.join(cells)} |")
        yield "\n".join(lines)


if __name__ == "__main__":
    compare(__doc__, chosen, tables)
