"""How peers meet, what they believe of each other's rounds, and what news costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import VerificationError
from p2pfusion.limits import MAX_CONTROL_FRAME_BYTES, MAX_FLOODED
from p2pfusion.protocol import events as e
from p2pfusion.protocol.arrival import Arrival
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.joining import Way
from p2pfusion.protocol.meeting import Meeting
from p2pfusion.protocol.messages import (
    Digests,
    Facts,
    ManifestPart,
    Membership,
    PeerRecord,
    Ping,
    Refused,
    Welcome,
)
from p2pfusion.protocol.statements import sign_start
from p2pfusion.protocol.wire import encode
from tests.protocol.names import (
    NAMES,
    NamedKey,
    accusation,
    credential,
    founder,
    membership,
    record,
    revocation,
)
from tests.protocol.swarm import small_manifest, started

MANIFEST = small_manifest(rounds=100, founder=founder("x"))
SWARM = MANIFEST.swarm_id


def alone(**changes: object) -> Gossip:
    """Peer ``me`` without a swarm."""
    return Gossip(record("me", **changes), NamedKey("me"), NAMES)


def credentials() -> bytes:
    """What makes ``me`` a member."""
    return credential("me", SWARM, by="x")


def of(*peers: PeerRecord) -> Facts:
    """These peers as members, all admitted by the founder, x."""
    return Facts(tuple(membership(peer, SWARM, by="x") for peer in peers))


def member(*others: str) -> Gossip:
    """Peer ``me`` of a swarm with these others, all just heard."""
    gossip = alone()
    gossip.adopt(MANIFEST, credentials())
    gossip.on_facts("x", of(*map(record, others)), 0.0)
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
    before = gossip.claims.observed_round(0.0)
    gossip.detector.in_round("liar", lie, 0.0)
    observed = gossip.claims.observed_round(0.0)
    assert observed <= max(claims) or max(claims) <= 0
    if sum(claim > 0 for claim in claims) > 1:
        assert before <= observed <= max(claims)


def test_rounds_that_the_swarm_does_not_have_are_no_rounds() -> None:
    gossip = member("a")
    gossip.detector.in_round("a", 10**9, 0.0)
    assert gossip.claims.round_of("a") == -1
    assert gossip.claims.observed_round(0.0) == -1
    gossip.detector.in_round("a", 100, 0.0)
    assert gossip.claims.observed_round(0.0) == 100


def test_newcomers_that_are_in_no_round_do_not_hide_the_rounds_of_others() -> None:
    gossip = member("old", "new", "newer")
    for peer, claim in (("old", 7), ("new", 0), ("newer", 0)):
        gossip.detector.in_round(peer, claim, 0.0)
    assert gossip.claims.observed_round(0.0) == 7


def test_most_must_be_ahead() -> None:
    gossip = member("a", "b", "c")
    for peer in ("a", "b"):
        assert not gossip.claims.are_at(5, 0.0)
        gossip.detector.in_round(peer, 5, 0.0)
    assert gossip.claims.are_at(5, 0.0) and not gossip.claims.are_at(6, 0.0)
    assert not gossip.claims.are_at(5, 99.0), "nobody is online any more"


def test_the_furthest_within_a_limit_is_asked_and_each_once() -> None:
    gossip = member("a", "b", "c")
    for peer, claim in (("a", 4), ("b", 5), ("c", 90)):
        gossip.detector.in_round(peer, claim, 0.0)
    assert gossip.claims.furthest(6, 0.0, but=()) == "b"
    assert gossip.claims.furthest(6, 0.0, but=("b",)) == "a"
    assert gossip.claims.furthest(6, 0.0, but=("a", "b")) is None


# --- Meeting -------------------------------------------------------------------------


def test_what_others_say_of_us_is_not_taken() -> None:
    gossip = member("a")
    own = record("me", incarnation=9)
    assert gossip.on_facts("a", of(own), 0.0) == []
    assert gossip.facts.records["me"].incarnation == 1


def test_who_is_in_a_swarm_takes_no_other() -> None:
    theirs = small_manifest(learning_rate=0.5, founder=founder("x"))
    packed = theirs.to_bytes()
    gossip = member("a")
    gossip.joining.try_way(Way("host", 1))
    Arrival(gossip).welcomed("b", Welcome(theirs.swarm_id, 0, len(packed)), 0.0)
    assert Arrival(gossip).part("b", ManifestPart(0, packed)) == []
    assert Arrival(gossip).refused("b", Refused("denied", "go away")) == []
    assert gossip.manifest == MANIFEST


# --- News ----------------------------------------------------------------------------


def test_news_reaches_everybody_but_its_bringer_once() -> None:
    gossip = member("a", "b", "c")
    facts = of(record("d"))
    effects = gossip.on_facts("a", facts, 0.0)
    told = [x.peer for x in effects if isinstance(x, e.Send) and x.message == facts]
    assert told == ["b", "c", "d"]
    assert [x.record.peer for x in effects if isinstance(x, e.Dial)] == ["d"]
    assert gossip.on_facts("b", facts, 0.0) == []


def test_who_is_put_out_hears_it_as_the_last_word() -> None:
    gossip = member("a", "b", "c")
    facts = Facts(revocations=(revocation("b", SWARM, by="x", reason="lost"),))
    effects = gossip.on_facts("a", facts, 0.0)
    told = [x.peer for x in effects if isinstance(x, e.Send) and x.message == facts]
    assert told == ["c", "b"]
    assert effects.index(e.Send("b", facts)) < effects.index(e.Bar("b"))
    assert not gossip.is_member("b") and "b" not in gossip.detector.contacts
    assert gossip.why_absent("b", 0.0) == "put out"


@pytest.mark.parametrize("count", [MAX_FLOODED - 1, MAX_FLOODED + 9])
def test_evictions_are_told_at_once_or_in_a_large_swarm_with_the_next_probes(
    count: int,
) -> None:
    names = [f"m{number:02d}" for number in range(count)]
    gossip = member()
    gossip.on_facts("x", of(*(record(name, join_epoch=0) for name in names)), 0.0)
    gossip.probing.due(0.0)
    watching = gossip.facts.observers("m00", 4)
    said = [accusation("m00", SWARM, by=by, epoch=4) for by in watching]
    heard = gossip.on_facts("m01", Facts(accusations=tuple(said)), 1.0)
    later = gossip.tick(gossip.probing.next_at)
    told = [reports(effects, "evicted") for effects in (heard, later)]
    evicted = [{"peer": "m00", "epoch": 4}]
    assert told == ([[], evicted] if gossip.spread.is_large else [evicted, []])
    assert gossip.spread.is_large is (count > MAX_FLOODED)
    assert reports(gossip.tick(99.0), "evicted") == []


def reports(effects: list[e.Effect], kind: str) -> list[object]:
    return [x.details for x in effects if isinstance(x, e.Report) and x.kind == kind]


def test_differing_digests_are_compared_at_most_once_a_second() -> None:
    gossip = member("a")
    differs = Ping(1, 0, bytes(16))
    assert sent(Meeting(gossip).on_probe("a", differs, 1.0), Digests)
    assert not sent(Meeting(gossip).on_probe("a", differs, 1.5), Digests)
    assert sent(Meeting(gossip).on_probe("a", differs, 2.0), Digests)
    same = Ping(1, 0, gossip.facts.digest)
    assert not sent(Meeting(gossip).on_probe("a", same, 9.0), Digests)


@given(st.sampled_from("aé漢🜚"), st.integers(1, 120))
def test_all_facts_fit_their_frames_however_long_the_names(
    letter: str, count: int
) -> None:
    gossip = member()
    long = [
        record(
            f"{number:03d}" + "x" * 29,
            name=letter * 64,
            host=letter * 255,
            incarnation=2**63 - 1,
            sequence=2**63 - 1,
            join_epoch=2**63 - 1,
        )
        for number in range(count)
    ]
    start = sign_start(SWARM, sorted(r.peer for r in long), NamedKey("x"))
    for batch in range(0, count, 10):
        facts = Facts(of(*long[batch : batch + 10]).members, start)
        effects = gossip.on_facts("a", facts, 0.0)
        for message in sent(effects, Facts):
            assert len(encode(message)[0]) <= MAX_CONTROL_FRAME_BYTES
    messages = gossip.facts.messages()
    assert sum(len(message.members) for message in messages) == count + 1
    assert all(encode(message) for message in messages)


def test_a_peer_that_greets_with_a_higher_incarnation_has_restarted() -> None:
    gossip = member("a")
    assert not gossip.greeted(record("a"))
    # The news of it may be faster than its own greeting.
    gossip.on_facts("b", of(record("a", incarnation=2)), 0.0)
    assert gossip.greeted(record("a", incarnation=2))
    assert not gossip.greeted(record("a", incarnation=2))
    assert not gossip.greeted(record("a", incarnation=1))


def test_addresses_and_keys_that_change_are_dialled_again() -> None:
    swarm = started(2, rounds=20)
    swarm.run(lambda: swarm.now > 2.5)
    gossip = swarm.hosts["p0"].peer.gossip
    known = gossip.facts.records["p1"]
    its_id = swarm.manifest.swarm_id
    changes: list[dict[str, object]] = [
        {"host": "10.0.0.9", "port": 77},
        {"transport_key": b"t" * 32},
        {"exchange_key": b"e" * 32},
        {"cipher": "chacha20-poly1305"},
    ]
    for sequence, change in enumerate(changes, known.sequence + 1):
        moved = record("p1", swarm=its_id, sequence=sequence, **change)
        effects = gossip.on_facts("p1", Facts((membership(moved, its_id),)), swarm.now)
        assert e.Dial(moved) in effects


# --- Coming back ---------------------------------------------------------------------


def disk() -> list[Facts]:
    """What ``me`` had on its disk, in two messages and out of order."""
    facts = FactSet(NAMES, MANIFEST)
    own = record("me", join_epoch=5, sequence=3)
    start = sign_start(SWARM, ["a"], NamedKey("x"))
    facts.merge(Facts(of(own, record("a"), record("b")).members, start))
    facts.merge(Facts(revocations=(revocation("b", SWARM, by="x"),)))
    return facts.messages()[::-1]


def test_what_the_own_record_said_before_a_restart_still_counts() -> None:
    gossip = alone(incarnation=2)
    effects = gossip.resume(MANIFEST, disk())
    mine = gossip.facts.records["me"]
    assert (mine.incarnation, mine.join_epoch, mine.swarm) == (2, 5, SWARM)
    assert gossip.credential == credentials()
    assert gossip.facts.start == ("a",) and gossip.facts.revoked.keys() == {"b"}
    (saved,) = [x for x in effects if isinstance(x, e.SaveFacts)]
    kept = FactSet(NAMES, MANIFEST)
    for message in saved.facts:
        kept.merge(message)
    assert kept.digest == gossip.facts.digest, "nothing is forgotten on the disk"


def test_who_comes_back_dials_the_members_and_bars_the_others() -> None:
    gossip = alone(incarnation=2)
    gossip.resume(MANIFEST, disk())
    effects = Meeting(gossip).introduce(0.0)
    assert [x.record.peer for x in effects if isinstance(x, e.Dial)] == ["a"]
    assert [x.peer for x in effects if isinstance(x, e.Bar)] == ["b"]


def test_who_was_put_out_hears_it_again_at_its_next_start() -> None:
    gossip = alone(incarnation=2)
    out = Facts(revocations=(revocation("me", SWARM, by="x", reason="sold"),))
    gossip.resume(MANIFEST, [*disk(), out])
    effects = Meeting(gossip).introduce(0.0)
    details = [x.details for x in effects if isinstance(x, e.Report)]
    assert details == [{"peer": "me", "by": "x", "reason": "sold"}]
    assert e.Bar("me") not in effects


@pytest.mark.parametrize(
    "facts",
    [
        [],
        [of(record("a"))],
        [Facts((Membership(of(record("me")).members[0].record, b"nonsense"),))],
        [Facts((membership(record("me"), SWARM, by="somebody"),))],
        [Facts(start=sign_start(SWARM, ["me"], NamedKey("me")))],
    ],
)
def test_a_disk_that_makes_nobody_a_member_is_refused(facts: list[Facts]) -> None:
    gossip = alone(incarnation=2)
    with pytest.raises(VerificationError):
        gossip.resume(MANIFEST, facts)
    assert gossip.manifest is None
