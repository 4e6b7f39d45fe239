"""Invitations and strangers that wait: who is let in, how often, and until when."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.limits import MAX_INVITES, MAX_PENDING, MAX_ROSTER
from p2pfusion.protocol.admission import Admission, Admit, Invite
from p2pfusion.protocol.messages import Refused
from tests.protocol.names import invitation, knocking, record

SWARM = "swarm"


def knock(
    admission: Admission,
    peer: str,
    shown: Invite | None = None,
    *,
    mode: str = "ticket",
    wall: float = 0.0,
    **changes: object,
) -> Admit | Refused:
    """The decision about a newcomer that shows this invitation, or none."""
    there = record(peer)
    hello = knocking(there, shown, swarm=SWARM)
    hello = dataclasses.replace(hello, **changes)  # type: ignore[arg-type]
    return admission.decide(there, hello, mode=mode, swarm=SWARM, wall=wall)


def kept(*invites: Invite) -> Admission:
    admission = Admission()
    admission.restore(invites)
    return admission


# --- Invitations ---------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ticket", "pending", "open"])
@pytest.mark.parametrize("role", ["member", "admin"])
def test_a_ticket_is_good_in_every_mode_for_its_role(mode: str, role: str) -> None:
    invite = invitation(role=role)
    assert knock(kept(invite), "a", invite, mode=mode) == Admit(role, invite.id)


steps = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 9)), min_size=1, max_size=20
)


@given(steps, st.integers(0, 4), st.sampled_from([0, 3, 6]), st.integers(0, 20))
def test_uses_and_expiry_against_the_slow_obvious_version(
    story: list[tuple[str, int]], uses: int, expires: int, revoked_at: int
) -> None:
    """``uses`` different peers come in, until the end; these may come back then."""
    invite = invitation(uses=uses, expires=expires)
    admission = kept(invite)
    inside: set[str] = set()
    for number, (peer, wall) in enumerate(story):
        if number == revoked_at:
            admission.revoke(invite.id)
        is_room = not uses or len(inside) < uses
        is_good = not expires or wall <= expires
        good = number < revoked_at and (peer in inside or (is_room and is_good))
        decision = knock(admission, peer, invite, wall=wall)
        assert isinstance(decision, Admit) is good
        inside |= {peer} if good else set()
        assert set(admission.invites[invite.id].used_by) == inside


@pytest.mark.parametrize(
    ("changes", "wall", "why"),
    [
        ({"revoked": True}, 0.0, "this ticket was revoked"),
        ({"expires": 10}, 10.5, "this ticket has expired"),
        ({"uses": 1, "used_by": ("b",)}, 0.0, "this ticket has been used up"),
        ({"uses": 2, "used_by": ("b", "c")}, 0.0, "this ticket has been used up"),
        ({"revoked": True, "used_by": ("a",)}, 0.0, "this ticket was revoked"),
        ({"expires": 10}, 10.0, ""),
        ({"expires": 10, "used_by": ("a",)}, 99.0, ""),
        ({"uses": 0, "used_by": ("b",) * 99}, 0.0, ""),
    ],
)
def test_a_ticket_that_is_over_says_why(
    changes: dict[str, object], wall: float, why: str
) -> None:
    invite = invitation(**changes)
    decision = knock(kept(invite), "a", invite, wall=wall)
    expected = Refused("denied", why) if why else Admit("member", invite.id)
    assert decision == expected


def test_the_knocks_of_one_peer_use_one_use() -> None:
    invite = invitation(uses=2)
    admission = kept(invite)
    for _ in range(5):
        assert isinstance(knock(admission, "a", invite), Admit)
    assert admission.invites[invite.id].used_by == ("a",)
    assert isinstance(knock(admission, "b", invite), Admit)
    assert isinstance(knock(admission, "c", invite), Refused)


@pytest.mark.parametrize("mode", ["ticket", "pending", "open"])
def test_who_does_not_know_the_secret_uses_nothing_up(mode: str) -> None:
    invite = invitation()
    admission = kept(invite, invitation(2))
    right = knocking(record("a"), invite, swarm=SWARM).proof
    wrong: list[dict[str, object]] = [
        {"proof": b""},
        {"proof": bytes(32)},
        {"proof": bytes([right[0] ^ 1, *right[1:]])},
        {"proof": knocking(record("b"), invite, swarm=SWARM).proof},
        {"proof": knocking(record("a"), invite, swarm="other").proof},
        {"proof": knocking(record("a"), invitation(2), swarm=SWARM).proof},
        {"invite": "invite-2"},
        {"invite": "invite-3"},
    ]
    for changes in wrong:
        decision = knock(admission, "a", invite, mode=mode, **changes)
        assert decision == Refused("denied", "this ticket is not known here")
    assert all(not each.used_by for each in admission.invites.values())
    assert not admission.pending


def test_a_ticket_for_any_number_does_not_fill_the_memory() -> None:
    invite = invitation(uses=0)
    admission = kept(invite)
    decisions = [knock(admission, f"x{n}", invite) for n in range(MAX_ROSTER + 9)]
    assert sum(isinstance(each, Admit) for each in decisions) == MAX_ROSTER
    assert len(admission.invites[invite.id].used_by) == MAX_ROSTER


def test_new_invitations_displace_those_that_are_over() -> None:
    good = [invitation(number) for number in range(MAX_INVITES - 2)]
    over = [invitation(9_001, revoked=True), invitation(9_002, expires=5)]
    admission = kept(*good, *over)
    assert not admission.is_full(6.0)
    admission.add(invitation(9_003), 6.0)
    assert "invite-9001" not in admission.invites and len(admission.invites) == len(
        [*good, *over]
    )
    assert admission.is_full(5.0) and not admission.is_full(6.0)
    admission.add(invitation(9_004), 6.0)
    assert admission.is_full(6.0) and len(admission.invites) == MAX_INVITES


def test_what_was_used_is_kept_over_a_restart() -> None:
    invite = invitation()
    before = kept(invite)
    knock(before, "a", invite)
    after = kept(*before.invites.values())
    assert isinstance(knock(after, "a", invite), Admit)
    assert isinstance(knock(after, "b", invite), Refused)


# --- Without a ticket ----------------------------------------------------------------


def test_without_a_ticket_the_mode_decides() -> None:
    admission = Admission()
    denied = knock(admission, "a", mode="ticket")
    assert denied == Refused("denied", "this swarm admits only by ticket")
    assert knock(admission, "a", mode="open") == Admit("member", "")
    assert not admission.pending
    waiting = knock(admission, "a", mode="pending")
    assert isinstance(waiting, Refused) and waiting.code == "pending"
    assert list(admission.pending) == ["a"]


def test_who_was_accepted_comes_in_at_its_next_knock_and_who_was_not_does_not() -> None:
    admission = Admission()
    for peer in ("a", "b"):
        knock(admission, peer, mode="pending")
        knock(admission, peer, mode="pending")
    assert admission.accept("a") == Admit("member", "")
    assert admission.deny("b").code == "denied"
    assert not admission.pending
    assert knock(admission, "a", mode="pending") == Admit("member", "")
    refused = knock(admission, "b", mode="pending")
    assert isinstance(refused, Refused) and refused.code == "denied"
    assert not admission.pending


def test_only_so_many_wait_and_are_remembered() -> None:
    admission = Admission()
    for number in range(3 * MAX_PENDING):
        decision = knock(admission, f"x{number}", mode="pending")
        assert isinstance(decision, Refused) and decision.code == "pending"
    assert len(admission.pending) == MAX_PENDING
    assert isinstance(knock(admission, "x0", mode="pending"), Refused)
    for number in range(3 * MAX_PENDING):
        knock(admission, f"y{number}", mode="pending")
        admission.deny(next(iter(admission.pending)))
    assert len(admission._decided) <= MAX_PENDING


def test_the_last_greeting_of_one_that_waits_counts() -> None:
    """Where it is now is where the answer goes."""
    admission = Admission()
    for port in (5, 6):
        there = record("a", port=port, sequence=port)
        hello = knocking(there, swarm=SWARM)
        admission.decide(there, hello, mode="pending", swarm=SWARM, wall=0.0)
    assert admission.pending["a"][0].port == 6
