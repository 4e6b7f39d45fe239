"""Pings between two real nodes, and what the details of a peer say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p2pfusion.errors import ConflictError, NotFoundError
from tests.daemon.running import Data, Running, turn_all, two_running


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Running, Running]]:
    """Two nodes of one swarm, in round 0."""
    with two_running() as nodes:
        yield nodes


def asked(nodes: tuple[Running, Running], command: str, **arguments: object) -> Data:
    """What the first node answers while both run."""
    future = nodes[0].begin(command, **arguments)
    turn_all(nodes, future.done)
    found = future.result()
    assert isinstance(found, dict)
    return found


def test_every_ping_is_answered(pair: tuple[Running, Running]) -> None:
    other = pair[1].node.peer.gossip.me
    events: list[object] = []
    found = asked(pair, "ping", peer=other[:8], count=3, on_event=events.append)
    assert (found["id"], found["answered"], found["unanswered"]) == (other, 3, 0)
    trips = found["round_trips_s"]
    assert isinstance(trips, list) and len(trips) == 3 and min(trips) > 0
    assert events == [{"round_trip_s": trip} for trip in trips]
    assert not pair[0].node.history.misdeeds


def test_a_peer_that_is_stopped_answers_nothing(pair: tuple[Running, Running]) -> None:
    other = pair[1].node.peer.gossip.me
    found = pair[0].ask("ping", peer=other, count=2)  # only the first is turned
    assert (found["answered"], found["unanswered"]) == (0, 2)
    assert found["heard_s_ago"] is not None


def test_who_cannot_be_pinged(pair: tuple[Running, Running]) -> None:
    with pytest.raises(ConflictError, match="this is you"):
        asked(pair, "ping", peer=pair[0].node.peer.gossip.me)
    with pytest.raises(NotFoundError):
        asked(pair, "ping", peer="nobody")


def test_the_details_of_a_peer(pair: tuple[Running, Running]) -> None:
    me, other = (each.node.peer.gossip.me for each in pair)
    found = asked(pair, "peer", peer=other)
    assert (found["id"], found["state"], found["online"]) == (other, "online", True)
    assert (found["role"], found["admitted_by"]) == ("member", "me")
    assert (found["observers"], found["accused_by"]) == (["me"], [])
    assert (found["join_epoch"], found["leave_epoch"]) == (0, None)
    mine = asked(pair, "peer", peer=me)
    assert (mine["state"], mine["admitted_by"], mine["role"]) == ("self", None, "admin")
