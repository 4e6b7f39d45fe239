"""Arbitrary messages from arbitrary peers into a running swarm, at arbitrary moments.

Whatever arrives, ``Peer.handle`` raises nothing, what it sends can be encoded, what it
keeps is bounded, and the swarm's own checks hold: nothing is fused or sealed twice.
"""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import MAX_PARKED_REQUESTS_PER_PEER, MAX_ROSTER
from p2pfusion.protocol import events as e
from p2pfusion.protocol import messages as m
from p2pfusion.protocol.gossip import MANIFESTS_AT_ONCE
from p2pfusion.protocol.wire import HOPS, REFUSAL_REASONS, decode, encode
from tests.protocol.swarm import Swarm, started

PEERS = ["p0", "p1", "p2", "p8", "p9", "zz"]
ATTACKS = 40

peers = st.sampled_from(PEERS)
rounds = st.integers(0, 9) | st.sampled_from([31, 32, 33, 2**31, 2**62, 2**63 - 1])
pulls = st.integers((1 << 32) + 1, (1 << 32) + 30) | st.integers(0, 2**63 - 1)
sizes = st.integers(0, 5000) | st.sampled_from([2**20, 2**23, 2**62, 2**63 - 1])
digests = st.sampled_from([bytes(16), b"x" * 16])
reals = st.floats(allow_nan=False, allow_infinity=False)
records = st.builds(
    m.PeerRecord,
    peer=peers,
    name=st.text("aé漢", max_size=64),
    host=st.sampled_from(["127.0.0.1", "漢" * 255]),
    port=st.integers(1, 65_535),
    data_port=st.just(9),
    split_fraction=st.sampled_from(["1/2", "1", "0", "2", "1/0", "1e99", "-1", "x"]),
    incarnation=st.integers(0, 3) | st.just(2**63 - 1),
    sequence=st.integers(0, 3) | st.just(2**63 - 1),
    join_epoch=st.integers(-1, 20) | st.just(2**63 - 1),
)
starts = st.lists(peers, max_size=5).map(tuple) | st.just(
    tuple(f"{number:064d}" for number in range(900))
)
attacks = st.one_of(
    st.builds(
        m.Hello, st.sampled_from([0, 1]), st.sampled_from(["", "other"]), records
    ),
    st.builds(
        m.Welcome, st.sampled_from(["", "other"]), rounds, st.integers(0, 1 << 20)
    ),
    st.builds(m.ManifestPart, sizes, st.binary(min_size=1, max_size=60)),
    st.builds(m.Refused, st.sampled_from(["version", "not-ready"]), st.text("ab")),
    st.builds(m.Facts, st.lists(records, max_size=4).map(tuple), starts),
    st.builds(m.Ping, pulls, rounds, digests),
    st.builds(m.Pong, pulls, rounds, digests),
    st.builds(m.Goodbye),
    st.builds(m.Offer, rounds, digests, sizes, reals, reals, reals),
    st.builds(
        m.Request,
        pulls,
        st.sampled_from(sorted(HOPS)),
        rounds,
        digests,
        peers,
        sizes,
        sizes,
    ),
    st.builds(m.Refusal, pulls, st.sampled_from(sorted(REFUSAL_REASONS))),
    st.builds(m.Credit, pulls, sizes),
    st.builds(m.StreamStart, pulls, sizes, sizes, st.binary(max_size=9)),
    st.builds(
        m.Chunk, pulls, sizes, st.binary(min_size=1, max_size=99).map(memoryview)
    ),
)


def bounded(swarm: Swarm) -> None:
    """What a peer keeps stays within its limits."""
    for host in swarm.hosts.values():
        gossip, exchange = host.peer.gossip, host.peer.exchange
        members = len(gossip.facts.records)
        assert members <= MAX_ROSTER
        assert len(gossip.detector.contacts) <= members
        assert len(gossip._parts) <= MANIFESTS_AT_ONCE
        assert len(exchange._early) <= members
        assert (
            len(exchange.rounds) <= 3
            and exchange.rounds.keys() == exchange.homes.keys()
        )
        for peer in gossip.facts.records:
            serves = [serve for serve in exchange.serves if serve.peer == peer]
            assert len(serves) <= MAX_PARKED_REQUESTS_PER_PEER
        for round_ in exchange.rounds.values():
            assert len(round_.reductions) <= len(round_.plan.peers) + 1
            assert round_.offers.keys() <= round_.splits.keys()


def current(swarm: Swarm, victim: str, message: m.Message) -> m.Message:
    """Sometimes the digest or the pull is one that the victim knows."""
    exchange = swarm.hosts[victim].peer.exchange
    if isinstance(message, m.Request | m.Offer) and message.digest == b"x" * 16:
        round_ = exchange.rounds.get(message.round_index) or exchange.round
        if round_ is not None:
            return dataclasses.replace(
                message, digest=round_.plan.digest, round_index=round_.number
            )
    if isinstance(message, m.StreamStart | m.Chunk | m.Refusal) and message.pull % 2:
        open_pulls = sorted(exchange.pulls._pulls)
        if open_pulls:
            number = open_pulls[message.pull % len(open_pulls)]
            return dataclasses.replace(message, pull=number)
    return message


steps = st.tuples(st.floats(0.0, 1.5), st.sampled_from(["p0", "p1"]), peers, attacks)


@settings(max_examples=40)
@given(st.floats(0.0, 5.0), st.lists(steps, min_size=1, max_size=ATTACKS))
def test_no_message_from_anybody_is_too_much(
    begin: float, story: list[tuple[float, str, str, m.Message]]
) -> None:
    swarm = started(3, rounds=32)
    swarm.all_honest = False
    swarm.run_to(begin)
    for pause, victim, sender, message in story:
        swarm.run_to(swarm.now + pause)
        message = current(swarm, victim, message)
        swarm.event(victim, e.Received(sender, message))
        bounded(swarm)
    swarm.run_to(swarm.now + 8.0)
    bounded(swarm)


@given(
    st.lists(
        st.tuples(attacks, st.integers(0, 10**6), st.integers(1, 255)), max_size=20
    )
)
def test_mutated_messages_are_refused_or_survived(
    story: list[tuple[m.Message, int, int]],
) -> None:
    swarm = started(2, rounds=8)
    swarm.all_honest = False
    swarm.run_to(0.9)
    for message, at, flip in story:
        on_data = isinstance(message, m.StreamStart | m.Chunk)
        frames = [bytearray(frame) for frame in encode(message)]
        frames[0][at % len(frames[0])] ^= flip
        try:
            mutated = decode([bytes(frame) for frame in frames], data_plane=on_data)
        except RemoteProtocolError as error:
            swarm.event("p0", e.Misbehaved("p1", str(error)))
        else:
            swarm.event("p0", e.Received("p1", mutated))
        bounded(swarm)
    swarm.run_to(swarm.now + 10.0)
    bounded(swarm)
