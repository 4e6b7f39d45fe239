"""An admin's word: tickets, decisions, and who is put out from when on."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.protocol import events as e
from p2pfusion.protocol.access import Decided, Invited, InviteRevoked, Revoke
from p2pfusion.protocol.door import NOTICE_ROUNDS, REMINDER_INTERVAL_S
from p2pfusion.protocol.messages import Facts, Refused
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.statements import read_revocation
from tests.protocol.names import (
    NAMES,
    NamedKey,
    credential,
    invitation,
    knocking,
    membership,
    record,
    revocation,
)
from tests.protocol.swarm import small_manifest
from tests.protocol.test_door import (
    MANIFEST,
    STRANGER,
    SWARM,
    founder,
    member,
    only_reply,
    reports,
    sent,
    tell,
)


def test_a_revoked_ticket_is_saved_as_such() -> None:
    me, invite = founder(), invitation()
    me.handle(Invited(invite), 0.0)
    effects = me.handle(InviteRevoked(invite.id), 0.0)
    saved = dataclasses.replace(invite, revoked=True)
    assert effects[0] == e.SaveInvites((saved,))
    refused = only_reply(tell(me, STRANGER, knocking(record("b"), invite, swarm=SWARM)))
    assert refused == Refused("denied", "this ticket was revoked")


def test_the_end_of_a_ticket_is_unix_time() -> None:
    me = Peer(record("p0"), NamedKey("p0"), NAMES, wall_offset_s=1_000.0)
    me.handle(e.Found(MANIFEST), 0.0)
    me.handle(Invited(invitation(expires=1_010)), 0.0)
    hello = knocking(record("b"), invitation(expires=1_010), swarm=SWARM)
    late = me.handle(e.Received(STRANGER, hello), 10.5)
    assert only_reply(late) == Refused("denied", "this ticket has expired")
    assert sent(me.handle(e.Received(STRANGER, hello), 9.5), "b")


def test_deciding_about_somebody_who_does_not_wait_does_nothing() -> None:
    me = founder()
    assert me.handle(Decided("b", True), 0.0) == []
    assert me.handle(Decided("b", False), 0.0) == []


@given(st.integers(0, 99), st.integers(1, 9))
def test_a_revocation_counts_from_the_first_epoch_that_is_not_planned_yet(
    round_index: int, per_epoch: int
) -> None:
    manifest = small_manifest(rounds_per_epoch=per_epoch, rounds=1_000)
    me = founder(manifest)
    effects = me.door.revoke("b", "lost", round_index)
    (facts,) = [x for x in effects if isinstance(x, e.SaveFacts)]
    (said,) = facts.facts[-1].revocations
    epoch = read_revocation(said.statement, NAMES, swarm=manifest.swarm_id).epoch
    begins = epoch * per_epoch
    assert begins >= round_index + NOTICE_ROUNDS
    assert begins - per_epoch < round_index + NOTICE_ROUNDS


def test_whom_a_revocation_would_take_along_is_known_before() -> None:
    me = founder()
    a = membership(record("a"), SWARM, role="admin")
    b = membership(
        record("b"), SWARM, by="a", chain=credential("a", SWARM, by="p0", role="admin")
    )
    c = membership(record("c"), SWARM)
    me.gossip.facts.merge(Facts((a, b, c)))
    digest = me.gossip.facts.digest
    assert me.door.would_put_out("a") == ["a", "b"]
    assert me.door.would_put_out("c") == ["c"]
    assert me.door.would_put_out("p0") == []
    assert me.gossip.facts.digest == digest and not me.gossip.facts.revoked
    me.handle(Revoke("a", ""), 0.0)
    assert me.gossip.facts.revoked.keys() == {"a", "b"}
    assert me.door.would_put_out("a") == [] and me.door.would_put_out("b") == []
    assert member().door.would_put_out("p0") == []
    assert Peer(record("x"), NamedKey("x"), NAMES).door.would_put_out("a") == []


def test_whom_an_admin_has_put_out_is_told_so_now_and_then() -> None:
    me = founder()
    a, b = (membership(record(name), SWARM, role="admin") for name in "ab")
    c = membership(record("c"), SWARM)
    me.gossip.facts.merge(Facts((a, b, c)))
    me.handle(Revoke("b", "lost"), 0.0)
    # That is for a to tell, and the last one is unknown here.
    for victim, by in (("c", "a"), ("x", "p0")):
        chain = credential("a", SWARM, by="p0", role="admin") if by == "a" else b""
        out = revocation(victim, SWARM, by=by, chain=chain)
        me.gossip.facts.merge(Facts(revocations=(out,)))
    (own,) = [
        v.revocation for v in me.gossip.facts.revocations.values() if v.fact.peer == "b"
    ]
    told = []
    for second in range(60):
        effects = me.handle(e.Tick(), float(second))
        told += [(second, x) for x in effects if isinstance(x, e.Reply)]
    assert [x for _, x in told] == [
        e.Reply(me.gossip.facts.records["b"], Facts(revocations=(own,)))
    ] * len(told)
    pauses = {later - sooner for (sooner, _), (later, _) in pairwise(told)}
    assert pauses == {REMINDER_INTERVAL_S} and len(told) == 4


def test_an_admin_that_was_put_out_is_none() -> None:
    me = member(role="admin")
    assert me.door.is_admin
    out = revocation("me", SWARM, reason="sold")
    (report,) = reports(tell(me, "p0", Facts(revocations=(out,))), "revoked")
    assert report.details == {"peer": "me", "by": "p0", "reason": "sold"}
    assert not me.door.is_admin
    refused = only_reply(tell(me, STRANGER, knocking(record("b"))))
    assert refused.code == "not-ready"
