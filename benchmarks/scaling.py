"""What a swarm costs each of its peers, from 4 to 1,000 of them, in simulation.

    python benchmarks/scaling.py [--json] [--peers 4 16 64 256] [--storm 1000]

Protocol only: real peers, a simulated network of the wan kind, virtual rounds of about
a minute. For each size: the bytes of values that a peer sends per round, beside what
it would send if everybody exchanged whole sub-models with everybody, and the control
traffic. Then the storm: eight tenths of the peers are members and start at once, the
others join, and when they all know each other one in ten crashes. ``joined`` and
``rid``: after how many seconds all know all newcomers, and all who crashed are out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pfusion.simulation.storm import Storm, faults, grown, storm


def main() -> None:
    """Prints the tables, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--peers", type=int, nargs="*", default=[4, 16, 64, 256])
    parser.add_argument("--storm", type=int, default=1000, help="0 for none")
    arguments = parser.parse_args()
    sizes = [timed(grown, count) for count in arguments.peers]
    storms = [timed(storm, arguments.storm)] if arguments.storm else []
    if arguments.json:
        rows = {"sizes": sizes, "storm": storms}
        found = {
            key: [{**asdict(x), "seconds": s} for x, s in rows[key]] for key in rows
        }
        print(json.dumps({"benchmark": "scaling", **found}, indent=2))
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
