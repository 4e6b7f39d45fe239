"""The door: who greets, what it is told, and what an admin's word makes of it."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest

from p2pfusion.limits import MAX_CHAIN_LINKS, MAX_CONTROL_FRAME_BYTES, MAX_ROSTER
from p2pfusion.protocol import events as e
from p2pfusion.protocol.access import Decided, Invited, Revoke
from p2pfusion.protocol.joining import Way
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import (
    PROTOCOL_VERSION,
    Digests,
    Facts,
    Hello,
    ManifestPart,
    Message,
    Refused,
    Welcome,
)
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.wire import encode
from p2pfusion.security import check
from tests.protocol.names import (
    NAMES,
    NamedKey,
    credential,
    forged_credential,
    greeting,
    invitation,
    knocking,
    membership,
    record,
)
from tests.protocol.swarm import GUEST, small_manifest

MANIFEST = small_manifest(admission="ticket")
SWARM = MANIFEST.swarm_id
STRANGER = GUEST + "00" * 32
WAY = Way("127.0.0.1", 9)


def founder(manifest: Manifest = MANIFEST) -> Peer:
    """p0, which has founded the swarm."""
    peer = Peer(record("p0"), NamedKey("p0"), NAMES)
    peer.handle(e.Found(manifest), 0.0)
    return peer


def member(
    name: str = "me", *, role: str = "member", manifest: Manifest = MANIFEST
) -> Peer:
    """A member that knows the founder."""
    peer = Peer(record(name), NamedKey(name), NAMES)
    its_id = manifest.swarm_id
    peer.gossip.adopt(manifest, credential(name, its_id, by="p0", role=role))
    peer.course.prepare()
    tell(peer, "p0", Facts((membership(record("p0"), its_id),)))
    return peer


def tell(peer: Peer, sender: str, message: Message) -> list[e.Effect]:
    return peer.handle(e.Received(sender, message), 1.0)


def only_reply(effects: list[e.Effect]) -> Refused:
    """The one answer, which must be a refusal, and nothing is sent or dialled."""
    assert not any(isinstance(x, e.Dial | e.Send | e.SaveFacts) for x in effects)
    (reply,) = [x for x in effects if isinstance(x, e.Reply)]
    assert isinstance(reply.message, Refused)
    return reply.message


def sent(effects: list[e.Effect], peer: str) -> list[Message]:
    return [x.message for x in effects if isinstance(x, e.Send) and x.peer == peer]


def reports(effects: list[e.Effect], kind: str) -> list[e.Report]:
    return [x for x in effects if isinstance(x, e.Report) and x.kind == kind]


def errors(effects: list[e.Effect]) -> list[object]:
    return [x.details["reason"] for x in reports(effects, "protocol-error")]


# --- Greetings -----------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["p0", "b"])
def test_nobody_speaks_for_another(subject: str) -> None:
    me = member()
    said = membership(record(subject, incarnation=2), SWARM)
    (reason,) = errors(tell(me, "a", greeting(said, SWARM)))
    assert reason == f"a speaks for {subject}"
    assert me.gossip.facts.records.keys() == {"me", "p0"}
    assert me.gossip.facts.records["p0"].incarnation == 1


def test_a_greeting_that_comes_back_to_its_sender_says_so_and_does_nothing() -> None:
    me = Peer(record("me"), NamedKey("me"), NAMES)
    me.gossip.joining.try_way(dataclasses.replace(WAY, port=1))
    for sender in ("me", STRANGER, "a"):
        assert tell(me, sender, knocking(record("me"))) == []
    assert "back to this peer" in me.gossip.joining.knocking[0].last_error


def test_other_versions_and_peers_without_a_swarm_are_refused_by_name() -> None:
    hello = knocking(record("b"), version=PROTOCOL_VERSION + 1)
    refused = only_reply(tell(member(), STRANGER, hello))
    assert refused.code == "version"
    numbers = (f"{PROTOCOL_VERSION + 1} there", f"{PROTOCOL_VERSION} here")
    assert all(number in refused.text for number in numbers)
    lonely = Peer(record("me"), NamedKey("me"), NAMES)
    refused = only_reply(tell(lonely, STRANGER, knocking(record("b"))))
    assert refused.code == "not-ready"


def test_members_of_another_swarm_are_sent_away() -> None:
    said = membership(record("b"), "another swarm")
    refused = only_reply(tell(founder(), STRANGER, greeting(said, "another swarm")))
    assert refused == Refused("denied", "another swarm lives here: 'test'")


def test_a_member_hears_where_we_are_and_compares_what_we_know() -> None:
    me = member()
    said = membership(record("b"), SWARM)
    effects = tell(me, "b", greeting(said, SWARM))
    (welcome,) = [m for m in sent(effects, "b") if isinstance(m, Welcome)]
    assert welcome == Welcome(SWARM, 0, 0, b"")
    known = [m for m in sent(effects, "b") if isinstance(m, Facts)]
    assert known == [Facts((me.gossip.membership(),))], "it may not know us"
    asked = [m for m in sent(effects, "b") if isinstance(m, Digests)]
    assert asked == [me.gossip.spread.digests()]
    assert e.Dial(me.gossip.facts.records["b"]) in effects
    assert sent(effects, "p0") == [Facts((said,))]
    assert me.gossip.is_member("b")


def test_the_founder_needs_no_credential_to_be_a_member() -> None:
    me = Peer(record("me"), NamedKey("me"), NAMES)
    me.gossip.adopt(MANIFEST, credential("me", SWARM, by="p0"))
    me.course.prepare()
    said = membership(record("p0"), SWARM)
    effects = tell(me, "p0", greeting(said, SWARM))
    assert me.gossip.facts.is_admin("p0")
    assert not any(isinstance(m, ManifestPart) for m in sent(effects, "p0"))
    assert not any(isinstance(x, e.Reply) for x in effects)


@pytest.mark.parametrize(
    "shown",
    [
        b"nonsense",
        credential("c", SWARM, by="p0"),
        credential("b", "other", by="p0"),
        forged_credential(SWARM, ("p0", "c", "member"), ("c", "b", "member")),
    ],
)
def test_a_credential_that_makes_nobody_a_member_is_an_error(shown: bytes) -> None:
    me = founder()
    said = dataclasses.replace(membership(record("b"), SWARM), credential=shown)
    effects = tell(me, "b", greeting(said, SWARM))
    assert errors(effects) and not any(isinstance(x, e.Send) for x in effects)
    assert "b" not in me.gossip.facts.records


@pytest.mark.parametrize("admission", ["ticket", "pending", "open"])
def test_who_was_put_out_is_not_let_in_again(admission: str) -> None:
    manifest = small_manifest(admission=admission)
    me, its_id = founder(manifest), manifest.swarm_id
    said = membership(record("b"), its_id)
    invite = invitation(uses=0)
    me.handle(Invited(invite), 0.0)
    tell(me, "b", greeting(said, its_id))
    me.handle(Revoke("b", "lost"), 1.0)
    ticket = knocking(record("b"), invite, swarm=its_id)
    for hello in (greeting(said, its_id), knocking(record("b")), ticket):
        refused = only_reply(tell(me, STRANGER, hello))
        assert refused == Refused("denied", "this peer has been put out")
    assert not me.door.admission.invites[invite.id].used_by


# --- Old greetings in the hands of others --------------------------------------------


def test_an_old_greeting_from_a_guest_changes_nothing() -> None:
    """Somebody has kept what a member once said, from its old address."""
    me = member()
    old = membership(record("b", host="10.0.0.1"), SWARM)
    new = membership(record("b", host="10.0.0.2", incarnation=2), SWARM)
    outside = knocking(record("b", host="10.0.0.1"))
    tell(me, "b", greeting(new, SWARM))
    digest = me.gossip.facts.digest
    contact = dataclasses.replace(me.gossip.detector.contacts["b"])
    for hello in (greeting(old, SWARM), outside):
        effects = me.handle(e.Received(STRANGER, hello), 2.0)
        dialled = [x.record.host for x in effects if isinstance(x, e.Dial)]
        assert dialled == ["10.0.0.2"], "the link is left where it is"
        assert {x.peer for x in effects if isinstance(x, e.Send)} <= {"b"}
        assert not any(isinstance(x, e.SaveFacts | e.Report) for x in effects)
    assert me.gossip.facts.digest == digest
    assert me.gossip.detector.contacts["b"] == contact, "that was no sign of life"


# --- Newcomers -----------------------------------------------------------------------


def test_who_is_no_admin_says_whom_to_ask() -> None:
    me = member()
    for hello in (
        knocking(record("b")),
        knocking(record("b"), invitation(), swarm=SWARM),
    ):
        refused = only_reply(tell(me, STRANGER, hello))
        assert refused.code == "not-ready"
        assert refused.text.endswith("ask p0 at 127.0.0.1:1")
    assert not me.door.admission.pending


def test_an_admin_with_a_full_chain_lets_nobody_in_and_lives() -> None:
    manifest = small_manifest(admission="open")
    its_id = manifest.swarm_id
    names = ["p0", *(f"x{n}" for n in range(MAX_CHAIN_LINKS))]
    links = [(by, peer, "admin") for by, peer in pairwise(names)]
    me = Peer(record(names[-1]), NamedKey(names[-1]), NAMES)
    me.gossip.adopt(manifest, forged_credential(its_id, *links))
    me.course.prepare()
    assert me.door.is_admin
    refused = only_reply(tell(me, STRANGER, knocking(record("b"))))
    assert refused.code == "not-ready" and names[-1] not in refused.text


@pytest.mark.parametrize("admission", ["ticket", "pending", "open"])
@pytest.mark.parametrize("fraction", ["two", "0", "7", "1e99999"])
def test_a_newcomer_with_an_impossible_fraction_does_not_even_wait(
    admission: str, fraction: str
) -> None:
    manifest = small_manifest(admission=admission)
    me = founder(manifest)
    invite = invitation()
    me.handle(Invited(invite), 0.0)
    there = record("b", split_fraction=fraction)
    for shown in (None, invite):
        hello = knocking(there, shown, swarm=manifest.swarm_id)
        assert errors(tell(me, STRANGER, hello))
    assert not me.door.admission.pending
    assert not me.door.admission.invites[invite.id].used_by


def full(manifest: Manifest) -> Peer:
    """A founder whose swarm has room for one more."""
    me = founder(manifest)
    names = [f"x{number}" for number in range(MAX_ROSTER - 2)]
    many = tuple(membership(record(name), manifest.swarm_id) for name in names)
    me.gossip.facts.merge(Facts(many))
    return me


def test_a_swarm_that_is_full_says_so() -> None:
    manifest = small_manifest(admission="open")
    me, its_id = full(manifest), manifest.swarm_id
    tell(me, STRANGER, knocking(record("b"), swarm=its_id))
    assert me.gossip.is_member("b") and len(me.gossip.facts.records) == MAX_ROSTER
    refused = only_reply(tell(me, STRANGER, knocking(record("c"), swarm=its_id)))
    assert refused.code == "not-ready" and "as many members" in refused.text


def test_an_accepted_peer_that_finds_no_room_any_more_ends_nothing() -> None:
    manifest = small_manifest(admission="pending")
    me, its_id = full(manifest), manifest.swarm_id
    for name in "bc":
        tell(me, STRANGER, knocking(record(name), swarm=its_id))
    me.handle(Decided("b", True), 1.0)
    assert me.gossip.is_member("b")
    assert errors(me.handle(Decided("c", True), 1.0))
    assert not me.gossip.is_member("c") and not me.door.admission.pending


def test_what_is_used_up_is_on_disk_before_anybody_is_let_in() -> None:
    me, invite = founder(), invitation(role="admin")
    assert me.handle(Invited(invite), 0.0)[0] == e.SaveInvites((invite,))
    hello = knocking(record("b"), invite, swarm=SWARM)
    effects = tell(me, STRANGER, hello)
    (saved,) = [x for x in effects if isinstance(x, e.SaveInvites)]
    assert saved.invites[0].used_by == ("b",)
    (welcome,) = [m for m in sent(effects, "b") if isinstance(m, Welcome)]
    assert effects.index(saved) < effects.index(e.Send("b", welcome))
    found = check(
        welcome.credential,
        swarm=SWARM,
        founder=NamedKey("p0").public,
        scheme=NAMES,
    )
    assert (found.subject, found.role, found.invite) == ("b", "admin", invite.id)
    (report,) = reports(effects, "newcomer-admitted")
    assert report.details == {
        "peer": "b",
        "name": "b",
        "role": "admin",
        "invite": invite.id,
    }
    # Knocking again, because the answer was lost, brings the same once more.
    again = sent(tell(me, STRANGER, hello), "b")
    assert welcome in again and not reports(tell(me, STRANGER, hello), "x")


def test_a_long_manifest_comes_in_frames_and_in_order() -> None:
    names = {f"argument {n:05d}": "x" * 64 for n in range(3_000)}
    manifest = small_manifest(admission="open", model_arguments=names)
    effects = tell(founder(manifest), STRANGER, knocking(record("b")))
    messages = sent(effects, "b")
    parts = [m for m in messages if isinstance(m, ManifestPart)]
    assert len(parts) > 4
    assert b"".join(part.data for part in parts) == manifest.to_bytes()
    offsets = [part.offset for part in parts]
    assert offsets == [sum(len(p.data) for p in parts[:n]) for n in range(len(parts))]
    assert messages[0] == Welcome(
        manifest.swarm_id,
        0,
        len(manifest.to_bytes()),
        credential("b", manifest.swarm_id, by="p0"),
    )
    assert all(len(encode(m)[0]) <= MAX_CONTROL_FRAME_BYTES for m in messages)


def test_a_member_that_lost_its_disk_gets_its_old_credential() -> None:
    me = member()
    said = membership(record("b", incarnation=1), SWARM)
    tell(me, "b", greeting(said, SWARM))
    back = record("b", incarnation=2, port=7)
    effects = tell(me, "b", knocking(back))
    (welcome,) = [m for m in sent(effects, "b") if isinstance(m, Welcome)]
    assert welcome.credential == said.credential and welcome.manifest_bytes > 0
    (dial,) = [x for x in effects if isinstance(x, e.Dial)]
    assert (dial.record.port, dial.record.incarnation) == (7, 2)
    assert any(isinstance(m, ManifestPart) for m in sent(effects, "b"))


def test_every_answer_can_be_sent_however_long_the_names() -> None:
    me = Peer(record("me"), NamedKey("me"), NAMES)
    manifest = small_manifest(name="🜚" * 64)
    its_id = manifest.swarm_id
    me.gossip.adopt(manifest, credential("me", its_id, by="p0"))
    me.course.prepare()
    long = record("p0", name="🜚" * 64, host="漢" * 255, port=65_534)
    admins = [dataclasses.replace(long, peer=f"x{n}") for n in range(5)]
    chains = [
        membership(
            dataclasses.replace(each, key=NamedKey(each.peer).public),
            its_id,
            role="admin",
        )
        for each in admins
    ]
    tell(me, "p0", Facts((membership(long, its_id), *chains)))
    hellos: list[Hello] = [
        knocking(record("b")),
        knocking(record("b"), version=2**63 - 1),
        greeting(membership(record("b"), "y" * 26), "y" * 26),
    ]
    for hello in hellos:
        for effect in tell(me, STRANGER, hello):
            if isinstance(effect, e.Send | e.Reply):
                assert encode(effect.message)
