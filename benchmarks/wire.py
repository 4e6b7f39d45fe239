"""What each wire type saves, and what it costs in accuracy.

    python benchmarks/wire.py [--seeds 3] [--minutes 60] [--processes 1]
    python benchmarks/wire.py --table

The default method at a quarter of the width, on images and on running text; arms differ
in ``--wire-dtype`` alone. Seeds are paired with those of float32. Runs are kept and
repeated as those of ``methods.py``, whose tasks and learning rates these are.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from arms import TASKS
from runs import PEERS, Run, collected, compare, paired, scores, spread
from wire_arms import ARMS as OTHERS
from wire_arms import EXACT

COMPARED = ("fashion", "shakespeare")
FRACTION = Fraction(1, 4)

HEAD = (
    "| wire type | {what} | against float32, paired | seeds | sent per peer and round "
    "| of float32 |\n|---|---|---|---|---|---|"
)


def chosen(seeds: int) -> Iterator[Run]:
    """All arms of one seed before the next seed."""
    for seed in range(seeds):
        for task in COMPARED:
            for arm in (EXACT, *OTHERS):
                yield Run(task, arm, FRACTION, seed)


def tables() -> Iterator[str]:
    """Markdown of each task."""
    places = collected()
    for name in COMPARED:
        task, arms = TASKS[name], places.get((name, FRACTION, PEERS), {})
        if EXACT not in arms:
            continue
        exact = scores(task, arms[EXACT])
        full = float(str(arms[EXACT][0]["bytes_per_peer_round"]))
        what = "accuracy, %" if task.higher_is_better else "perplexity"
        lines = [f"{name}:", "", HEAD.format(what=what)]
        for arm in (EXACT, *OTHERS):
            found = scores(task, arms.get(arm, []))
            if not found:
                continue
            sent = float(str(arms[arm][0]["bytes_per_peer_round"]))
            cells = (
                arm.removeprefix("wire-") if arm in OTHERS else "float32",
                spread(list(found.values()), places=2),
                spread(paired(found, exact), sign="+", places=2),
                str(len(found)),
                f"{sent / 1024:.1f} KiB",
                f"{sent / full:.2f}",
            )
            lines.append(f"| {' | '.join(cells)} |")
        yield "\n".join(lines)


if __name__ == "__main__":
    compare(__doc__, chosen, tables)
