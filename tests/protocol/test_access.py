"""Whole swarms in virtual time: who comes in, by which way, and who is sent away."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.access import Decided, Invited, InviteRevoked, JoinBy
from p2pfusion.protocol.admission import Invite
from tests.protocol.names import (
    invitation,
    knocking,
    record,
)
from tests.protocol.swarm import GUEST, Swarm, small_manifest, started
from tests.protocol.test_peer import nobody_is_missing, sealed_rounds


def founded(admission: str, **changes: object) -> Swarm:
    """A swarm of p0 alone, which waits for two more."""
    swarm = Swarm(small_manifest(**{"admission": admission, "rounds": 8, **changes}))
    swarm.add("p0")
    swarm.found("p0")
    return swarm


def invited(swarm: Swarm, by: str = "p0", **changes: object) -> Invite:
    """A new invitation of this peer."""
    invite = invitation(len(swarm.log), **changes)
    swarm.event(by, Invited(invite))
    return invite


def newcomer(swarm: Swarm, name: str, by: str, invite: Invite | None = None) -> None:
    swarm.add(name)
    swarm.join(name, by, invite)


def why(swarm: Swarm, name: str) -> str:
    """What a newcomer says why it is not in."""
    assert swarm.hosts[name].peer.manifest is None
    return swarm.hosts[name].peer.gossip.joining.knocking[0].last_error


def knocks(swarm: Swarm, name: str) -> int:
    return swarm.hosts[name].peer.gossip.joining.knocking[0].attempts


def is_in(swarm: Swarm, name: str) -> bool:
    """Whether everybody who is alive takes it for a member, and no less."""
    hosts = [h for h in swarm.hosts.values() if h.alive and h.peer.manifest is not None]
    return all(host.peer.gossip.is_member(name) for host in hosts)


# --- Ways in -------------------------------------------------------------------------


def test_tickets_make_a_swarm_that_trains() -> None:
    swarm = founded("ticket")
    invite = invited(swarm, uses=2)
    for name in ("p1", "p2"):
        newcomer(swarm, name, "p0", invite)
    swarm.run_until_done()
    nobody_is_missing(swarm)
    for host in swarm.hosts.values():
        assert sealed_rounds(swarm, host.name) == list(range(8))
        facts = host.peer.gossip.facts
        roles = [facts.role(name) for name in ("p0", "p1", "p2")]
        assert roles == ["admin", "member", "member"]
    (saved,) = swarm.hosts["p0"].invites
    assert saved.used_by == ("p1", "p2")


def test_without_a_ticket_there_is_no_way_in_and_the_newcomer_knows_why() -> None:
    swarm = founded("ticket")
    swarm.add("p1")
    swarm.join_address("p1", by="p0")
    swarm.run_to(30.0)
    assert why(swarm, "p1") == "nobody there takes peers without a ticket"
    assert knocks(swarm, "p1") > 3, "the swarm's rule may not be what it was"
    # Where nothing is encrypted, its greeting comes as far as the door.
    for sender in ("p1", GUEST + "00" * 32):
        hello = knocking(record("p1", port=2))
        swarm.event("p0", e.Received(sender, hello))
    swarm.run_to(31.0)
    (report, _) = swarm.hosts["p0"].reported("newcomer-denied")
    assert report.details["why"] == "this swarm admits only by ticket"
    assert not swarm.hosts["p0"].peer.gossip.is_member("p1")


TicketOf = Callable[[Swarm], Invite]


def used_up(swarm: Swarm) -> Invite:
    invite = invited(swarm)
    newcomer(swarm, "p7", "p0", invite)
    swarm.run(lambda: is_in(swarm, "p7"))
    return invite


def revoked(swarm: Swarm) -> Invite:
    invite = invited(swarm)
    swarm.event("p0", InviteRevoked(invite.id))
    return invite


def expired(swarm: Swarm) -> Invite:
    invite = invited(swarm, expires=int(swarm.now) + 1)
    swarm.run_to(swarm.now + 1.5)
    return invite


@pytest.mark.parametrize("admission", ["ticket", "pending", "open"])
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (used_up, "this ticket has been used up"),
        (revoked, "this ticket was revoked"),
        (expired, "this ticket has expired"),
    ],
)
def test_a_ticket_that_is_over_lets_nobody_in_and_says_why(
    admission: str, make: TicketOf, text: str
) -> None:
    swarm = founded(admission)
    invite = make(swarm)
    newcomer(swarm, "p1", "p0", invite)
    swarm.run_to(swarm.now + 60.0)
    assert why(swarm, "p1") == text
    assert knocks(swarm, "p1") == 1, "there is no use in another"
    (report,) = swarm.hosts["p1"].reported("denied")
    assert report.details == {"text": text}
    assert not is_in(swarm, "p1")


def test_a_ticket_that_the_issuer_does_not_know_is_refused_at_the_socket() -> None:
    swarm = founded("ticket")
    newcomer(swarm, "p1", "p0", invitation(77))
    swarm.run_to(60.0)
    assert why(swarm, "p1") == "the peer there does not know this ticket"
    assert knocks(swarm, "p1") == 1


def test_a_ticket_into_another_swarm_is_refused() -> None:
    swarm = founded("ticket")
    invite = invited(swarm)
    way = dataclasses.replace(swarm.way("p0", invite), swarm="another")
    swarm.add("p1")
    swarm.event("p1", JoinBy(way))
    swarm.run_to(60.0)
    assert why(swarm, "p1") == "this ticket is not known here"
    assert not swarm.hosts["p0"].invites[0].used_by


def test_whoever_answers_with_another_key_is_not_believed() -> None:
    swarm = founded("ticket")
    way = dataclasses.replace(swarm.way("p0", invited(swarm)), key=bytes(32))
    swarm.add("p1")
    swarm.event("p1", JoinBy(way))
    swarm.run_to(60.0)
    assert why(swarm, "p1") == "whoever answers there has another key than expected"
    assert knocks(swarm, "p1") == 1


def test_an_admin_accepts_or_denies_who_knocked() -> None:
    swarm = founded("pending")
    for name in ("p1", "p2", "p3"):
        swarm.add(name)
        swarm.join_address(name, by="p0")
    swarm.run_to(3.0)
    for name in ("p1", "p2", "p3"):
        assert why(swarm, name) == "an admin of the swarm has to accept this peer"
    assert list(swarm.hosts["p0"].peer.door.admission.pending) == ["p1", "p2", "p3"]
    swarm.event("p0", Decided("p1", True))
    swarm.event("p0", Decided("p3", False))
    swarm.run_to(4.0)
    assert is_in(swarm, "p1") and not is_in(swarm, "p2")
    assert why(swarm, "p3") == "an admin of the swarm has said no"
    swarm.event("p0", Decided("p2", True))
    swarm.hosts["p3"].alive = False
    swarm.run_until_done()
    assert swarm.hosts["p0"].sealed[-1]["contributors"] == ["p0", "p1", "p2"]


def test_one_that_was_accepted_while_it_was_away_comes_in_when_it_is_back() -> None:
    swarm = founded("pending", min_peers=2)
    swarm.add("p1")
    swarm.join_address("p1", by="p0")
    swarm.run_to(1.0)
    swarm.kill("p1")
    swarm.event("p0", Decided("p1", True))
    swarm.run_to(3.0)
    swarm.restart_empty("p1")
    swarm.join_address("p1", by="p0")
    swarm.run_until_done()
    nobody_is_missing(swarm)


@pytest.mark.parametrize("by_address", [True, False])
def test_an_open_swarm_takes_everybody(by_address: bool) -> None:
    swarm = founded("open")
    for name in ("p1", "p2"):
        swarm.add(name)
        if by_address:
            swarm.join_address(name, by="p0")
        else:
            swarm.join(name, by="p0")
    swarm.run_until_done()
    nobody_is_missing(swarm)


def test_a_member_that_is_no_admin_names_one() -> None:
    swarm = started(3, rounds=20)
    swarm.run_to(1.5)
    swarm.add("p7")
    swarm.join_address("p7", by="p1")
    swarm.run_to(5.0)
    assert why(swarm, "p7").endswith("ask p0 at 127.0.0.1:1")
    swarm.join_address("p7", by="p0")
    swarm.run_until_done()
    assert swarm.hosts["p7"].trained


def test_a_member_with_an_admins_ticket_can_invite() -> None:
    swarm = founded("ticket", rounds=20, min_peers=1)
    newcomer(swarm, "p1", "p0", invited(swarm, role="admin"))
    swarm.run(lambda: swarm.hosts["p1"].peer.door.is_admin)
    newcomer(swarm, "p2", "p1", invited(swarm, by="p1"))
    swarm.run(lambda: swarm.hosts["p2"].peer.manifest is not None)
    swarm.run_to(swarm.now + 3.0)
    assert is_in(swarm, "p2")
    for host in swarm.hosts.values():
        assert host.peer.gossip.facts.admitted_by("p2") == "p1"
    # A ticket is good at whom it comes from, and nowhere else.
    newcomer(swarm, "p3", "p0", invited(swarm, by="p1"))
    swarm.run_to(swarm.now + 3.0)
    assert "does not know this ticket" in why(swarm, "p3")
    swarm.kill("p3")
    swarm.run_until_done()
    assert swarm.hosts["p0"].sealed[-1]["contributors"] == ["p0", "p1", "p2"]


def test_two_that_share_a_ticket_for_one_do_not_both_come_in() -> None:
    swarm = founded("ticket", min_peers=2)
    invite = invited(swarm)
    for name in ("p1", "p2"):
        newcomer(swarm, name, "p0", invite)
    swarm.run_to(5.0)
    inside = [name for name in ("p1", "p2") if is_in(swarm, name)]
    assert len(inside) == 1
    (other,) = {"p1", "p2"} - set(inside)
    assert why(swarm, other) == "this ticket has been used up"


def test_answers_that_are_lost_do_not_use_a_ticket_up() -> None:
    swarm = founded("ticket", min_peers=2)
    invite = invited(swarm)
    swarm.cut = lambda a, b, m: a == "p0" and swarm.now < 4.0
    newcomer(swarm, "p1", "p0", invite)
    swarm.run_until_done()
    nobody_is_missing(swarm, since=6)
    assert knocks_so_far(swarm, "p1") > 3
    assert swarm.hosts["p0"].invites[0].used_by == ("p1",)


def knocks_so_far(swarm: Swarm, name: str) -> int:
    return sum(f" {name} > Knock " in line for line in swarm.log)


# --- Starting again ------------------------------------------------------------------


def test_tickets_outlive_their_issuer() -> None:
    swarm = founded("ticket", min_peers=3, rounds=20)
    invite = invited(swarm, uses=2)
    newcomer(swarm, "p1", "p0", invite)
    swarm.run(lambda: is_in(swarm, "p1"))
    swarm.kill("p0")
    swarm.restart("p0")
    # As a daemon does that finds a swarm of its own which has not started.
    swarm.found("p0")
    assert swarm.hosts["p0"].peer.gossip.is_member("p1"), "nothing is forgotten"
    newcomer(swarm, "p2", "p0", invite)
    swarm.run_until_done()
    assert len(swarm.hosts["p0"].reported("joined")) == 2
    assert swarm.hosts["p0"].sealed[0]["contributors"] == ["p0", "p1", "p2"]
    newcomer(swarm, "p3", "p0", invite)
    swarm.run_to(swarm.now + 3.0)
    assert why(swarm, "p3") == "this ticket has been used up"


@pytest.mark.parametrize("admission", ["ticket", "pending", "open"])
def test_a_member_that_lost_its_disk_is_welcome_with_its_old_credential(
    admission: str,
) -> None:
    swarm = founded(admission, rounds=24)
    invite = invited(swarm, uses=2)
    for name in ("p1", "p2"):
        newcomer(swarm, name, "p0", invite)
    swarm.run_to(4.5)
    before = swarm.hosts["p2"].peer.gossip.credential
    swarm.kill("p2")
    swarm.run_to(6.0)
    swarm.restart_empty("p2")
    # Not even an admin has to be asked.
    swarm.join("p2", by="p1")
    swarm.run_until_done()
    host = swarm.hosts["p2"]
    assert host.peer.gossip.credential == before != b""
    assert host.incarnation == 2 and host.trained
    assert swarm.hosts["p0"].invites[0].used_by == ("p1", "p2")
    nobody_is_missing(swarm, since=20)


def test_who_dies_before_it_knows_anybody_can_join_again() -> None:
    swarm = founded("ticket", rounds=20, min_peers=1)
    invite = invited(swarm)
    newcomer(swarm, "p1", "p0", invite)
    swarm.run(lambda: swarm.hosts["p1"].peer.manifest is not None)
    assert swarm.hosts["p1"].peer.gossip.facts.records.keys() == {"p1"}
    swarm.kill("p1")
    swarm.restart("p1")
    swarm.join("p1", "p0", invite)
    swarm.run_until_done()
    assert swarm.hosts["p1"].trained
    assert swarm.hosts["p0"].invites[0].used_by == ("p1",)
