"""What a swarm costs each of its peers, from 4 to 1,000 of them: planned and simulated.

    python benchmarks/scaling.py [--json] [--peers 4 16 64 256] [--storm 1000]
    python benchmarks/scaling.py --peers --storm 0 [--planned 4 16 64 256 1000]

First by the plans, on a ResNet18's shapes, the third round of each kind of windows:
what peers send plus receive, in their own sub-models, all together and at most; and by
what factor somebody is above its *fair share*, which is in proportion to its own
sub-models, in what it moves and in what it adds up as a reducer.

Then protocol only: real peers, a simulated network of the wan kind, virtual rounds of
about a minute. For each size: the bytes of values that a peer sends per round, beside
what it would send if everybody exchanged whole sub-models with everybody, and control
traffic. Then the storm: eight tenths of the peers are members and start at once, the
others join, and when they all know each other one in ten crashes. ``joined`` and
``rid``: after how many seconds all know all newcomers, and all who crashed are out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from plan import MIXES, planned

from p2pfusion.simulation.storm import Storm, faults, grown, storm

SHIFTS = ("blocks", "tied", "skewed")
PLANNED_ROUNDS = 3


@dataclass(frozen=True)
class Load:
    """A row by plan. ``moved``: sub-models sent plus received."""

    shift: str
    split_fractions: str
    peers: int
    moved: float
    moved_most: float
    moved_over_fair: float
    added_over_fair: float


def main() -> None:
    """Prints the tables, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--peers", type=int, nargs="*", default=[4, 16, 64, 256])
    parser.add_argument("--storm", type=int, default=1000, help="0 for none")
    sizes = [4, 16, 64, 256, 1000]
    parser.add_argument("--planned", type=int, nargs="*", default=sizes)
    arguments = parser.parse_args()
    loads = [
        load(shift, mix, count)
        for shift in SHIFTS
        for mix in MIXES
        for count in arguments.planned
    ]
    if not arguments.json:
        print_loads(loads)
    sizes = [timed(grown, count) for count in arguments.peers]
    storms = [timed(storm, arguments.storm)] if arguments.storm else []
    if arguments.json:
        rows = {"sizes": sizes, "storm": storms}
        found = {
            key: [{**asdict(x), "seconds": s} for x, s in rows[key]] for key in rows
        }
        found["planned"] = [asdict(each) for each in loads]
        print(json.dumps({"benchmark": "scaling", **found}, indent=2))
        return
    if not sizes + storms:
        return
    print("peers   control B/s per peer        bulk/round  queue  joined    rid    run")
    print("        median     p99  worst min      median              s      s      s")
    for x, seconds in sizes + storms:
        print(
            f"{x.peers:5}  {x.control_median:7,.0f} {x.control_p99:7,.0f} "
            f"{x.control_worst_minute:10,.0f}  {x.bulk_median:10,.0f}  "
            f"{x.longest_queue:5}  {after(x.joined_s)}  {after(x.converged_s)}  "
            f"{seconds:5.0f}"
        )
    for x, _ in storms:
        for text in faults(x):
            print(f"VIOLATED  {text}")


def print_loads(loads: list[Load]) -> None:
    """What the plans say."""
    print("windows  mu          peers  sub-models  most  over fair  added, over fair")
    for x in loads:
        print(
            f"{x.shift:7}  {x.split_fractions:10}  {x.peers:5}  {x.moved:10.2f}  "
            f"{x.moved_most:4.2f}  {x.moved_over_fair:9.2f}  {x.added_over_fair:16.2f}"
        )


def load(shift: str, mix: str, count: int) -> Load:
    """The last of some rounds in a row."""
    plans = planned("msfusion", {"shift": shift}, MIXES[mix], count, PLANNED_ROUNDS)
    *_, (plan, _, _) = plans
    own = sum(grid.own_elements() for grid in plan.grids) / 2
    moved = np.array(
        [plan.elements_sent(p) + plan.elements_received(p) for p in plan.peers]
    )
    reduced = np.flatnonzero(plan.reducer >= 0)
    sums = plan.holders.sum(axis=0)[reduced] * plan.range_sizes[reduced]
    added = np.bincount(plan.reducer[reduced], sums, count)
    whole = own.sum()
    return Load(
        shift,
        mix,
        count,
        round(moved.sum() / whole, 3),
        round(max(moved / own), 3),
        round(max(moved / own) * whole / moved.sum(), 3),
        round(max(added / own) * whole / added.sum(), 3),
    )


def after(seconds: float | None) -> str:
    """When something was so, in virtual seconds."""
    return "never" if seconds is None else f"{seconds:5.0f}"


def timed(run, count: int) -> tuple[Storm, float]:  # type: ignore[no-untyped-def]
    """What came of a run, and its seconds of processor time."""
    began = time.process_time()
    found = run(count)
    return found, round(time.process_time() - began, 1)


if __name__ == "__main__":
    main()
