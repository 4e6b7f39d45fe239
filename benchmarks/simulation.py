"""How many rounds of how many peers the simulator does in a minute, on one core.

    python benchmarks/simulation.py [--json] [--peers 12] [--rounds 100]
                                    [--repetitions 5]

Protocol only, nothing goes wrong, all checks on, the log hashed. A *peer-round* is one
round of one peer, whatever it costs: a swarm of 12 whose halves all overlap exchanges
22 streams per peer and round. Two models (one hidden width in 16 cells; two widths in
32 and 16 cells, which is what ``p2pfusion sim`` takes) at two split fractions. Rounds
take a tenth of a virtual second, so that probes, of which there is one a second, do not
count for much; joining and the final export are included. Each repetition has another
seed. What counts is processor time; elapsed time is told beside it, as it says how busy
the machine was otherwise: on a busy one processor time is longer, too. The rival is the
same simulation without what makes it fast: every peer plans for itself, and every
message is decoded from its bytes. Both must give the same log.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
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
    repetitions: int
    events: int
    """Of the first seed."""
    seconds: float
    """The median of the repetitions."""
    seconds_least: float
    seconds_most: float
    elapsed_seconds: float
    peer_rounds_per_minute: int
    """From the median; the next two from the slowest and the fastest repetition."""
    peer_rounds_per_minute_least: int
    peer_rounds_per_minute_most: int
    plain_to_shared: float


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--peers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    results = [
        measure(
            *(name, layout, fraction),
            peers=arguments.peers,
            rounds=arguments.rounds,
            repetitions=arguments.repetitions,
        )
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
    print(
        "model       mu   N    rounds  seconds  elapsed  "
        "peer-rounds/min: median (range)  plain/shared"
    )
    for r in results:
        print(
            f"{r.model:10}  {r.split_fraction:3}  {r.peers:3}  {r.rounds:6}  "
            f"{r.seconds:7.2f}  {r.elapsed_seconds:7.2f}  "
            f"{r.peer_rounds_per_minute:23,} ({r.peer_rounds_per_minute_least:,} to "
            f"{r.peer_rounds_per_minute_most:,})  {r.plain_to_shared:.2f}"
        )


def measure(
    name: str,
    layout: Layout,
    fraction: str,
    *,
    peers: int,
    rounds: int,
    repetitions: int,
) -> Result:
    """One case: some runs, and one of the rival."""
    setting = Setting(
        peers=peers,
        rounds=rounds,
        faults="none",
        network="lan",
        split_fraction=Fraction(fraction),
        training_s=TRAINING_S,
        layout=layout,
    )
    runs = [
        timed(replace(setting, seed=seed), exact=False) for seed in range(repetitions)
    ]
    outcome = runs[0].outcome
    plain = timed(setting, exact=True)
    assert plain.outcome.event_log_hash == outcome.event_log_hash
    assert not any(run.outcome.violations for run in runs)
    each_s = sorted(run.seconds for run in runs)
    seconds = statistics.median(each_s)
    work = 60 * peers * rounds
    return Result(
        model=name,
        split_fraction=fraction,
        peers=peers,
        rounds=rounds,
        repetitions=repetitions,
        events=outcome.events,
        seconds=round(seconds, 3),
        seconds_least=round(each_s[0], 3),
        seconds_most=round(each_s[-1], 3),
        elapsed_seconds=round(statistics.median(r.elapsed_s for r in runs), 3),
        peer_rounds_per_minute=round(work / seconds),
        peer_rounds_per_minute_least=round(work / each_s[-1]),
        peer_rounds_per_minute_most=round(work / each_s[0]),
        plain_to_shared=round(plain.seconds / runs[0].seconds, 2),
    )


@dataclass(frozen=True)
class Run:
    """What a simulation took, and what came of it."""

    seconds: float
    elapsed_s: float
    outcome: Outcome


def timed(setting: Setting, *, exact: bool) -> Run:
    """One simulation."""
    began, began_at = time.process_time(), time.monotonic()
    outcome = simulate(setting, exact=exact)
    return Run(time.process_time() - began, time.monotonic() - began_at, outcome)


if __name__ == "__main__":
    main()
