"""Measuring the line between two real nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p2pfusion.daemon.echo import FIRST_NUMBER
from p2pfusion.daemon.throughput import FIRST_BYTES
from p2pfusion.errors import ConflictError, NotFoundError
from p2pfusion.limits import CREDIT_CHUNKS
from p2pfusion.protocol.messages import Credit
from tests.daemon.running import Data, Running, turn_all, two_running


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Running, Running]]:
    """Two nodes of one swarm, in round 0."""
    with two_running() as nodes:
        yield nodes


def asked(nodes: tuple[Running, Running], **arguments: object) -> Data:
    """What the first node answers while both run."""
    future = nodes[0].begin("bench-link", **arguments)
    turn_all(nodes, future.done)
    found = future.result()
    assert isinstance(found, dict)
    return found


def test_all_that_was_sent_has_arrived_by_the_data_plane(
    pair: tuple[Running, Running],
) -> None:
    other = pair[1].node.peer.gossip.me
    before = pair[1].node.transport.traffic.received_bytes()
    found = asked(pair, peer=other, seconds=0.3)
    assert found["id"] == other and found["encrypted"] is True
    sent, seconds = found["sent_bytes"], found["seconds"]
    assert isinstance(sent, int) and isinstance(seconds, float)
    assert found["arrived_bytes"] == sent >= CREDIT_CHUNKS * FIRST_BYTES
    assert found["bytes_per_s"] == sent / seconds
    assert pair[1].node.transport.traffic.received_bytes() - before > sent
    for each in pair:
        assert not each.node.history.misdeeds
        assert each.node.streams.outbox.is_empty


def test_one_at_a_time_and_never_oneself(pair: tuple[Running, Running]) -> None:
    me, other = (each.node.peer.gossip.me for each in pair)
    first = pair[0].begin("bench-link", peer=other, seconds=0.5)
    pair[0].turn_until(
        lambda: pair[0].node.commands.throughput._measurement is not None
    )
    with pytest.raises(ConflictError, match="measured already"):
        asked(pair, peer=other, seconds=0.1)
    turn_all(pair, first.done)
    with pytest.raises(ConflictError, match="this is you"):
        asked(pair, peer=me)
    with pytest.raises(NotFoundError):
        asked(pair, peer="nobody")


def test_what_nobody_asked_for_counts_nowhere(pair: tuple[Running, Running]) -> None:
    """A peer that claims to have what was never sent, or what is of no measurement."""
    throughput = pair[0].node.commands.throughput
    me, other = (each.node.peer.gossip.me for each in pair)
    throughput.credited(other, Credit(FIRST_NUMBER + 1, 1))
    future = pair[0].begin("bench-link", peer=other, seconds=0.1)
    pair[0].turn_until(lambda: throughput._measurement is not None)
    measured = throughput._measurement
    assert measured is not None
    for peer, limit in ((other, measured.sent + 1), (other, 1), (me, FIRST_BYTES)):
        throughput.credited(peer, Credit(measured.number, limit))
    assert measured.arrived == 0
    turn_all(pair, future.done)
    found = future.result()
    assert isinstance(found, dict) and found["arrived_bytes"] == found["sent_bytes"]
