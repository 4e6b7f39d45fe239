"""How many rounds of how many peers the simulator does in a minute, on one core.

    python benchmarks/simulation.py [--json] [--peers 12] [--rounds 100]

Protocol only, nothing goes wrong, all checks on, the log hashed. A *peer-round* is one
round of one peer, whatever it costs: a swarm of 12 whose halves all overlap exchanges
22 streams per peer and round. Two models (one hidden width in 16 cells; two widths in
32 and 16 cells) at two split fractions. Rounds take a tenth of a virtual second, so
that probes, of which there is one a second, do not count for much; joining and the
final export are included. The rival is the same simulation without what makes it fast:
every peer plans for itself, and every message is decoded from its bytes. Both must give
the same log.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pfusion.simulation.run import Outcome, Setting, simulate, small_perceptron
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec

TRAINING_S = 0.1


def one_width() -> Layout:
    """One hidden width and two parameters: as little as can be cut at all."""
    weight, hidden = Initial("uniform", 0.1), Dimension(16, "h")
    return Layout(
        (Axis("h", 16),),
        (
            ParameterSpec("w1", (hidden, Dimension(8)), weight),
            ParameterSpec("w2", (Dimension(10), hidden), weight),
        ),
    )


CASES = tuple(
    (name, layout, fraction)
    for name, layout in (("one width", one_width()), ("two widths", small_perceptron()))
    for fraction in ("1/4", "1/2")
)


@dataclass(frozen=True)
class Result:
    """One row of the table. Seconds are of processor time."""

    model: str
    split_fraction: str
    peers: int
    rounds: int
    events: int
    seconds: float
    peer_rounds_per_minute: int
    events_per_second: int
    plain_to_shared: float


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--peers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    results = [
        measure(name, layout, fraction, arguments.peers, arguments.rounds)
        for name, layout, fraction in CASES
    ]
    if arguments.json:
        found = {
            "benchmark": "simulation",
            "cases": [asdict(result) for result in results],
            "ratios": {
                f"plain_to_shared_{r.model}_{r.split_fraction}": r.plain_to_shared
                for r in results
            },
        }
        print(json.dumps(found, indent=2))
        return
    print("model       mu   N    rounds  events/s  peer-rounds/min  plain/shared")
    for r in results:
        print(
            f"{r.model:10}  {r.split_fraction:3}  {r.peers:3}  {r.rounds:6}  "
            f"{r.events_per_second:8,}  {r.peer_rounds_per_minute:15,}  "
            f"{r.plain_to_shared:12.2f}"
        )


def measure(
    name: str, layout: Layout, fraction: str, peers: int, rounds: int
) -> Result:
    """One case: the best of three runs, and a short one of the rival."""
    setting = Setting(
        peers=peers,
        rounds=rounds,
        faults="none",
        network="lan",
        split_fraction=Fraction(fraction),
        training_s=TRAINING_S,
        layout=layout,
    )
    runs = [timed(setting, exact=False) for _ in range(3)]
    seconds, outcome = min(runs, key=lambda run: run[0])
    plain_s, plain = timed(setting, exact=True)
    assert plain.event_log_hash == outcome.event_log_hash and not outcome.violations
    return Result(
        model=name,
        split_fraction=fraction,
        peers=peers,
        rounds=rounds,
        events=outcome.events,
        seconds=round(seconds, 3),
        peer_rounds_per_minute=round(60 * peers * rounds / seconds),
        events_per_second=round(outcome.events / seconds),
        plain_to_shared=round(plain_s / seconds, 2),
    )


def timed(setting: Setting, *, exact: bool) -> tuple[float, Outcome]:
    """Processor time of a simulation, and what came of it."""
    started = time.process_time()
    outcome = simulate(setting, exact=exact)
    return time.process_time() - started, outcome


if __name__ == "__main__":
    main()
