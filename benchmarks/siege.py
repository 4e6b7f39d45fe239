"""What floods cost a daemon: its answers, its rounds, and what it takes of its machine.

    python benchmarks/siege.py [--json] [--seconds 10] [--only ATTACK ...]

A swarm of three trains on loopback, one member of it a traitor. Each attack lasts so
long, and so does the peace before it, in turn: strangers at both ports, and the member
with every message that it may send. Per attack: how long ``status`` takes (median and
worst, of one question after another), rounds in a minute with and without it, how far
memory grew, descriptors, and the processor's time that the daemon takes in a second and
for each message. Run it on idle cores: besiegers and besieged share them. Before that,
what each kind of control message costs the daemon's loop, which --messages alone
measures on any machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pfusion.daemon import assemble
from p2pfusion.daemon.node import Node
from p2pfusion.protocol.messages import Chunk, Message, StreamStart
from p2pfusion.protocol.wire import encode
from p2pfusion.transport import Incoming, Plane
from tests.daemon.running import two_running
from tests.end_to_end import ceilings, outsiders
from tests.end_to_end.ceilings import MIB, usage
from tests.end_to_end.inspection import identity, number_of_round
from tests.end_to_end.swarm import Daemon, swarms
from tests.end_to_end.test_floods import Besieged, besieged_in, ports_of
from tests.end_to_end.traitor import ATTACKS as TREASONS
from tests.end_to_end.traitor import Traitor

ANSWER_LIMIT_S = 1.0
"""Within which ``status`` has to be answered."""

VICTIMS = 2
"""The traitor says everything to both others."""

NOT_SAID = {"reconnects", "standing-by", "circuits", "stuck-bulk"}
"""What a member does with connections, and not with messages."""

PAUSE_S = 0.05
"""Between two questions: they are a load of their own."""

Row = dict[str, object]


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each attack")
    parser.add_argument("--only", nargs="*", help="these attacks")
    parser.add_argument("--messages", action="store_true", help="their cost only")
    given = parser.parse_args()
    costs = message_costs()
    rows = {} if given.messages else measure(given.seconds, given.only)
    found = {
        "benchmark": "siege",
        "seconds": given.seconds,
        "answer_limit_s": ANSWER_LIMIT_S,
        "memory_limit_bytes": ceilings.most_growth_bytes(others=2),
        "files_limit": ceilings.most_files(others=2),
        "message_us": costs,
        "rows": rows,
    }
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print("message            CPU us in the loop")
    for name, cost_us in costs.items():
        print(f"{name:18} {cost_us:18.0f}")
    if not rows:
        return
    print(
        "attack             came/s  status ms: median  worst  rounds/min (peace)"
        "  MiB grown  files  CPU %  CPU us each"
    )
    for name, row in rows.items():
        print(
            f"{name:18} {row['came_per_s']:7.0f}  {row['status_median_ms']:17.1f}"
            f"  {row['status_worst_ms']:5.0f}  {row['rounds_per_minute']:10.0f}"
            f" ({row['peace_rounds_per_minute']:5.0f})  {row['grown_mib']:9.1f}"
            f"  {row['files']:5}  {row['processor_percent']:5.0f}"
            f"  {row['processor_us_each']:11.1f}"
        )


def measure(seconds: float, only: list[str] | None) -> dict[str, Row]:
    """Every attack, each after as much peace."""
    rows: dict[str, Row] = {}
    with swarms() as swarm:
        besieged = besieged_in(swarm)
        founder = besieged.founder
        port, key = ports_of(founder)[0], identity(founder).transport_key
        for name in [*outsiders.ATTACKS, *TREASONS]:
            if only and name not in only:
                continue
            peace = watched(founder, seconds, lambda: 0)
            if name in TREASONS:
                with besieged.betrayed(name) as sent:
                    row = watched(founder, seconds, lambda: sent() // VICTIMS)
            else:
                row = under_strangers(besieged, name, port, key, seconds)
            rows[name] = compared(row, peace)
    return rows


class Collecting(Traitor):
    """What it would say, as frames."""

    said: list[list[bytes]]

    def say(self, peer: str, messages: Iterable[Message]) -> int:
        """Keeps them."""
        made = [m for m in messages if not isinstance(m, StreamStart | Chunk)]
        self.said += [[bytes(frame) for frame in encode(each)] for each in made]
        return len(made)

    def say_raw(self, peer: str, frames: list[bytes], count: int) -> int:
        """The same."""
        self.said += [frames] * count
        return count


def message_costs() -> dict[str, float]:
    """Microseconds of the processor that the loop of a daemon takes for a control
    message of each kind: decoding, answering, telling others. Two nodes in this
    process; what is measured does not depend on what else the machine does."""
    assemble.Node = Collecting  # type: ignore[misc]
    costs = {}
    with two_running() as (victim, traitor):
        sender = traitor.node.peer.gossip.me
        record = victim.node.peer.gossip.record
        for name, attack in TREASONS.items():
            traitor.node.said = []  # type: ignore[attr-defined]
            if name in NOT_SAID:
                continue
            attack(traitor.node, record)  # type: ignore[arg-type]
            arrivals = [
                Incoming(sender, Plane.CONTROL, tuple(frames))
                for frames in traitor.node.said  # type: ignore[attr-defined]
            ]
            if arrivals:
                costs[name] = 1e6 * _worked_s(victim.node, arrivals) / len(arrivals)
    return costs


def _worked_s(node: Node, arrivals: list[Incoming]) -> float:
    """The processor's time that it takes to deal with these."""
    began = time.thread_time()
    for arrival in arrivals:
        node._take(arrival)
        node._drain()
    return time.thread_time() - began


def under_strangers(
    besieged: Besieged, name: str, port: int, key: bytes, seconds: float
) -> Row:
    """What a daemon does while strangers come."""
    with outsiders.attacked(name, port, key) as told:
        row = watched(besieged.founder, seconds, lambda: 0)
    return {**row, "came": told["calls"]}


def watched(daemon: Daemon, seconds: float, came: Callable[[], int]) -> Row:
    """What a daemon does, and takes, for so long."""
    before = worst = usage(daemon)
    since, begun = number_of_round(daemon), time.monotonic()
    answers_s = []
    while time.monotonic() < begun + seconds:
        asked = time.perf_counter()
        daemon.ask("status")
        answers_s.append(time.perf_counter() - asked)
        worst = ceilings.most(worst, usage(daemon))
        daemon.let_pass(PAUSE_S)
    lasted_s = time.monotonic() - begun
    return {
        "came": came(),
        "seconds": lasted_s,
        "answers": len(answers_s),
        "status_median_ms": 1_000 * statistics.median(answers_s),
        "status_worst_ms": 1_000 * max(answers_s),
        "rounds_per_minute": 60 * (number_of_round(daemon) - since) / lasted_s,
        "grown_mib": (worst.memory_bytes - before.memory_bytes) / MIB,
        "files": worst.files,
        "threads": worst.threads,
        "written_bytes": worst.disk_bytes - before.disk_bytes,
        "processor_s": usage(daemon).processor_s - before.processor_s,
    }


def compared(row: Row, peace: Row) -> Row:
    """An attack beside the peace before it."""
    seconds, came = float(str(row["seconds"])), int(str(row["came"]))
    more_s = float(str(row["processor_s"])) - float(str(peace["processor_s"]))
    return {
        **row,
        "came_per_s": came / seconds,
        "peace_rounds_per_minute": peace["rounds_per_minute"],
        "peace_status_median_ms": peace["status_median_ms"],
        "processor_percent": 100 * float(str(row["processor_s"])) / seconds,
        "processor_us_each": 1e6 * max(0.0, more_s) / max(1, came),
    }


if __name__ == "__main__":
    main()
