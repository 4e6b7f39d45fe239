"""What averages that come a round late (``delay = 1``) save where lines are long.

    python benchmarks/overlap.py [--json] [--line-ms 0,50] [--rounds 40] [--repeats 3]

So many real daemons (``--peers``), each on a host of its own (a network namespace, so
this needs root and ``ip``) at the end of a line that delays every packet by half of
``--line-ms`` in each direction: a packet takes so long from one peer to another. They
train half of every width of an MLP of 0.34 MB on their share of the digits, 200 steps a
round, by the default method with blocks that stay for ``--dwell`` rounds: so many less
one of these go on while averages are on their way.

*round* is the time from one seal to the next, *training* what the trainer needed of it,
both the mean over all peers and all rounds but the first dwell (a median would hide the
rounds that wait for a move). What is left is *idle*: a trainer's wait. With and without
the delay take turns: a swarm, the other, and so on; shown are medians of the swarms,
and of idle the range. What the delay costs in accuracy: ``delay.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.end_to_end.hosts import start_all
from tests.end_to_end.namespaces import Line, network, why_not
from tests.end_to_end.swarm import swarms

LONGEST_S = 3600.0
BITS_PER_S = 1e9
STATED: dict[str, object] = {
    "name": "overlap",
    "model": "mlp",
    "model_arguments": {"hidden": [256, 256]},
    "local_steps": 200,
    "network": "wan",
    "deadline_min_s": 60.0,
}

Found = dict[str, float]


def measure(
    line_ms: float, delay: int, *, rounds: int, dwell: int, peers: int
) -> Found:
    """One swarm: seconds of a round, and of training in it."""
    line = Line(line_ms / 2_000, 0.0, BITS_PER_S) if line_ms else None
    stated = {**STATED, "rounds": rounds, "method_arguments": {"dwell": dwell}}
    with network() as lines, swarms() as swarm:
        hosts = [lines.host(line=line) for _ in range(peers)]
        daemons = start_all(swarm, hosts, {**stated, "delay": delay})
        for daemon in daemons:
            daemon.wait("done", LONGEST_S)
        rows = [row for daemon in daemons for row in daemon.rounds()[dwell:]]
    round_s, training_s = (
        statistics.mean(float(str(row[key])) for row in rows)
        for key in ("seconds", "training_s")
    )
    return {"round_s": round_s, "training_s": training_s}


def row(line_ms: float, delay: int, found: Sequence[Found]) -> dict[str, float]:
    """Medians of some swarms, and the range of what is idle."""
    idle = [each["round_s"] - each["training_s"] for each in found]
    return {
        "line_ms": line_ms,
        "delay": delay,
        "round_s": statistics.median(each["round_s"] for each in found),
        "training_s": statistics.median(each["training_s"] for each in found),
        "idle_s": statistics.median(idle),
        "idle_min_s": min(idle),
        "idle_max_s": max(idle),
    }


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--line-ms", default="0,50", help="from one peer to another")
    parser.add_argument("--rounds", type=int, default=40, help="of each swarm")
    parser.add_argument("--dwell", type=int, default=8, help="rounds blocks stay")
    parser.add_argument("--peers", type=int, default=4, help="of each swarm")
    parser.add_argument("--repeats", type=int, default=3, help="swarms of each kind")
    options = parser.parse_args()
    if why := why_not():
        sys.exit(why)
    os.environ["OMP_NUM_THREADS"] = "1"
    kinds = [(float(ms), d) for ms in options.line_ms.split(",") for d in (0, 1)]
    found: dict[tuple[float, int], list[Found]] = {kind: [] for kind in kinds}
    told = {key: getattr(options, key) for key in ("rounds", "dwell", "peers")}
    for _ in range(options.repeats):
        for kind in kinds:
            found[kind].append(measure(*kind, **told))
    rows = [row(*kind, found[kind]) for kind in kinds]
    if options.json:
        print(json.dumps({"benchmark": "overlap", **told, "rows": rows}, indent=2))
        return
    print("line, ms  delay  round, ms  training  idle (least, most)")
    for each in rows:
        ms = {key: 1e3 * value for key, value in each.items() if key.endswith("_s")}
        print(
            f"{each['line_ms']:8.0f}  {each['delay']:5}  {ms['round_s']:9.0f}"
            f"  {ms['training_s']:8.0f}  {ms['idle_s']:.0f}"
            f" ({ms['idle_min_s']:.0f}, {ms['idle_max_s']:.0f})"
        )


if __name__ == "__main__":
    main()
