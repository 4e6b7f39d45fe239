"""In what words a peer tells of another one in each state."""

from __future__ import annotations

import pytest

from p2pfusion.daemon.members import member_details, member_rows, state_of_member
from p2pfusion.protocol import events as e
from p2pfusion.protocol.access import Revoke
from tests.golden import states
from tests.golden.states import Stage


def _seen_by(stage: Stage, name: str) -> Stage:
    stage.name = name
    return stage


def _put_out() -> Stage:
    stage = states.training()
    stage.swarm.event("p0", Revoke("p2", "stolen laptop"))
    return stage


def _stopped() -> Stage:
    stage = states.training()
    stage.swarm.event("p2", e.Stopping())
    stage.swarm.kill("p2")
    stage.swarm.run_to(stage.swarm.now + 1.0)
    return stage


def _lost() -> Stage:
    stage = states.peer_silent()
    stage.swarm.event("p0", e.Recover(("p2",), "burnt"))
    return stage


def _leaving() -> Stage:
    stage = states.training()
    stage.swarm.event("p2", e.Leave())
    stage.swarm.run_to(stage.swarm.now + 0.5)
    return stage


def _out() -> Stage:
    swarm = states.apart("p4")
    swarm.run(lambda: "p4" in swarm.hosts["p0"].peer.gossip.facts.evicted)
    return Stage(swarm, "p0")


def _long_out() -> Stage:
    stage = _out()
    stage.swarm.run_to(stage.swarm.now + 6.0)
    return stage


WORDS = [
    (states.training, "p0", "self"),
    (states.training, "p2", "online"),
    (states.peer_silent, "p2", "silent for 7 s"),
    (states.suspected, "p4", "silent for 20 s, suspected by 2 of 4"),
    (states.asymmetric, "p3", "reachable by others, not from here"),
    (_out, "p4", "out from epoch 10 on"),
    (_long_out, "p4", "out since epoch 10"),
    (lambda: _seen_by(states.coming_back(), "p0"), "p4", "online, joins with epoch 13"),
    (_stopped, "p2", "stopped"),
    (_leaving, "p2", "leaves, epoch 2"),
    (states.left_behind, "p2", "left with epoch 2"),
    (_lost, "p2", "declared lost, out since epoch 3"),
    (_put_out, "p2", "put out"),
    (
        states.quarantined,
        "p2",
        "quarantined: a received value is not a finite number",
    ),
    (states.convicted, "p2", "convicted, out from epoch 2 on"),
]


@pytest.mark.parametrize(("build", "peer", "words"), WORDS)
def test_the_state_of_a_peer_in_words(build: object, peer: str, words: str) -> None:
    assert callable(build)
    with build().node() as node:
        assert state_of_member(node, peer) == words
        details = member_details(node, node.peer.gossip.facts.records[peer])
        assert details["state"] == words
        rows = {row["id"]: row["state"] for row in member_rows(node)}
        assert rows[peer] == words


def test_those_that_are_out_come_last() -> None:
    with states.coming_back().node() as node:
        assert member_rows(node)[0]["id"] == "p4", "oneself first"
    with _put_out().node() as node:
        assert [row["id"] for row in member_rows(node)] == ["p0", "p1", "p2"]
    stage = states.training()
    stage.swarm.event("p0", Revoke("p1", ""))
    with stage.node() as node:
        assert [row["id"] for row in member_rows(node)] == ["p0", "p2", "p1"]
