"""Real daemons, one of them under caps: it keeps within them, and the swarm trains."""

from __future__ import annotations

import time

import pytest

from p2pfusion.transport.cap import Bucket
from tests.end_to_end.absences import missing
from tests.end_to_end.swarm import QUICK, Daemon, Swarm, share

pytestmark = [pytest.mark.slow]

CAP_BYTES_PER_S = 128 * 1024
CONTROL_BYTES = 64 * 1024
"""Counted with the rest: what news and probes of such a run may come to."""

CAPPED: dict[str, object] = {
    "model_arguments": {"hidden": [512, 512]},
    "rounds": 2,
    # So long that nobody is given up, however busy the machine is.
    "deadline_min_s": 60.0,
    "deadline_max_s": 240.0,
}


def traffic(daemon: Daemon, key: str) -> int:
    """One of the counters of a daemon's screen."""
    found = daemon.ask("status")["traffic"]
    assert isinstance(found, dict)
    return int(found[key])


def received_from(daemon: Daemon, other: Daemon) -> int:
    """What a daemon has got of another one, whole messages only."""
    peers = daemon.ask("peers")["peers"]
    assert isinstance(peers, list)
    (row,) = [row for row in peers if row["id"] == other.peer]
    return int(row["received_bytes"])


def test_a_capped_peer_keeps_within_its_caps_and_all_rounds_complete(
    swarm: Swarm,
) -> None:
    caps = {"up_limit": CAP_BYTES_PER_S, "down_limit": "128 KiB/s"}
    settings = {**QUICK, **CAPPED, "min_peers": 3}
    founder = swarm.add(data=share(0, 3), swarm=settings)
    other = swarm.add(data=share(1, 3))
    capped = swarm.add(peer=caps, data=share(2, 3))
    others = (founder, other)
    begun_at = time.monotonic()
    founder.start()
    ticket = founder.ticket(uses=2)
    for daemon in (other, capped):
        daemon.start("--join", ticket)
    for daemon in (capped, *others):
        daemon.wait("done")
    sent = sum(received_from(other, capped) for other in others)
    received = traffic(capped, "received_bytes")
    lasted_s = time.monotonic() - begun_at
    burst_bytes = Bucket(CAP_BYTES_PER_S, 0.0).burst_bytes
    allowed = CAP_BYTES_PER_S * lasted_s + burst_bytes + CONTROL_BYTES
    assert sent <= allowed and received <= allowed
    assert min(sent, received) > 4 * burst_bytes, "there was nothing to hold back"
    assert traffic(capped, "up_limit_bytes_per_s") == CAP_BYTES_PER_S
    for daemon in (capped, *others):
        rows = daemon.rounds()
        assert len(rows) == CAPPED["rounds"]
        for row in rows:
            assert not missing(row) and row["stale_ranges"] == 0, row
