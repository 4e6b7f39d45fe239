"""Arbitrary messages from arbitrary peers into a running swarm, at arbitrary moments.

Whatever arrives, ``Peer.handle`` raises nothing, what it sends can be encoded, what it
keeps is bounded, and the swarm's own checks hold: nothing is fused or sealed twice.
Every key signs for whoever draws it, the founder's too: no honest key is safe here.
"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol import events as e
from p2pfusion.protocol import messages as m
from p2pfusion.protocol.access import Invited
from p2pfusion.protocol.statements import (
    OfferFact,
    sign_closing,
    sign_offer,
    sign_record,
    sign_revocation,
    sign_start,
)
from p2pfusion.protocol.wire import (
    HOPS,
    REFUSAL_REASONS,
    REFUSED_CODES,
    decode,
    encode,
)
from tests.fuzz.bounds import bounded
from tests.protocol.names import (
    NamedKey,
    forged_credential,
    invitation,
    knocking,
    record,
)
from tests.protocol.swarm import GUEST, Swarm, small_manifest, started

PEERS = ["p0", "p1", "p2", "p8", "p9", "zz"]
ATTACKS = 40

SWARM = small_manifest(rounds=32).swarm_id

peers = st.sampled_from(PEERS)
keys = peers.map(NamedKey)
senders = peers | st.just(GUEST + "00" * 32)
swarms = st.sampled_from([SWARM] * 6 + ["", "other"])
rounds = st.integers(0, 9) | st.sampled_from([31, 32, 33, 2**31, 2**62, 2**63 - 1])
pulls = st.integers((1 << 32) + 1, (1 << 32) + 30) | st.integers(0, 2**63 - 1)
sizes = st.integers(0, 5000) | st.sampled_from([2**20, 2**23, 2**62, 2**63 - 1])
few = st.integers(0, 3) | st.just(2**63 - 1)
digests = st.sampled_from([bytes(16), b"x" * 16])
ids = st.lists(st.sampled_from([bytes(8), b"\x40" * 8, b"x" * 8])).map(b"".join)
reals = st.floats(allow_nan=False, allow_infinity=False)
chains = st.one_of(
    st.sampled_from([b"", b"nonsense"]),
    st.builds(
        lambda swarm, first, role, rest: forged_credential(
            swarm, ("p0", first, role), *rest
        ),
        swarms,
        peers,
        st.sampled_from(["admin", "member"]),
        st.lists(
            st.tuples(peers, peers, st.sampled_from(["admin", "member"])), max_size=3
        ),
    ),
)
records = st.builds(
    lambda peer, **changes: sign_record(record(peer, **changes), NamedKey(peer)),
    peers,
    name=st.text("aé漢", max_size=64),
    host=st.sampled_from(["127.0.0.1", "漢" * 255]),
    port=st.integers(1, 65_534),
    split_fraction=st.sampled_from(["1/2", "1", "0", "2", "1/0", "1e99", "-1", "x"]),
    incarnation=few,
    sequence=few,
    join_epoch=st.integers(-1, 20) | st.just(2**63 - 1),
    swarm=swarms,
    cipher=st.sampled_from(["aes-256-gcm", "chacha20-poly1305"]),
    announced=st.sampled_from([b"", b"1/2:3", bytes(4_096)]),
    announced_epoch=st.integers(0, 20),
)
starts = st.builds(
    lambda swarm, names, key: sign_start(swarm, sorted(names), key),
    swarms,
    st.lists(peers, max_size=5),
    keys,
)
revocations = st.builds(
    lambda swarm, peer, epoch, reason, key: sign_revocation(
        swarm, peer=peer, epoch=epoch, reason=reason, signer=key
    ),
    swarms,
    peers,
    st.integers(0, 20) | st.just(2**63 - 1),
    st.sampled_from(["", "漢" * 200]),
    keys,
)
offers = st.builds(
    lambda swarm, incarnation, sequence, offer, key: m.SignedOffer(
        sign_offer(swarm, OfferFact(incarnation, sequence, offer), 0, key)
    ),
    swarms,
    few,
    few | sizes,
    st.builds(
        lambda base, l1, *rest: m.Offer(*rest, base, l1, l1),
        *(rounds, st.floats(0.0, 1e300), rounds, digests, sizes, reals, reals, reals),
    ),
    keys,
)
closings = st.builds(
    lambda swarm, said, key: m.SignedClosing(sign_closing(swarm, said, key)),
    swarms,
    st.builds(m.ClosingList, rounds, digests, st.just(()), st.just((0.0,))),
    keys,
)
hellos = st.one_of(
    st.builds(m.Hello, st.sampled_from([1, 2]), swarms, records, chains),
    st.builds(
        lambda peer, invite, swarm: knocking(
            record(peer), invitation(invite), swarm=swarm
        ),
        peers,
        st.integers(1, 3),
        swarms,
    ),
)
attacks = st.one_of(
    hellos,
    st.builds(m.Welcome, swarms, rounds, st.integers(0, 1 << 20), chains),
    st.builds(m.ManifestPart, sizes, st.binary(min_size=1, max_size=60)),
    st.builds(m.Refused, st.sampled_from(sorted(REFUSED_CODES)), st.text("ab")),
    st.builds(
        m.Facts,
        st.lists(st.builds(m.Membership, records, chains), max_size=4).map(tuple),
        st.none() | starts,
        st.lists(st.builds(m.Revocation, revocations, chains), max_size=2).map(tuple),
    ),
    st.builds(m.Ping, pulls, rounds, digests),
    st.builds(m.Pong, pulls, rounds, digests, st.floats(-1e300, 1e300)),
    st.builds(m.Goodbye),
    st.builds(m.Digests, st.sampled_from([bytes(512), b"x" * 512])),
    st.builds(m.Known, st.sampled_from([b"", bytes(8), b"\xff" * 8]), ids),
    st.builds(m.Wanted, ids),
    st.builds(m.ProbeFor, pulls, peers),
    st.builds(m.Seen, pulls, peers),
    offers,
    closings,
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


def all_bounded(swarm: Swarm) -> None:
    """What every peer keeps stays within its limits."""
    for host in swarm.hosts.values():
        bounded(host.peer)


def current(swarm: Swarm, victim: str, message: m.Message) -> m.Message:
    """Sometimes the digest or the pull is one that the victim knows."""
    exchange = swarm.hosts[victim].peer.exchange
    if isinstance(message, m.Request) and message.digest == b"x" * 16:
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


steps = st.tuples(st.floats(0.0, 1.5), st.sampled_from(["p0", "p1"]), senders, attacks)


stories = st.lists(steps, min_size=1, max_size=ATTACKS)


@settings(max_examples=12)
@given(st.floats(0.0, 5.0), stories)
def test_no_message_from_anybody_is_too_much(
    begin: float, story: list[tuple[float, str, str, m.Message]]
) -> None:
    survives(begin, story)


@pytest.mark.soak
@settings(max_examples=60)
@given(st.floats(0.0, 5.0), stories)
def test_no_message_is_too_much_at_length(
    begin: float, story: list[tuple[float, str, str, m.Message]]
) -> None:
    survives(begin, story)


def survives(begin: float, story: list[tuple[float, str, str, m.Message]]) -> None:
    """Others attack members of a swarm, which stays what it was."""
    swarm = started(3, rounds=32)
    assert swarm.manifest.swarm_id == SWARM
    swarm.all_honest = False
    swarm.event("p0", Invited(invitation()))
    swarm.run_to(begin)
    for pause, victim, sender, message in story:
        swarm.run_to(swarm.now + pause)
        message = current(swarm, victim, message)
        swarm.event(victim, e.Received(sender, message))
        all_bounded(swarm)
    swarm.run_to(swarm.now + 8.0)
    all_bounded(swarm)


flips = st.tuples(attacks, st.integers(0, 10**6), st.integers(1, 255))
mutations = st.lists(flips, max_size=20)


@settings(max_examples=15)
@given(mutations)
def test_mutated_messages_are_refused_or_survived(
    story: list[tuple[m.Message, int, int]],
) -> None:
    survives_mutated(story)


@pytest.mark.soak
@settings(max_examples=60)
@given(mutations)
def test_mutated_messages_are_survived_at_length(
    story: list[tuple[m.Message, int, int]],
) -> None:
    survives_mutated(story)


def survives_mutated(story: list[tuple[m.Message, int, int]]) -> None:
    """Messages of which one byte is another: refused, or taken as what they say."""
    swarm = started(3, rounds=32)
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
        all_bounded(swarm)
    swarm.run_to(swarm.now + 10.0)
    all_bounded(swarm)
