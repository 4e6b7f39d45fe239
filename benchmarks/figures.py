"""Curves of the runs in ``docs/methods.jsonl``, as pictures in ``docs/figures/``.

    python benchmarks/figures.py

One picture for each task and split fraction: accuracy (perplexity, of running text)
over rounds and over the bytes that one peer has sent, the mean of all seeds, and from
the lowest to the highest of them as a shade. Needs matplotlib, the extra ``plot``.
"""

from __future__ import annotations

import statistics
from fractions import Fraction
from pathlib import Path

import matplotlib
from arms import ARMS, TASKS
from contest import Task
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from runs import PEERS, ROOT, Found, bytes_per_round, collected, points, score

FIGURES = ROOT / "docs" / "figures"
SHOWN = (
    "whole",
    "small-momentum",
    "heterofl",
    "fedrolex",
    "federated-dropout",
    "tied",
    "blocks-momentum",
)
"""Few enough to tell apart. Each has its colour in every picture."""


def draw(rounds: Axes, sent: Axes, task: Task, arms: dict[str, list[Found]]) -> None:
    """The curves of one task and split fraction."""
    for number, arm in enumerate(SHOWN):
        if arm not in arms:
            continue
        by_round: dict[int, list[float]] = {}
        for found in arms[arm]:
            for point in points(found):
                by_round.setdefault(int(str(point["round"])), []).append(
                    score(task, point)
                )
        at = sorted(by_round)
        means = [statistics.mean(by_round[each]) for each in at]
        lowest = [min(by_round[each]) for each in at]
        highest = [max(by_round[each]) for each in at]
        mib = statistics.mean(bytes_per_round(found) for found in arms[arm]) / 2**20
        title = f"{ARMS[arm].title} ({len(arms[arm])})"
        for panel, scale in ((rounds, 1.0), (sent, mib)):
            where = [scale * each for each in at]
            panel.plot(where, means, color=f"C{number}", label=title)
            panel.fill_between(
                where, lowest, highest, color=f"C{number}", alpha=0.15, linewidth=0
            )


def save(name: str, fraction: Fraction, arms: dict[str, list[Found]]) -> Path:
    """Writes one picture."""
    task = TASKS[name]
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    rounds, sent = figure.subplots(1, 2, sharey=True)
    draw(rounds, sent, task, arms)
    rounds.set_xlabel("round")
    sent.set_xlabel("sent by one peer, MiB")
    sent.set_xscale("log")
    rounds.set_ylabel("accuracy, %" if task.higher_is_better else "perplexity")
    if not task.higher_is_better:
        rounds.set_yscale("log")
    figure.suptitle(f"{name}, split fraction {fraction}, {PEERS} peers (seeds)")
    labels = rounds.get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower center", ncols=2, fontsize="small")
    path = FIGURES / f"{name}-{fraction.numerator}-{fraction.denominator}.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


def main() -> None:
    """Draws all that there is."""
    # The same runs give the same file, to the byte.
    matplotlib.rcParams["svg.hashsalt"] = "p2pfusion"
    FIGURES.mkdir(exist_ok=True)
    for (name, fraction, peers), arms in sorted(collected().items()):
        if peers == PEERS and "heterofl" in arms and "blocks-momentum" in arms:
            print(save(name, fraction, arms).relative_to(ROOT))


if __name__ == "__main__":
    main()
