"""What it costs that a crash never mixes two rounds in the store.

    python benchmarks/sealing.py [--json] [--mib 64] [--rounds 6]

One round's values, half of every width of a model of square matrices, are written in
pieces as they arrive and then made durable. Compared on the same disk: the store, with
its journal; and the same values written in place and synced, where a crash in between
leaves a mixture. The first round makes the files; the others are counted, by median.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store.rectangles import cut, put
from p2pfusion.store.store import Store

LAYERS, PIECES, SEED = 4, 8, 0


def main() -> None:
    """Prints a table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--mib", type=int, default=64, help="size of the sub-model")
    parser.add_argument("--rounds", type=int, default=6, help="one is not counted")
    options = parser.parse_args()
    layout = model(options.mib)
    with tempfile.TemporaryDirectory(dir=".") as directory:
        store = Store.create(Path(directory) / "store", layout, SEED)
        journal = measure(
            layout, options.rounds, lambda *round_: with_journal(store, *round_)
        )
        plain = Path(directory) / "plain"
        plain.mkdir()
        for index, parameter in enumerate(layout.parameters):
            (plain / str(index)).touch()
            os.truncate(plain / str(index), parameter.size * 4)
        in_place = measure(
            layout,
            options.rounds,
            lambda *round_: written_in_place(layout, plain, *round_),
        )
    rows = {"with the journal": journal, "in place, may mix": in_place}
    if options.json:
        ratio = sum(journal) / sum(in_place)
        seconds = {
            name: dict(zip(STEPS, row, strict=True)) for name, row in rows.items()
        }
        print(json.dumps({"mib": options.mib, "seconds": seconds, "ratio": ratio}))
        return
    print(f"{options.mib} MiB a round {'arriving':>15} {'sealing':>9} {'MiB/s':>7}")
    for name, (arriving_s, sealing_s) in rows.items():
        speed = options.mib / (arriving_s + sealing_s)
        arriving, sealing = arriving_s * 1e3, sealing_s * 1e3
        print(f"{name:18} {arriving:9.0f} ms {sealing:6.0f} ms {speed:7.0f}")


STEPS = ("arriving", "sealing")


def model(mib: int) -> Layout:
    """Square matrices of which half of every width is so large."""
    width = int((mib * 2**20 / 4 / LAYERS * 4) ** 0.5) // 64 * 64
    axes = tuple(Axis(f"a{i}", width) for i in range(LAYERS + 1))
    return Layout(
        axes,
        tuple(
            ParameterSpec(
                f"w{i}",
                (Dimension(width, f"a{i + 1}"), Dimension(width, f"a{i}")),
                Initial("uniform", 0.1),
            )
            for i in range(LAYERS)
        ),
    )


Round = Callable[[int, list[tuple[list[Segment], np.ndarray]]], tuple[float, float]]


def measure(layout: Layout, rounds: int, work: Round) -> tuple[float, float]:
    """Median seconds of arriving and of sealing."""
    found = []
    for number in range(rounds):
        sets = {
            a.name: IndexSet.cyclic(number * a.size // 4, a.size // 2, a.size)
            for a in layout.axes
        }
        segments = list(Split.of(sets).segments(layout))
        pieces = [pieces_of(segment, number) for segment in segments]
        found.append(work(number, [piece for some in pieces for piece in some]))
    arriving, sealing = zip(*found[1:], strict=True)
    return statistics.median(arriving), statistics.median(sealing)


def pieces_of(segment: Segment, number: int) -> list[tuple[list[Segment], np.ndarray]]:
    """A segment as it arrives: some rows at a time."""
    rows = list(segment.sets[0])
    found = []
    for some in np.array_split(rows, PIECES // 2):
        part = Segment(
            segment.parameter, (IndexSet.from_indices(some.tolist()), segment.sets[1])
        )
        found.append(([part], np.full(part.size, number + 1, np.float32)))
    return found


def with_journal(
    store: Store, number: int, pieces: list[tuple[list[Segment], np.ndarray]]
) -> tuple[float, float]:
    """One round as the daemon does it."""
    begun = time.perf_counter()
    for segments, values in pieces:
        store.write_flat(segments, values)
    store.set_version([s for segments, _ in pieces for s in segments], number + 1)
    arrived = time.perf_counter()
    store.flush()
    return arrived - begun, time.perf_counter() - arrived


def written_in_place(
    layout: Layout,
    directory: Path,
    number: int,
    pieces: list[tuple[list[Segment], np.ndarray]],
) -> tuple[float, float]:
    """The same values straight into the files, which are synced at the end."""
    begun = time.perf_counter()
    for segments, values in pieces:
        for parameter, parts in cut(segments, values).items():
            file = os.open(directory / str(parameter), os.O_RDWR)
            put(file, 0, layout.parameters[parameter].shape, parts)
            os.close(file)
    arrived = time.perf_counter()
    for path in directory.iterdir():
        file = os.open(path, os.O_RDWR)
        os.fsync(file)
        os.close(file)
    return arrived - begun, time.perf_counter() - arrived


if __name__ == "__main__":
    main()
