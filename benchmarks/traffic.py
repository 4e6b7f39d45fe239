"""What a real swarm sends, against what its plan predicts, per peer and round.

    python benchmarks/traffic.py [--json] [--rounds 3]

Real daemons on loopback train the digits with half of every width each. *Predicted*
follows from the plan alone, computed here from what the daemon's ``plan`` tells; *sent*
and *received* are what the daemons counted as payload of the chunks on the wire. They
must be equal to the byte. *Moved* is sent plus received in sub-models of the peer;
*all* is everything that went out on both planes, heads and probes included; *settled*
the same without the first round, in which everybody joins and hears of everybody. In
the rival every next holder asks every holder: *direct* is what a peer then receives.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pfusion.split.plan import ExchangePlan
from p2pfusion.split.segment import Split
from tests.end_to_end.swarm import Daemon, planned, swarms

SWARMS = (4, 8)
MOST_SUB_MODELS = 4.2
FLOAT_BYTES = 4
MODEL = {"model": "mlp", "model_arguments": {"hidden": [256, 256]}}
"""Large enough that values, not heads, are what travels."""


@dataclass(frozen=True)
class Result:
    """One row: the sums, means and extremes over all peers and rounds of a swarm."""

    peers: int
    rounds: int
    sub_model_bytes: int
    predicted_bytes: int
    measured_sent_bytes: int
    measured_received_bytes: int
    differing_peer_rounds: int
    mean_moved_sub_models: float
    most_moved_sub_models: float
    received_sub_models: float
    direct_sub_models: float
    all_to_payload: float
    settled_to_payload: float


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each swarm")
    arguments = parser.parse_args()
    results = [measure(count, arguments.rounds) for count in SWARMS]
    if arguments.json:
        found = {
            "benchmark": "traffic",
            "limit_sub_models": MOST_SUB_MODELS,
            "swarms": [asdict(result) for result in results],
            "ratios": {
                f"received_to_direct_{r.peers}": r.received_sub_models
                / r.direct_sub_models
                for r in results
            },
        }
        print(json.dumps(found, indent=2))
    else:
        print_table(results)


def print_table(results: Iterable[Result]) -> None:
    """One line per swarm."""
    print(
        " N  rounds  predicted B       sent B   received B  differing  moved   most  "
        "received  (direct)  all/payload  settled"
    )
    for r in results:
        print(
            f"{r.peers:2}  {r.rounds:6}  {r.predicted_bytes:11}  "
            f"{r.measured_sent_bytes:11}  {r.measured_received_bytes:11}  "
            f"{r.differing_peer_rounds:9}  {r.mean_moved_sub_models:5.2f}  "
            f"{r.most_moved_sub_models:5.2f}  {r.received_sub_models:8.2f}  "
            f"{r.direct_sub_models:8.2f}  {r.all_to_payload:11.3f}  "
            f"{r.settled_to_payload:7.3f}"
        )


def measure(peer_count: int, round_count: int) -> Result:
    """Trains one swarm and compares every round of every peer with its plan."""
    with swarms() as swarm:
        daemons = swarm.start(peer_count, rounds=round_count, **MODEL)
        for daemon in daemons:
            daemon.wait("done")
        rounds = list(planned(daemons[0]))
        books = [book(daemon, round_count) for daemon in daemons]
    return summary(rounds, books)


def book(daemon: Daemon, round_count: int) -> list[tuple[int, int, int]]:
    """Payload sent, payload received and everything sent, per round."""
    keys = ("payload_sent_bytes", "payload_received_bytes", "sent_bytes")
    rows = daemon.rounds()
    assert len(rows) == round_count
    found = []
    for row in rows:
        sent, received, everything = (int(str(row[key])) for key in keys)
        found.append((sent, received, everything))
    return found


def summary(
    rounds: list[tuple[ExchangePlan, dict[str, Split]]],
    books: list[list[tuple[int, int, int]]],
) -> Result:
    """The row of a swarm."""
    predicted = sent = received = everything = differing = 0
    moved: list[float] = []
    into: list[float] = []
    own_bytes = direct_bytes = 0
    for number, (plan, splits) in enumerate(rounds):
        for rank, (peer, split) in enumerate(sorted(splits.items())):
            out, back, all_out = books[rank][number]
            planned_out = plan.elements_sent(peer) * FLOAT_BYTES
            planned_in = plan.elements_received(peer) * FLOAT_BYTES
            differing += (out, back) != (planned_out, planned_in)
            size = split.size(plan.layout) * FLOAT_BYTES
            predicted, sent, received = (
                predicted + planned_out,
                sent + out,
                received + back,
            )
            everything, own_bytes = everything + all_out, own_bytes + size
            moved.append((out + back) / size)
            into.append(back / size)
        direct_bytes += direct(plan)
    return Result(
        peers=len(books),
        rounds=len(rounds),
        sub_model_bytes=own_bytes // len(moved),
        predicted_bytes=predicted,
        measured_sent_bytes=sent,
        measured_received_bytes=received,
        differing_peer_rounds=differing,
        mean_moved_sub_models=round(sum(moved) / len(moved), 3),
        most_moved_sub_models=round(max(moved), 3),
        received_sub_models=round(sum(into) / len(into), 3),
        direct_sub_models=round(direct_bytes / own_bytes, 3),
        all_to_payload=round(everything / sent, 4),
        settled_to_payload=round(_ratio(books), 4),
    )


def _ratio(books: list[list[tuple[int, int, int]]]) -> float:
    """Everything sent to payload sent, without the first round."""
    settled = [row for rows in books for row in rows[1:]]
    return sum(row[2] for row in settled) / sum(row[0] for row in settled)


def direct(plan: ExchangePlan) -> int:
    """Bytes that all peers receive if every next holder asks every holder."""
    held, wanted = plan.holders.sum(axis=0), plan.next_holders.sum(axis=0)
    pulls = held * wanted - (plan.holders & plan.next_holders).sum(axis=0)
    return int(pulls @ plan.range_sizes) * FLOAT_BYTES


if __name__ == "__main__":
    main()
