"""How peers meet, what they believe of each other's rounds, and what news costs."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import MAX_CONTROL_FRAME_BYTES, MAX_MANIFEST_BYTES
from p2pfusion.protocol import events as e
from p2pfusion.protocol.gossip import KNOCK_INTERVALS_S, MANIFESTS_AT_ONCE, Gossip
from p2pfusion.protocol.messages import (
    BEFORE_START,
    PROTOCOL_VERSION,
    Facts,
    Hello,
    ManifestPart,
    PeerRecord,
    Ping,
    Refused,
    Welcome,
)
from p2pfusion.protocol.wire import encode
from tests.protocol.swarm import small_manifest, started


def record(peer: str, **changes: object) -> PeerRecord:
    values = PeerRecord(peer, peer, "127.0.0.1", 1, 2, "1/2", 1, 0, BEFORE_START)
    return dataclasses.replace(values, **changes)  # type: ignore[arg-type]


def member(*others: str, rounds: int = 100) -> Gossip:
    """Peer ``me`` of a swarm with these others, all just heard."""
    gossip = Gossip(record("me"))
    gossip.adopt(small_manifest(rounds=rounds))
    gossip.on_facts("x", Facts(tuple(record(peer) for peer in others), ()), 0.0)
    for peer in others:
        gossip.detector.heard(peer, 0.0)
    return gossip


def sent(effects: list[e.Effect], kind: type) -> list[object]:
    messages = [effect.message for effect in effects if isinstance(effect, e.Send)]
    return [message for message in messages if isinstance(message, kind)]


# --- Whom to believe -----------------------------------------------------------------


@given(st.lists(st.integers(-1, 100), min_size=3, max_size=7), st.integers(-1, 2**62))
def test_one_liar_moves_the_observed_round_no_further_than_the_truth(
    claims: list[int], lie: int
) -> None:
    names = [f"p{n}" for n in range(len(claims))]
    gossip = member(*names, "liar")
    for peer, claim in zip(names, claims, strict=True):
        gossip.detector.in_round(peer, claim, 0.0)
    before = gossip.observed_round(0.0)
    gossip.detector.in_round("liar", lie, 0.0)
    assert gossip.observed_round(0.0) <= max(claims) or max(claims) <= 0
    if sum(claim > 0 for claim in claims) > 1:
        assert before <= gossip.observed_round(0.0) <= max(claims)


def test_rounds_that_the_swarm_does_not_have_are_no_rounds() -> None:
    gossip = member("a")
    gossip.detector.in_round("a", 10**9, 0.0)
    assert gossip.claimed_round("a") == -1 and gossip.observed_round(0.0) == -1
    gossip.detector.in_round("a", 100, 0.0)
    assert gossip.observed_round(0.0) == 100


def test_newcomers_that_are_in_no_round_do_not_hide_the_rounds_of_others() -> None:
    gossip = member("old", "new", "newer")
    for peer, claim in (("old", 7), ("new", 0), ("newer", 0)):
        gossip.detector.in_round(peer, claim, 0.0)
    assert gossip.observed_round(0.0) == 7


def test_most_must_be_ahead() -> None:
    gossip = member("a", "b", "c")
    for peer in ("a", "b"):
        assert not gossip.are_at(5, 0.0)
        gossip.detector.in_round(peer, 5, 0.0)
    assert gossip.are_at(5, 0.0) and not gossip.are_at(6, 0.0)
    assert not gossip.are_at(5, 99.0), "nobody is online any more"


def test_the_furthest_within_a_limit_is_asked_and_each_once() -> None:
    gossip = member("a", "b", "c")
    for peer, claim in (("a", 4), ("b", 5), ("c", 90)):
        gossip.detector.in_round(peer, claim, 0.0)
    assert gossip.furthest(6, 0.0, but=()) == "b"
    assert gossip.furthest(6, 0.0, but=("b",)) == "a"
    assert gossip.furthest(6, 0.0, but=("a", "b")) is None


# --- Meeting -------------------------------------------------------------------------


def test_nobody_speaks_for_another() -> None:
    gossip = member("a")
    for speaker, subject in (("a", "b"), ("a", "me"), ("me", "me")):
        with pytest.raises(RemoteProtocolError):
            gossip.on_hello(speaker, Hello(1, "", record(subject, incarnation=2)), 0.0)
    gossip.on_facts("a", Facts((record("me", incarnation=9),), ()), 0.0)
    assert gossip.facts.records["me"].incarnation == 1


def test_a_greeting_that_comes_back_to_its_sender_says_so_and_does_nothing() -> None:
    gossip = member("a")
    gossip.knock_at("127.0.0.1", 1)
    assert gossip.on_hello("me", Hello(1, "", gossip.record), 0.0) == []
    assert "back to this peer" in gossip.knocking[0].last_error


def test_other_versions_and_peers_without_a_swarm_are_refused_by_name() -> None:
    hello = Hello(PROTOCOL_VERSION + 1, "", record("b"))
    (refused,) = sent(member().on_hello("b", hello, 0.0), Refused)
    assert refused.code == "version"
    lonely = Gossip(record("me"))
    hello = Hello(PROTOCOL_VERSION, "", record("b"))
    (refused,) = sent(lonely.on_hello("b", hello, 0.0), Refused)
    assert refused.code == "not-ready"


def test_knocking_goes_on_with_pauses_until_a_known_member_answers() -> None:
    gossip = Gossip(record("me"))
    gossip.knock_at("host", 1)
    gossip.knock_at("host", 1)
    instants = []
    for _ in range(8):
        now = min(knocking.next_at for knocking in gossip.knocking)
        instants.append(now)
        knocks = [x for x in gossip.tick(now) if isinstance(x, e.Knock)]
        assert len(knocks) == 1
    pauses = [b - a for a, b in pairwise(instants)]
    assert pauses == [*KNOCK_INTERVALS_S, KNOCK_INTERVALS_S[-1]]
    gossip.adopt(small_manifest())
    welcome = Welcome(gossip.swarm_id, 0, 0)
    gossip.on_welcome("a", welcome, 50.0)
    assert gossip.knocking, "its facts may have been lost"
    gossip.on_facts("a", Facts((record("a"),), ()), 50.0)
    gossip.on_welcome("a", welcome, 50.0)
    assert not gossip.knocking


def test_a_manifest_comes_in_parts() -> None:
    manifest = small_manifest()
    packed = manifest.to_bytes()
    gossip = Gossip(record("me"))
    gossip.on_welcome("a", Welcome(manifest.swarm_id, 3, len(packed)), 0.0)
    assert gossip.on_part("a", ManifestPart(0, packed[:100])) == []
    assert gossip.on_part("a", ManifestPart(90, packed[90:])) == []
    effects = gossip.on_part("a", ManifestPart(100, packed[100:]))
    assert effects[0] == e.Adopt(manifest)
    assert gossip.on_part("a", ManifestPart(0, packed)) == []


def test_a_manifest_longer_than_announced_is_an_error() -> None:
    gossip = Gossip(record("me"))
    gossip.on_welcome("a", Welcome("other", 0, 5), 0.0)
    with pytest.raises(RemoteProtocolError):
        gossip.on_part("a", ManifestPart(0, b"123456"))


def test_strangers_cannot_fill_the_memory_with_manifests() -> None:
    gossip = Gossip(record("me"))
    for number in range(100):
        stranger = f"s{number}"
        welcome = Welcome("other", number, MAX_MANIFEST_BYTES)
        gossip.on_welcome(stranger, welcome, 0.0)
        gossip.on_part(stranger, ManifestPart(0, bytes(1000)))
    assert len(gossip._parts) == MANIFESTS_AT_ONCE
    assert not gossip.detector.contacts


def test_another_swarm_is_refused_with_the_first_key_that_differs() -> None:
    theirs = small_manifest(learning_rate=0.5)
    for gossip in (member("a"), Gossip(record("me"))):
        if gossip.manifest is None:
            gossip.expected = small_manifest(rounds=100)
        packed = theirs.to_bytes()
        gossip.on_welcome("b", Welcome(theirs.swarm_id, 0, len(packed)), 0.0)
        (report,) = gossip.on_part("b", ManifestPart(0, packed))
        assert isinstance(report, e.Report) and report.kind == "incompatible"
        assert report.details["key"] == "learning_rate"


# --- News ----------------------------------------------------------------------------


def test_news_reaches_everybody_but_its_bringer_once() -> None:
    gossip = member("a", "b", "c")
    facts = Facts((record("d"),), ())
    effects = gossip.on_facts("a", facts, 0.0)
    told = [x.peer for x in effects if isinstance(x, e.Send) and x.message == facts]
    assert told == ["b", "c", "d"]
    assert [x.record.peer for x in effects if isinstance(x, e.Dial)] == ["d"]
    assert gossip.on_facts("b", facts, 0.0) == []


def test_differing_digests_bring_the_facts_at_most_once_a_second() -> None:
    gossip = member("a")
    differs = Ping(1, 0, bytes(16))
    assert sent(gossip.on_probe("a", differs, 1.0), Facts)
    assert not sent(gossip.on_probe("a", differs, 1.5), Facts)
    assert sent(gossip.on_probe("a", differs, 2.0), Facts)
    same = Ping(1, 0, gossip.facts.digest)
    assert not sent(gossip.on_probe("a", same, 9.0), Facts)


@given(st.text("aé漢🜚", min_size=1, max_size=1), st.integers(1, 120))
def test_all_facts_fit_their_frames_however_long_the_names(
    letter: str, count: int
) -> None:
    gossip = member()
    long = tuple(
        record(
            f"{number:03d}" + letter * 61,
            name=letter * 64,
            host=letter * 255,
            incarnation=2**63 - 1,
            sequence=2**63 - 1,
            join_epoch=2**63 - 1,
        )
        for number in range(count)
    )
    start = tuple(r.peer for r in long)
    for batch in range(0, count, 10):
        effects = gossip.on_facts("a", Facts(long[batch : batch + 10], start), 0.0)
        for message in sent(effects, Facts):
            assert len(encode(message)[0]) <= MAX_CONTROL_FRAME_BYTES
    messages = gossip.facts.messages()
    assert sum(len(message.records) for message in messages) == count + 1
    assert all(encode(message) for message in messages)


def test_a_start_that_nobody_could_pass_on_is_refused() -> None:
    gossip = member()
    start = tuple(f"{number:064d}" for number in range(1000))
    with pytest.raises(RemoteProtocolError):
        gossip.on_facts("a", Facts((record("b"),), start), 0.0)
    assert not gossip.facts.start and "b" not in gossip.facts.records


def test_a_peer_that_greets_with_a_higher_incarnation_has_restarted() -> None:
    gossip = member("a")
    assert not gossip.greeted(record("a"))
    # The news of it may be faster than its own greeting.
    gossip.on_facts("b", Facts((record("a", incarnation=2),), ()), 0.0)
    assert gossip.greeted(record("a", incarnation=2))
    assert not gossip.greeted(record("a", incarnation=2))
    assert not gossip.greeted(record("a", incarnation=1))


def test_what_the_own_record_said_before_a_restart_still_counts() -> None:
    gossip = Gossip(record("me", incarnation=2))
    gossip.remember([Facts((record("me", join_epoch=5), record("a")), ("a",))])
    gossip.adopt(small_manifest())
    assert gossip.facts.records["me"] == record("me", incarnation=2, join_epoch=5)
    assert gossip.facts.start == ("a",)


def test_addresses_that_change_are_dialled_again() -> None:
    swarm = started(2, rounds=20)
    swarm.run(lambda: swarm.now > 2.5)
    moved = record("p1", host="10.0.0.9", port=77, incarnation=2)
    gossip = swarm.hosts["p0"].peer.gossip
    effects = gossip.on_facts("p1", Facts((moved,), ()), swarm.now)
    assert e.Dial(moved) in effects
