"""How long an offer takes to write while daemons sync: onto a taken name, a free one.

    python benchmarks/offers.py [--json] [--kib 90,11000] [--syncing 4] [--repeats 150]

So many processes (``--syncing``) write and sync a file of their own of that size about
as often as daemons of small models seal rounds. Beside them a trainer's file is written
in two ways that take turns: renamed onto the name of an older one, as
``store/files.py`` does for whatever must be there at any time, and with the older one
unlinked first, as ``store/offer.py`` does. On ext4 the first also begins to write the
new file to the disk. Milliseconds are of wall time; both ways share every disturbance.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pfusion.store.files import new_file, raw_bytes, write_at
from p2pfusion.store.offer import Floats, write_offer

PAUSE_S = 0.03
NAMES = 3
"""Offers that are there at once, as the trainer keeps them."""


def onto(path: Path, values: Floats) -> None:
    """Renames over what is there."""
    with new_file(path, durable=False) as file:
        write_at(file, raw_bytes(values), 0)


def freed(path: Path, values: Floats) -> None:
    """The trainer's way."""
    write_offer(path, [values])


WAYS = {"onto a taken name": onto, "unlinked first": freed}


def syncing(path: Path, kib: int, stop: Event) -> None:
    """A daemon's journal: written and synced, again and again."""
    data, file = os.urandom(kib << 10), os.open(path, os.O_CREAT | os.O_RDWR)
    while not stop.wait(PAUSE_S):
        os.pwrite(file, data, 0)
        os.fsync(file)


def measure(kib: int, count: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every write of both ways."""
    values = np.random.default_rng(0).standard_normal(kib << 8, np.float32)
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    stop = multiprocessing.Event()
    with tempfile.TemporaryDirectory(prefix="offers-") as root:
        others = [
            multiprocessing.Process(
                target=syncing, args=(Path(root) / f"journal-{n}", kib, stop)
            )
            for n in range(count)
        ]
        for other in others:
            other.start()
        for number in range(NAMES + repeats):
            for name, write in WAYS.items():
                path = Path(root) / f"{name}-{number % NAMES}"
                begun = time.perf_counter()
                write(path, values)
                found[name].append(1e3 * (time.perf_counter() - begun))
                time.sleep(PAUSE_S / 2)
        stop.set()
        for other in others:
            other.join()
    return {name: taken[NAMES:] for name, taken in found.items()}


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--kib", default="90,11000", help="sizes of an offer")
    parser.add_argument("--syncing", type=int, default=4, help="processes that sync")
    parser.add_argument("--repeats", type=int, default=150, help="of each way")
    options = parser.parse_args()
    rows = []
    for kib in map(int, options.kib.split(",")):
        for name, taken in measure(kib, options.syncing, options.repeats).items():
            rows.append(
                {
                    "kib": kib,
                    "way": name,
                    "mean_ms": statistics.mean(taken),
                    "median_ms": statistics.median(taken),
                    "p90_ms": float(np.quantile(taken, 0.9)),
                }
            )
    if options.json:
        print(json.dumps({"benchmark": "offers", "rows": rows}, indent=2))
        return
    print("    KiB  way                 mean ms  median  90 %")
    for row in rows:
        figures = (f"{row[key]:7.2f}" for key in ("mean_ms", "median_ms", "p90_ms"))
        print(f"{row['kib']:7}  {row['way']:18}  {' '.join(figures)}")


if __name__ == "__main__":
    main()
