"""Invitations, strangers and members as people read them."""

from __future__ import annotations

import pytest

from p2pfusion.cli.access_screens import (
    NO_INVITES,
    first_contact_text,
    instant,
    invites_screen,
    loopback_warning,
    pending_screen,
    put_out_question,
    put_out_text,
    ticket_notes,
    timestamp,
    trust_screen,
)
from tests.cli.samples import ANN, BOB, CAT, INVITES, TRUST

INVITES_WIDE = """\
ID        ROLE    USED         ENDS                  STATE
7kq2m4rx  member  1 of 3       2026-11-21 17:20 UTC  good
9zc4l0tx  admin   0, no limit  never                 was revoked"""

PENDING = f"""\
ID                                         CALLS ITSELF  ADDRESS
{BOB}  bob           192.0.2.7:7788

Compare the id with what `p2pfusion id` prints on that machine, then:
  p2pfusion pending accept ID"""

TRUSTED = f"""\
ID                                         NAME  ROLE    LET IN BY  STATE
{ANN}  ann*  admin   (founder)  trusted
{BOB}  bob   admin   ann        put out by ann: stolen
{CAT}  cat   member  bob        put out by ann

Taken on trust when they were first met at these addresses:
  192.0.2.10:7788  {ANN}"""

NOTES = """\
Lets in 3 peers as members until 2026-11-21 17:20 UTC:
  p2pfusion start PROFILE --join TICKET
Whoever reads the ticket can use it. To take it back:
  p2pfusion invite revoke 7kq2m4rx"""


def test_times_for_people_and_for_programs() -> None:
    assert instant(1_795_281_600) == "2026-11-21 17:20 UTC"
    assert timestamp(1_795_281_600) == "2026-11-21T17:20:00Z"
    for nothing in (None, 0):
        assert (instant(nothing), timestamp(nothing)) == ("never", None)


def test_invitations() -> None:
    assert invites_screen(INVITES, 100) == INVITES_WIDE
    assert invites_screen([], 100) == NO_INVITES


def test_who_waits_is_shown_with_the_whole_id() -> None:
    waiting = [{"id": BOB, "name": "bob", "address": "192.0.2.7:7788"}]
    assert pending_screen("pending", waiting, 100) == PENDING
    assert BOB in pending_screen("pending", waiting, 80)


@pytest.mark.parametrize(
    ("admission", "told"),
    [("ticket", "by ticket"), ("open", "everybody"), (None, "unknown")],
)
def test_nobody_waits_where_the_rule_is_another(admission: object, told: str) -> None:
    text = pending_screen(admission, [], 100)
    assert text.startswith("Nobody waits") and told in text


def test_who_is_trusted_and_by_whose_word() -> None:
    names = {ANN: "ann", BOB: "bob", CAT: "cat"}
    contacts = {"192.0.2.10:7788": ANN}
    assert trust_screen(TRUST, contacts, names, 120) == TRUSTED
    narrow = trust_screen(TRUST, {}, names, 80)
    assert "LET IN BY" not in narrow and all(peer in narrow for peer in (ANN, BOB, CAT))


def test_a_new_ticket_comes_with_what_it_is_good_for() -> None:
    assert ticket_notes(INVITES[0]) == NOTES
    first, *_ = ticket_notes(INVITES[1]).splitlines()
    assert first == (
        "Lets in any number of peers as admins, who can let in and put out others, "
        "until it is revoked:"
    )
    one = {**INVITES[0], "uses": 1}
    assert ticket_notes(one).startswith("Lets in 1 peer as a member until")
    one["role"] = "admin"
    assert ticket_notes(one).startswith("Lets in 1 peer as an admin, who can let in")


def test_a_ticket_for_this_machine_only_says_so() -> None:
    text = loopback_warning(["127.0.0.1:7788"])
    assert "127.0.0.1:7788" in text and "--listen 0.0.0.0:7788" in text


def test_who_is_put_out_is_named_first() -> None:
    alone = put_out_question("cat", [{"id": CAT, "name": "cat"}])
    assert alone == f"This puts out of the swarm for good:\n  cat  {CAT}"
    two = [{"id": BOB, "name": "bob"}, {"id": CAT, "name": "cat"}]
    question = put_out_question("bob", two)
    assert question.startswith(
        "This puts out of the swarm for good, bob and whom it has let in:\n"
    )
    assert question.endswith(f"  bob  {BOB}\n  cat  {CAT}")
    assert put_out_text(two).startswith("Put out: bob, cat.")


def test_a_first_contact_is_to_be_compared() -> None:
    text = first_contact_text({"192.0.2.10:7788": ANN})
    assert ANN in text and "192.0.2.10:7788" in text and "`p2pfusion id`" in text
