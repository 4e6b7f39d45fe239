"""How long planning one round takes on a ResNet18's shapes, and what the plan costs.

    python benchmarks/plan.py [--json] [--rounds 3]

Per swarm size: time to plan, ranges, sub-models that a peer receives, and sends plus
receives, on average and at the busiest peer; beside it what pulling directly from every
holder would take. Windows are evenly spaced and move by half a window per round, or
start anywhere. Splits and their digests are made before the clock starts, and the best
round counts; the streams are all that one peer takes part in.

Then the methods, with a thousand peers: what the splits of two rounds take, from the
roster, and the plan with their digests. All times are of the processor.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pfusion.methods import Member, PlanContext, build_method
from p2pfusion.methods.base import initial_layout
from p2pfusion.split.homes import Homes
from p2pfusion.split.layout import Layout
from p2pfusion.split.plan import ExchangePlan, Hop, plan_round
from tests.layouts import Windows, evenly, independently, resnet18

REPLICATION = 2
"""As manifests have it by default."""

SWARMS = (
    *((evenly, count, "1/2") for count in (4, 8, 16, 64, 256)),
    *((independently, count, "1/4") for count in (16, 64, 256)),
    *((evenly, count, "1") for count in (4, 64)),
)


METHODS = (
    ("msfusion", {}),
    ("msfusion", {"start": "dense"}),
    ("msfusion", {"shift": "tied"}),
    ("msfusion", {"shift": "tied", "overlap": "cosine 0.25 full"}),
    ("msfusion", {"shift": "skewed"}),
    ("fedrolex", {}),
    ("heterofl", {}),
    ("federated-dropout", {}),
    ("fedavg", {}),
)
MIXES = {
    "1/2": (Fraction(1, 2),),
    "1/8 to 1/2": (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(3, 8)),
}
MOST_PEERS = 1000


@dataclass(frozen=True)
class Result:
    """One row of the table. Sub-models are per peer and round."""

    windows: str
    split_fraction: str
    peers: int
    ranges: int
    plan_s: float
    streams_s: float
    received_sub_models: float
    direct_sub_models: float
    moved_sub_models: float
    busiest_sub_models: float
    busiest_over_mean: float


@dataclass(frozen=True)
class MethodResult:
    """What a method's round takes of the processor, at most, in seconds."""

    method: str
    split_fractions: str
    peers: int
    ranges: int
    splits_s: float
    plan_s: float


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each swarm")
    arguments = parser.parse_args()
    layout = resnet18()
    results = (
        measure(layout, windows, count, fraction, arguments.rounds)
        for windows, count, fraction in SWARMS
    )
    methods = (
        of_method(name, settings, mix, arguments.rounds)
        for name, settings in METHODS
        for mix in MIXES
    )
    if arguments.json:
        rows = [asdict(result) for result in results]
        more = [asdict(result) for result in methods]
        found = {"parameters": layout.size, "swarms": rows, "methods": more}
        print(json.dumps(found, indent=2))
    else:
        print_table(results)
        print_methods(methods)


def print_methods(results: Iterator[MethodResult]) -> None:
    """One line per method, as soon as it is measured."""
    print("\nN     mu          ranges  splits s  plan s  method")
    for r in results:
        print(
            f"{r.peers}  {r.split_fractions:10}  {r.ranges:6}  {r.splits_s:8.2f}  "
            f"{r.plan_s:6.2f}  {r.method}",
            flush=True,
        )


def print_table(results: Iterator[Result]) -> None:
    """One line per swarm, as soon as it is measured."""
    print(
        "windows        mu    N   ranges  plan ms  streams ms  "
        "received  (direct)  moved  busiest  max/mean"
    )
    for r in results:
        print(
            f"{r.windows:13}  {r.split_fraction:4} {r.peers:3}  {r.ranges:6}  "
            f"{r.plan_s * 1e3:7.0f}  {r.streams_s * 1e3:10.1f}  "
            f"{r.received_sub_models:8.2f}  {r.direct_sub_models:8.1f}  "
            f"{r.moved_sub_models:5.2f}  {r.busiest_sub_models:7.2f}  "
            f"{r.busiest_over_mean:8.3f}",
            flush=True,
        )


def measure(
    layout: Layout, windows: Windows, peer_count: int, fraction: str, round_count: int
) -> Result:
    """Plans some rounds in a row; the costs are the last round's."""
    homes, plan_s = Homes.initial(layout), float("inf")
    for round_index in range(round_count):
        current, following = (
            windows(layout, peer_count, Fraction(fraction), t)
            for t in (round_index, round_index + 1)
        )
        assert all(split.digest for split in (*current.values(), *following.values()))
        started = time.process_time()
        plan = plan_round(
            layout,
            seed=1,
            round_index=round_index,
            current=current,
            following=following,
            homes=homes,
            replication=REPLICATION,
        )
        plan_s = min(plan_s, time.process_time() - started)
        homes = plan.homes_after()
    started = time.process_time()
    make_streams(plan, plan.peers[0])
    streams_s = time.process_time() - started
    return summary(plan, windows, fraction, plan_s, streams_s)


def of_method(
    name: str, settings: Mapping[str, object], mix: str, round_count: int
) -> MethodResult:
    """The most that a round takes, of some in a row."""
    title = " ".join([name, *(f"{key}={value}" for key, value in settings.items())])
    found = list(planned(name, settings, MIXES[mix], MOST_PEERS, round_count))
    return MethodResult(
        title,
        mix,
        MOST_PEERS,
        len(found[-1][0].range_sizes),
        round(max(splits_s for _, splits_s, _ in found), 4),
        round(max(plan_s for _, _, plan_s in found), 4),
    )


def planned(
    name: str,
    settings: Mapping[str, object],
    fractions: Sequence[Fraction],
    peer_count: int,
    round_count: int,
) -> Iterator[tuple[ExchangePlan, float, float]]:
    """The plans of some rounds of a method, and seconds: for splits, and for the plan.

    Peers have the fractions in turn.
    """
    method = build_method(name, settings)
    layout = initial_layout(method, resnet18())
    pairs = zip(range(peer_count), itertools.cycle(fractions), strict=False)
    roster = tuple(Member(f"peer{rank:04}", each) for rank, each in pairs)
    homes = Homes.initial(layout)
    for index in range(round_count):
        began = time.process_time()
        context = PlanContext(1, 100, layout, roster)
        current, following = (
            {m.peer: method.split(context, t, rank) for rank, m in enumerate(roster)}
            for t in (index, index + 1)
        )
        split = time.process_time()
        plan = plan_round(
            layout,
            seed=1,
            round_index=index,
            current=current,
            following=following,
            homes=homes,
            replication=REPLICATION,
        )
        done = time.process_time()
        yield plan, split - began, done - split
        homes = plan.homes_after()


def make_streams(plan: ExchangePlan, peer: str) -> None:
    """All streams of one peer, which is what a daemon asks for in a round."""
    for hop in (Hop.CONTRIBUTION, Hop.FUSED, Hop.HOME):
        for source in plan.sources(hop, peer):
            plan.stream(hop, source=source, target=peer)
        for target in plan.peers:
            plan.stream(hop, source=peer, target=target)


def summary(
    plan: ExchangePlan, windows: Windows, fraction: str, plan_s: float, streams_s: float
) -> Result:
    """The figures of a plan in sub-models: the mean of a peer's two in this round."""
    own = sum(grid.own_elements() for grid in plan.grids) / 2
    sent = [
        plan.elements_sent(p) / size for p, size in zip(plan.peers, own, strict=True)
    ]
    received = [
        plan.elements_received(p) / size
        for p, size in zip(plan.peers, own, strict=True)
    ]
    moved = [out + into for out, into in zip(sent, received, strict=True)]
    held, wanted = plan.holders.sum(axis=0), plan.next_holders.sum(axis=0)
    pulls = held * wanted - (plan.holders & plan.next_holders).sum(axis=0)
    homes, mean = plan.pulls.received.sum(), sum(moved) / len(moved)
    return Result(
        windows.__name__,
        fraction,
        len(plan.peers),
        len(plan.range_sizes),
        round(plan_s, 4),
        round(streams_s, 4),
        round(sum(received) / len(received), 3),
        round(float(pulls @ plan.range_sizes + homes) / float(own.sum()), 3),
        round(mean, 3),
        round(max(moved), 3),
        round(max(moved) / mean, 4),
    )


if __name__ == "__main__":
    main()
