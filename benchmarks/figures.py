"""Curves of the runs in ``docs/methods.jsonl``, as pictures in ``docs/figures/``.

    python benchmarks/figures.py

One picture for each task and split fraction: rounds against accuracy (perplexity, of
running text), the mean of all seeds, and from the lowest to the highest of them as a
shade. Needs matplotlib, the extra ``plot``.
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
from runs import PEERS, ROOT, Found, collected, score

FIGURES = ROOT / "docs" / "figures"
SHOWN = (
    "whole",
    "small",
    "heterofl",
    "fedrolex",
    "federated-dropout",
    "tied",
    "blocks-1",
)
"""Few enough to tell apart. Each has its colour in every picture."""


def draw(panel: Axes, task: Task, arms: dict[str, list[Found]]) -> None:
    """The curves of one task and split fraction."""
    for number, arm in enumerate(SHOWN):
        if arm not in arms:
            continue
        by_round: dict[int, list[float]] = {}
        for found in arms[arm]:
            curve = found["curve"]
            assert isinstance(curve, list)
            for point in curve:
                by_round.setdefault(point["round"], []).append(score(task, point))
        rounds = sorted(by_round)
        means = [statistics.mean(by_round[each]) for each in rounds]
        title = f"{ARMS[arm].title} ({len(arms[arm])})"
        panel.plot(rounds, means, color=f"C{number}", label=title)
        panel.fill_between(
            rounds,
            [min(by_round[each]) for each in rounds],
            [max(by_round[each]) for each in rounds],
            color=f"C{number}",
            alpha=0.15,
            linewidth=0,
        )


def save(name: str, fraction: Fraction, arms: dict[str, list[Found]]) -> Path:
    """Writes one picture."""
    task = TASKS[name]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    panel = figure.subplots()
    draw(panel, task, arms)
    panel.set_xlabel("round")
    panel.set_ylabel("accuracy, %" if task.higher_is_better else "perplexity")
    if not task.higher_is_better:
        panel.set_yscale("log")
    panel.set_title(f"{name}, split fraction {fraction}, {PEERS} peers (seeds)")
    panel.legend(fontsize="small")
    path = FIGURES / f"{name}-{fraction.numerator}-{fraction.denominator}.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


def main() -> None:
    """Draws all that there is."""
    # The same runs give the same file, to the byte.
    matplotlib.rcParams["svg.hashsalt"] = "p2pfusion"
    FIGURES.mkdir(exist_ok=True)
    for (name, fraction, peers), arms in sorted(collected().items()):
        if peers == PEERS and "blocks-1" in arms and "small" in arms:
            print(save(name, fraction, arms).relative_to(ROOT))


if __name__ == "__main__":
    main()
