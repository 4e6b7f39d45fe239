"""How fast a reducer fuses, as a share of copying the same bytes in the same run.

    python benchmarks/fusion.py [--json] [--mib 64] [--repeats 5]

Contributions arrive in chunks of 1 MiB. ``add`` sums decoded values, ``decode`` checks
received bytes and turns them into values, as much at a time as a daemon does, in a
scratch that is used again; ``close`` makes the sums the mean. All are measured in bytes
of float32 values, whatever the form; the best repeat counts. The ranges are one, or as
many and as uneven as those of a plan, of which a holder sends every other run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pfusion.daemon.arriving import PIECE_BYTES
from p2pfusion.fusion.average import StreamingMean
from p2pfusion.fusion.codec import decode, encode
from p2pfusion.limits import CHUNK_BYTES
from p2pfusion.split.forms import FLOAT32, FORMS

SEED = 0
CHUNK_ELEMENTS = CHUNK_BYTES // 4
RANGES = 15_000

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """One row of the table. ``of_memcpy``: speed, that of copying the bytes being 1."""

    what: str
    size_mib: float
    best_s: float
    gib_per_s: float
    of_memcpy: float


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--mib", type=int, default=64, help="size of a contribution")
    parser.add_argument("--repeats", type=int, default=5, help="the best of so many")
    options = parser.parse_args()
    results = measure(options.mib << 18, repeats=options.repeats)
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
        return
    print(f"{'':32} {'MiB':>6} {'ms':>8} {'GiB/s':>7} {'of memcpy':>10}")
    for row in results:
        print(
            f"{row.what:32} {row.size_mib:6.0f} {row.best_s * 1e3:8.1f} "
            f"{row.gib_per_s:7.2f} {row.of_memcpy:10.2f}"
        )


def measure(count: int, *, repeats: int) -> list[Result]:
    """All rows for contributions of ``count`` values."""
    generator = np.random.default_rng(SEED)
    values = generator.standard_normal(count, np.float32)
    copy = np.empty_like(values)
    np.copyto(copy, values)

    def row(what: str, size: int, work: Callable[[], float]) -> Result:
        best_s = min(work() for _ in range(repeats))
        copied_s = min(
            seconds(lambda: np.copyto(copy[:size], values[:size]))
            for _ in range(repeats)
        )
        speed = size * 4 / best_s / 2**30
        return Result(what, size / 2**18, best_s, speed, copied_s / best_s)

    one = np.array([count])
    borders = np.sort(generator.choice(count - 1, RANGES - 1, replace=False)) + 1
    many = np.diff(borders, prepend=0, append=count)
    some = np.flatnonzero(generator.random(RANGES) < 0.5)
    share = values[: int(many[some].sum())]
    coded = [
        each
        for name in FORMS
        for each in (
            row(f"decode {name}", count, lambda name=name: decode_s(values, name)),
            row(f"encode {name}", count, lambda name=name: encode_s(values, name)),
        )
    ]
    return [
        row("memcpy", count, lambda: seconds(lambda: np.copyto(copy, values))),
        row("add, one range, weight 1", count, lambda: add_s(one, [0], values, 1.0)),
        row("add, one range, weight 600", count, lambda: add_s(one, [0], values, 600)),
        row(
            "add, half of 15,000 ranges",
            share.size,
            lambda: add_s(many, some, share, 1),
        ),
        row("close, one range", count, lambda: close_s(one, values)),
        row("close, 15,000 ranges", count, lambda: close_s(many, values)),
        *coded,
    ]


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def add_s(
    sizes: NDArray[np.int64], positions: ArrayLike, values: Floats, weight: float
) -> float:
    """Time of adding one contribution to a sum that others were added to before."""
    mean = StreamingMean(sizes)
    send(mean, positions, values, weight)
    return seconds(lambda: send(mean, positions, values, weight))


def send(
    mean: StreamingMean, positions: ArrayLike, values: Floats, weight: float
) -> None:
    """Add a contribution chunk by chunk."""
    cursor = mean.open(positions, weight)
    for start in range(0, values.size, CHUNK_ELEMENTS):
        cursor.add(values[start : start + CHUNK_ELEMENTS])


def close_s(sizes: NDArray[np.int64], values: Floats) -> float:
    """Time of taking the mean; every range has another weight than the next."""
    mean = StreamingMean(sizes)
    send(mean, np.arange(len(sizes)), values, 1.0)
    every_other = np.arange(0, len(sizes), 2)
    send(mean, every_other, np.zeros(int(sizes[every_other].sum()), np.float32), 2.0)
    return seconds(mean.close)


def decode_s(values: Floats, form_name: str) -> float:
    """Time of decoding, piece by piece."""
    form, view = FORMS[form_name], memoryview(bytes(encode(values, form_name)))
    size = CHUNK_BYTES if form is FLOAT32 else PIECE_BYTES
    starts = range(0, form.bytes_of(values.size) - size + 1, size)
    room = np.empty(form.most_in(size), np.float32)
    scratch = None if form is FLOAT32 else room
    return seconds(
        lambda: [decode(view[i : i + size], form_name, scratch) for i in starts]
    )


def encode_s(values: Floats, form_name: str) -> float:
    """Time of encoding, chunk by chunk."""
    starts = range(0, values.size, CHUNK_ELEMENTS)
    chunks = [values[start : start + CHUNK_ELEMENTS] for start in starts]
    return seconds(lambda: [encode(chunk, form_name) for chunk in chunks])


if __name__ == "__main__":
    main()
