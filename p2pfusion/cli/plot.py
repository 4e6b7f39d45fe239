"""The picture of ``split show``: windows over axes and rounds, a colour per peer.

matplotlib is an optional extra, imported here alone and only when a plot is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfusion.cli.splits import Splits, Swarm
from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Colour = tuple[float, float, float, float]

MAX_ROUNDS = 40
"""Rows of the picture: more cannot be told apart."""

MAX_AXES = 12
MAX_LEGEND_PEERS = 16
DISTINCT_COLOURS = 10
"""With more peers, two have shades of one colour."""


def plot_windows(swarm: Swarm, path: Path) -> None:
    """Writes the picture; ``ConfigError`` where matplotlib is not installed."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError(
            "--plot needs matplotlib, which is not installed",
            hint="install it with: pip install 'p2pfusion[plot]'",
        ) from None
    axes = swarm.context.layout.widths[:MAX_AXES]
    rounds = min(swarm.context.rounds, MAX_ROUNDS)
    splits = [swarm.splits(round_index) for round_index in range(rounds)]
    figure = Figure(figsize=(max(4, 2.6 * len(axes)), 2 + 0.2 * rounds))
    panels = figure.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    distinct = len(swarm.names) <= DISTINCT_COLOURS
    palette = matplotlib.colormaps["tab10" if distinct else "tab20"]
    colours = [palette(index) for index in range(palette.N)]
    for panel, axis in zip(panels, axes, strict=True):
        _draw(panel, axis, splits, colours)
    panels[0].set_ylabel("round")
    panels[0].set_ylim(rounds, 0)
    panels[0].yaxis.get_major_locator().set_params(integer=True)
    if len(swarm.names) <= MAX_LEGEND_PEERS:
        handles, labels = panels[0].get_legend_handles_labels()
        names = [swarm.names.get(label, label) for label in labels]
        figure.legend(handles, names, loc="outside lower center", ncols=8)
    figure.set_layout_engine("constrained")
    figure.savefig(path)


def _draw(
    panel: Axes, axis: Axis, splits: list[Splits], colours: Sequence[Colour]
) -> None:
    """One axis: a row per round, in it a lane per peer."""
    for round_index, held in enumerate(splits):
        lane = 0.9 / len(held)
        for rank, (peer, split) in enumerate(held.items()):
            panel.broken_barh(
                [(start, stop - start) for start, stop in split[axis.name].ranges],
                (round_index + 0.05 + rank * lane, lane),
                color=colours[rank % len(colours)],
                label=peer if round_index == 0 else None,
            )
    panel.set_xlim(0, axis.size)
    panel.set_xlabel(f"{axis.name} ({axis.size})")
