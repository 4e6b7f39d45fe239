"""Ways into a swarm: what is tried when, who is believed, and what arrives."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import MAX_MANIFEST_BYTES
from p2pfusion.protocol import events as e
from p2pfusion.protocol.access import Introduced, JoinBy, KnockFailed
from p2pfusion.protocol.arrival import Arrival
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.joining import (
    KNOCK_FAILURES,
    KNOCK_INTERVALS_S,
    MANIFESTS_AT_ONCE,
    NOBODY,
    Joining,
    Way,
)
from p2pfusion.protocol.messages import ManifestPart, Refused, Welcome
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.statements import read_record
from p2pfusion.security import proves
from tests.protocol.names import (
    NAMES,
    NamedKey,
    credential,
    founder,
    invitation,
    record,
)
from tests.protocol.swarm import small_manifest
from tests.protocol.test_gossip import MANIFEST, SWARM, alone, credentials, of

KEY = bytes(range(32))
TICKET = Way("host", 1, "a", KEY, SWARM, "invite-1", invitation().secret)
ADDRESS = Way("host", 1)

# --- Ways ----------------------------------------------------------------------------


def test_an_address_is_tried_once_and_a_new_way_there_takes_its_place() -> None:
    joining = Joining()
    joining.try_way(ADDRESS)
    assert joining.due(0.0) == [ADDRESS] and joining.due(0.0) == []
    joining.failed("host", 1, "no", for_good=True)
    assert joining.due(99.0) == [] and joining.deadline() == float("inf")
    joining.try_way(TICKET)
    assert joining.due(99.0) == [TICKET]
    joining.try_way(Way("host", 2))
    assert [knocking.address for knocking in joining.knocking] == ["host:1", "host:2"]
    assert Joining().deadline() == float("inf")


def test_addresses_are_written_as_people_write_them() -> None:
    joining = Joining()
    joining.try_way(Way("::1", 4747))
    assert joining.knocking[0].address == "[::1]:4747"
    assert joining.knocking[0].last_error == NOBODY


@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=30))
def test_no_attempt_comes_before_its_pause(steps: list[float]) -> None:
    """Against the slow obvious version: look at every instant, remember the last."""
    joining = Joining()
    joining.try_way(TICKET)
    now, attempts, last = 0.0, 0, float("-inf")
    for step in steps:
        now += step
        pause = 0.0
        if attempts:
            index = min(attempts - 1, len(KNOCK_INTERVALS_S) - 1)
            pause = KNOCK_INTERVALS_S[index]
        expected = now >= last + pause
        assert (joining.due(now) == [TICKET]) is expected
        if expected:
            attempts, last = attempts + 1, now
        assert joining.deadline() > now


def test_who_introduces_itself_is_knocked_at_at_once_and_only_the_first_time() -> None:
    joining = Joining()
    joining.try_way(ADDRESS)
    joining.due(0.0)
    joining.introduced("host", 2, "x", bytes(32))
    assert joining.due(0.0) == []
    joining.introduced("host", 1, "a", KEY)
    joining.introduced("host", 1, "b", bytes(32))
    assert joining.due(0.0) == [Way("host", 1, "a", KEY)]


def test_one_address_that_fails_leaves_the_others() -> None:
    joining = Joining()
    assert not joining.is_hopeless
    joining.try_way(ADDRESS)
    joining.try_way(Way("host", 2))
    joining.failed("host", 1, "wrong", for_good=True)
    joining.failed("host", 2, "silent", for_good=False)
    assert not joining.is_hopeless
    assert [way.port for way in joining.due(0.0)] == [2]
    joining.note("the swarm says no", for_good=True)
    assert joining.is_hopeless and joining.due(99.0) == []
    errors = [knocking.last_error for knocking in joining.knocking]
    assert errors == ["the swarm says no"] * 2


# --- Knocking ------------------------------------------------------------------------


def peer() -> Peer:
    return Peer(record("me"), NamedKey("me"), NAMES)


def test_an_unknown_key_is_asked_for_first_and_then_believed() -> None:
    me = peer()
    assert e.Ask("host", 1) in me.handle(JoinBy(ADDRESS), 0.0)
    effects = me.handle(Introduced("host", 1, "a", KEY), 0.1)
    (knock,) = [x for x in effects if isinstance(x, e.Knock)]
    assert knock.way == Way("host", 1, "a", KEY)
    hello = knock.message
    assert (hello.swarm_id, hello.invite, hello.proof) == ("", "", b"")
    assert read_record(hello.record, NAMES).swarm == ""


def test_a_ticket_is_shown_with_a_proof_for_this_peer_and_swarm() -> None:
    effects = peer().handle(JoinBy(TICKET), 0.0)
    (knock,) = [x for x in effects if isinstance(x, e.Knock)]
    hello = knock.message
    assert hello.invite == "invite-1" and hello.credential == b""
    assert proves(TICKET.secret, hello.proof, swarm=SWARM, peer="me")
    assert not proves(TICKET.secret, hello.proof, swarm=SWARM, peer="you")
    assert not proves(TICKET.secret, hello.proof, swarm="other", peer="me")
    assert read_record(hello.record, NAMES).swarm == SWARM
    assert TICKET.secret not in b"".join([hello.record.payload, hello.proof])


@pytest.mark.parametrize("reason", KNOCK_FAILURES)
def test_a_failed_knock_is_reported_when_there_is_no_use_in_another(
    reason: str,
) -> None:
    text, for_good = KNOCK_FAILURES[reason]
    me = peer()
    me.handle(JoinBy(TICKET), 0.0)
    reports = me.handle(KnockFailed("host", 1, reason), 0.0)
    expected = [e.Report("denied", {"text": text})] if for_good else []
    assert reports == expected
    assert me.gossip.joining.knocking[0].last_error == text
    knocks = [x for x in me.handle(e.Tick(), 60.0) if isinstance(x, e.Knock)]
    assert len(knocks) == (0 if for_good else 1)


def test_the_second_address_of_a_ticket_is_tried_though_the_first_is_wrong() -> None:
    me = peer()
    second = Way("other", 1, "a", KEY, SWARM, "invite-1", TICKET.secret)
    me.handle(JoinBy(TICKET), 0.0)
    me.handle(JoinBy(second), 0.0)
    assert me.handle(KnockFailed("host", 1, "wrong-key"), 0.0) == []
    ways = [x.way for x in me.handle(e.Tick(), 60.0) if isinstance(x, e.Knock)]
    assert ways == [second]
    (report,) = me.handle(KnockFailed("other", 1, "refused"), 60.0)
    assert isinstance(report, e.Report) and report.kind == "denied"


def test_what_fails_after_we_are_in_concerns_nobody() -> None:
    me = peer()
    me.handle(JoinBy(TICKET), 0.0)
    me.gossip.adopt(MANIFEST, credentials())
    assert me.handle(KnockFailed("host", 1, "refused"), 0.0) == []


@pytest.mark.parametrize(
    ("refused", "kind", "goes_on"),
    [
        (Refused("denied", "used up"), "denied", False),
        (Refused("version", "protocol 9 there, 2 here"), "incompatible", True),
        (Refused("pending", "an admin has to accept"), None, True),
        (Refused("not-ready", "no swarm yet"), None, True),
    ],
)
@pytest.mark.parametrize("way", [TICKET, Way("host", 1, "a", KEY)])
def test_a_refusal_says_why_and_whether_to_go_on(
    way: Way, refused: Refused, kind: str | None, goes_on: bool
) -> None:
    me = peer()
    me.handle(JoinBy(way), 0.0)
    effects = me.handle(e.Received("a", refused), 0.1)
    reports = [x for x in effects if isinstance(x, e.Report)]
    assert [report.kind for report in reports] == ([kind] if kind else [])
    assert all(report.details["text"] == refused.text for report in reports)
    assert me.gossip.joining.knocking[0].last_error == refused.text
    knocks = [x for x in me.handle(e.Tick(), 60.0) if isinstance(x, e.Knock)]
    assert len(knocks) == goes_on


def test_knocking_goes_on_with_pauses_until_a_known_member_answers() -> None:
    gossip = alone()
    way = Way("host", 1, "a", bytes(32))
    gossip.joining.try_way(way)
    gossip.joining.try_way(way)
    instants = []
    for _ in range(8):
        now = min(knocking.next_at for knocking in gossip.joining.knocking)
        instants.append(now)
        knocks = [x for x in gossip.tick(now) if isinstance(x, e.Knock)]
        assert len(knocks) == 1
    pauses = [b - a for a, b in pairwise(instants)]
    assert pauses == [*KNOCK_INTERVALS_S, KNOCK_INTERVALS_S[-1]]
    gossip.adopt(MANIFEST, credential("me", SWARM, by="x"))
    welcome = Welcome(gossip.swarm_id, 0, 0)
    Arrival(gossip).welcomed("a", welcome, 50.0)
    assert gossip.joining.knocking, "its facts may have been lost"
    gossip.on_facts("a", of(record("a")), 50.0)
    Arrival(gossip).welcomed("b", welcome, 50.0)
    assert gossip.joining.knocking, "b is nobody that we know"
    Arrival(gossip).welcomed("a", Welcome("another swarm", 0, 0), 50.0)
    assert gossip.joining.knocking
    Arrival(gossip).welcomed("a", welcome, 50.0)
    assert not gossip.joining.knocking


def knocked(*ways: Way, **changes: object) -> Gossip:
    """Peer ``me``, which has tried these ways; by default, one to anybody."""
    gossip = alone(**changes)
    for way in ways or (Way("host", 1),):
        gossip.joining.try_way(way)
    gossip.tick(0.0)
    return gossip


def test_a_manifest_comes_in_parts() -> None:
    packed = MANIFEST.to_bytes()
    gossip = knocked()
    Arrival(gossip).welcomed("a", Welcome(SWARM, 3, len(packed), credentials()), 0.0)
    assert Arrival(gossip).part("a", ManifestPart(0, packed[:100])) == []
    assert Arrival(gossip).part("a", ManifestPart(90, packed[90:])) == []
    effects = Arrival(gossip).part("a", ManifestPart(100, packed[100:]))
    assert [x for x in effects if isinstance(x, e.Adopt)] == [e.Adopt(MANIFEST)]
    assert gossip.record.swarm == SWARM and gossip.credential == credentials()
    assert Arrival(gossip).part("a", ManifestPart(0, packed)) == []


@pytest.mark.parametrize(
    "shown",
    [
        b"",
        b"nonsense",
        credential("other", SWARM, by="x"),
        credential("me", "another swarm", by="x"),
        credential("me", SWARM, by="somebody"),
    ],
)
def test_a_manifest_without_a_credential_for_us_is_not_adopted(shown: bytes) -> None:
    packed = MANIFEST.to_bytes()
    gossip = knocked()
    Arrival(gossip).welcomed("a", Welcome(SWARM, 3, len(packed), shown), 0.0)
    with pytest.raises(RemoteProtocolError):
        Arrival(gossip).part("a", ManifestPart(0, packed))
    assert gossip.manifest is None and not gossip.facts.records
    assert not gossip.joining.manifests


def test_only_whom_we_asked_can_let_us_in_or_send_us_away() -> None:
    packed = MANIFEST.to_bytes()
    gossip = knocked(Way("host", 1, "a", bytes(32), SWARM, "invite", bytes(16)))
    Arrival(gossip).welcomed("b", Welcome(SWARM, 3, len(packed), credentials()), 0.0)
    Arrival(gossip).welcomed(
        "a", Welcome("another", 3, len(packed), credentials()), 0.0
    )
    assert not gossip.joining.manifests
    assert Arrival(gossip).refused("b", Refused("denied", "go away")) == []
    assert not gossip.joining.knocking[0].denied
    (report,) = Arrival(gossip).refused("a", Refused("denied", "used up"))
    assert isinstance(report, e.Report) and report.details == {"text": "used up"}
    assert gossip.joining.knocking[0].denied
    assert gossip.deadline() == gossip.probing.next_at, "no more knocks"


def test_a_manifest_of_another_swarm_than_announced_is_an_error() -> None:
    other = small_manifest(founder=founder("x"), seed=7).to_bytes()
    gossip = knocked(Way("host", 1, "a", bytes(32), SWARM))
    Arrival(gossip).welcomed("a", Welcome(SWARM, 0, len(other), credentials()), 0.0)
    with pytest.raises(RemoteProtocolError):
        Arrival(gossip).part("a", ManifestPart(0, other))
    assert gossip.manifest is None


def test_a_method_that_is_not_installed_here_is_named_and_nothing_else() -> None:
    theirs = small_manifest(founder=founder("x"), method="no-such-method")
    shown = credential("me", theirs.swarm_id, by="x")
    packed = theirs.to_bytes()
    gossip = knocked()
    Arrival(gossip).welcomed("a", Welcome(theirs.swarm_id, 0, len(packed), shown), 0.0)
    (report,) = Arrival(gossip).part("a", ManifestPart(0, packed))
    assert isinstance(report, e.Report) and report.kind == "incompatible"
    assert "no-such-method" in str(report.details["text"])
    assert gossip.manifest is None


def test_a_manifest_longer_than_announced_is_an_error() -> None:
    gossip = knocked()
    Arrival(gossip).welcomed("a", Welcome("other", 0, 5), 0.0)
    with pytest.raises(RemoteProtocolError):
        Arrival(gossip).part("a", ManifestPart(0, b"123456"))


def test_strangers_cannot_fill_the_memory_with_manifests() -> None:
    gossip = knocked()
    for number in range(100):
        stranger = f"s{number}"
        welcome = Welcome("other", number, MAX_MANIFEST_BYTES)
        Arrival(gossip).welcomed(stranger, welcome, 0.0)
        Arrival(gossip).part(stranger, ManifestPart(0, bytes(1000)))
    assert len(gossip.joining.manifests) == MANIFESTS_AT_ONCE
    assert not gossip.detector.contacts


def test_another_swarm_is_refused_with_the_first_key_that_differs() -> None:
    theirs = small_manifest(learning_rate=0.5, founder=founder("x"))
    gossip = knocked()
    # Whoever states what it expects does not state who founds it.
    gossip.expected = small_manifest(rounds=6, founder="")
    packed = theirs.to_bytes()
    shown = credential("me", theirs.swarm_id, by="x")
    Arrival(gossip).welcomed("b", Welcome(theirs.swarm_id, 0, len(packed), shown), 0.0)
    (report,) = Arrival(gossip).part("b", ManifestPart(0, packed))
    assert isinstance(report, e.Report) and report.kind == "incompatible"
    assert report.details["key"] == "learning_rate"
    assert gossip.manifest is None


def test_an_empty_manifest_announces_nothing() -> None:
    joining = Joining()
    joining.try_way(ADDRESS)
    joining.announced("a", Welcome(SWARM, 0, 0))
    with pytest.raises(RemoteProtocolError):
        joining.part("a", ManifestPart(0, b"1"))
    assert joining.part("b", ManifestPart(0, b"1")) is None


def test_a_second_announcement_begins_anew() -> None:
    packed = MANIFEST.to_bytes()
    joining = Joining()
    for shown in (b"old", b"new"):
        joining.announced("a", Welcome(SWARM, 0, len(packed), shown))
        assert joining.part("a", ManifestPart(0, packed[:9])) is None
    assert joining.part("a", ManifestPart(9, packed[9:])) == (MANIFEST, b"new")
    assert not joining.manifests
