"""The loop: what becomes an event, what effects do, and what never stops it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from p2pfusion.daemon.node import Node
from p2pfusion.errors import ConfigError
from p2pfusion.protocol import events
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import Chunk, Ping, StreamStart
from p2pfusion.protocol.wire import encode
from p2pfusion.split.plan import Hop
from p2pfusion.transport import Incoming, Plane
from tests.daemon.running import ALONE, Running, running, turn_all, two_running


@pytest.fixture
def pair() -> Iterator[tuple[Running, Running]]:
    """Two nodes of one swarm, both turned by hand, in round 0."""
    with two_running() as nodes:
        yield nodes


def test_two_nodes_exchange_a_round_and_survive_what_members_say(
    pair: tuple[Running, Running], caplog: pytest.LogCaptureFixture
) -> None:
    """Of one pair, since none of these leaves anything that another looks at."""
    assert_the_manifest_on_disk_is_the_swarm(pair)
    assert_a_round_is_exchanged_and_its_bytes_are_counted(pair)
    assert_an_impossible_address_is_only_out_of_reach(pair, caplog)
    assert_any_bytes_of_a_member_are_survived(pair)


def assert_a_round_is_exchanged_and_its_bytes_are_counted(
    pair: tuple[Running, Running],
) -> None:
    turn_all(pair, lambda: all(n.node.history.rounds(1) for n in pair))
    first, second = (n.node.history.rounds(1000)[0] for n in pair)
    assert first["number"] == second["number"] == 0
    assert first["payload_sent_bytes"] == second["payload_received_bytes"]
    assert first["payload_received_bytes"] == second["payload_sent_bytes"]
    assert first["payload_sent_bytes"]

    def is_kept(node: Running) -> bool:
        state = node.node.state
        manifest = state.load_manifest()
        assert manifest is not None
        return state.load_progress(manifest.layout)[0] >= 1

    turn_all(pair, lambda: all(map(is_kept, pair)))


def a_need(node: Node, hop: Hop) -> tuple[int, events.StreamKey, int]:
    """A stream that the node waits for: number, name, bytes."""
    for pull in node.peer.exchange.pulls.of_hop(hop.value):
        assert pull.total_bytes is not None
        return pull.number, pull.stream, pull.total_bytes
    raise AssertionError(f"the node needs no stream of {hop}")


def says(to: Running, by: Running, message: StreamStart | Chunk) -> None:
    """A message that has just arrived on the data plane, sealed as its sender would."""
    node, peer = to.node, by.node.peer.gossip.me
    _, session = by.node.links._sessions[node.peer.gossip.me]
    frames = tuple(memoryview(frame) for frame in session.seal(encode(message)))
    node._take(Incoming(peer, Plane.DATA, frames))
    node._drain()


def misdeeds(node: Node) -> int:
    """How much was refused so far."""
    return node.history.misdeeds.total()


@pytest.mark.parametrize("hop", [Hop.CONTRIBUTION, Hop.FUSED])
def test_values_that_are_not_finite_never_count_as_arrived(
    pair: tuple[Running, Running], hop: Hop
) -> None:
    node = pair[0].node
    pull, stream, size = a_need(node, hop)
    absent = b""
    assert node.peer.round is not None and node.payloads is not None
    if hop is Hop.FUSED:
        plan = node.peer.round.plan
        ids = plan.ranges(hop, source=stream.source, target=stream.target)
        absent = bytes(-(-len(ids) // 8))
    versions = node.payloads.store.versions(0)
    says(*pair, StreamStart(pull, size, 1, absent))
    bad = np.full(size // 4, np.nan, np.float32)
    says(*pair, Chunk(pull, 0, memoryview(bad.tobytes())))
    (reason,) = node.history.misdeeds
    assert "finite" in reason
    # Not arrived: given up, and what it would have brought is asked for elsewhere.
    assert node.peer.exchange.pulls.find(pull, stream.source) is None
    assert node.history.rounds(1) == []
    np.testing.assert_array_equal(node.payloads.store.versions(0), versions)
    assert node.peer.round is not None


def test_a_head_with_wrong_marks_is_refused_before_its_values_come(
    pair: tuple[Running, Running],
) -> None:
    node = pair[0].node
    pull, _, size = a_need(node, Hop.FUSED)
    assert node.payloads is not None
    versions = node.payloads.store.versions(0)
    says(*pair, StreamStart(pull, size, 1, bytes(999)))
    assert misdeeds(node) == 1
    values = np.ones(size // 4, np.float32)
    says(*pair, Chunk(pull, 0, memoryview(values.tobytes())))
    np.testing.assert_array_equal(node.payloads.store.versions(0), versions)


def assert_any_bytes_of_a_member_are_survived(pair: tuple[Running, Running]) -> None:
    node, other = pair[0].node, pair[1].node
    victim = node.peer.gossip.me
    good = encode(Ping(1, 0, bytes(16)))
    for plane in Plane:
        for frames in ([b"\xc1"], [b"\x93\x01"], [b"x" * 999], good):
            assert other.transport.send(victim, plane, frames)
    turn_all(pair, lambda: misdeeds(node) >= 3 and unsealed(node) >= 4)
    assert misdeeds(node) == 3, "what anybody can send is nobody's misdeed"
    assert pair[0].ask("status")["round"]


def unsealed(node: Node) -> int:
    """How often data came that its sender had not sealed."""
    dropped = node.transport.traffic.dropped
    return sum(dropped[reason] for reason in dropped if "a sealed" in reason)


def assert_an_impossible_address_is_only_out_of_reach(
    pair: tuple[Running, Running], caplog: pytest.LogCaptureFixture
) -> None:
    node = pair[0].node
    record = node.peer.gossip.record
    for number, change in enumerate(({"host": "no host"}, {"exchange_key": bytes(32)})):
        peer = f"other-{number}"
        bad = replace(record, name=f"bad-{number}", peer=peer, **change)  # type: ignore[arg-type]
        for _ in range(2):  # said once
            node.links.dial(bad)
    said = [m.split(":")[0] for m in caplog.messages if "cannot reach" in m]
    assert said == ["cannot reach 'bad-0'", "cannot reach 'bad-1'"]


@pytest.mark.parametrize(
    ("peer", "swarm", "told"),
    [
        ({"split_fraction": 0.01}, {}, r"test\.toml.*too small"),
        ({}, {"method": "lw-fedssl"}, "the model cannot do without any"),
    ],
)
def test_what_does_not_fit_ends_the_loop_before_anything_is_written(
    peer: dict[str, object], swarm: dict[str, object], told: str
) -> None:
    with running(peer=peer, data={"kind": "digits"}, swarm={**ALONE, **swarm}) as made:
        made.turn_until(lambda: made.node.ending.is_now)
        error = made.node.ending.error
        assert isinstance(error, ConfigError)
        assert re.search(told, str(error))
        assert made.node.payloads is None
        assert made.node.state.load_manifest() is None
        assert not made.node.state.directory.exists()


def test_a_trainer_that_dies_costs_a_round_and_not_the_peer() -> None:
    swarm = {**ALONE, "rounds": 400, "local_epochs": 200}
    with running(data={"kind": "digits"}, swarm=swarm) as made:
        apprentice = made.node.apprentice
        made.turn_until(lambda: apprentice.progress is not None)
        os.kill(apprentice.pid, signal.SIGKILL)
        made.turn_until(lambda: bool(made.node.history.rounds(1)))
        (row,) = made.node.history.rounds(1)
        assert row["contributors"] == [] and row["loss"] is None
        (missing,) = row["missing"]  # type: ignore[misc]
        assert missing["name"] == "me" and "SIGKILL" in missing["reason"]
        made.turn_until(lambda: apprentice.samples is not None)
        assert made.ask("status")["self"]["trainer"] in ("ready", "training")  # type: ignore[index]


def assert_the_manifest_on_disk_is_the_swarm(
    pair: tuple[Running, Running],
) -> None:
    found = [n.node.state.load_manifest() for n in pair]
    assert isinstance(found[0], Manifest) and found[0] == found[1]
