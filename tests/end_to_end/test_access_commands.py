"""Who comes in and who must go, by the command line, with real processes.

Addresses and tickets are handed from one home to the other as people would copy them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfusion.security import Ticket
from tests.end_to_end.programs import (
    PATIENCE_S,
    Done,
    Program,
    answered_at_a_terminal,
    end_marked,
    profile,
)

pytestmark = pytest.mark.slow

WAIT = ("--timeout", "240")
SWARM = """
name = "pair"
model = "mlp"
model_arguments = { hidden = [32] }
rounds = 2
min_peers = 2
learning_rate = 0.1
"""
LONG_AGO = 1_000_000_000

Homes = Callable[[str], Program]


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Homes]:
    """Makes homes by name; whatever still runs in them afterwards is ended."""
    mark = f"{os.getpid()}-{tmp_path.name}"
    with ExitStack() as stack:
        stack.callback(end_marked, mark)
        yield lambda name: Program(tmp_path / name, mark)


def founder(path: Path, swarm: str = SWARM) -> str:
    data = 'partition = { rule = "iid", share = "0/2" }\nlimit = 200'
    return str(profile(path / "founder.toml", {"data": data, "swarm": swarm}))


def member(path: Path) -> str:
    data = 'partition = { rule = "iid", share = "1/2" }\nlimit = 200'
    return str(profile(path / "member.toml", {"data": data}))


def began(program: Program, *arguments: str) -> str:
    """Starts a daemon in the background; its address."""
    done = program.run("start", *arguments, "--detach", "--json")
    assert done.code == 0, done
    return str(done.data["address"])


def assert_refused(done: Done, code: int, told: str) -> None:
    """One line that says what happened, and the exit code for it."""
    assert (done.code, done.out) == (code, ""), done
    assert told in done.err and done.err.count("\n") == 1, done.err


def test_a_swarm_by_ticket_from_the_invitation_to_putting_out(
    homes: Homes, tmp_path: Path
) -> None:
    ann, bob = homes("ann"), homes("bob")
    began(ann, founder(tmp_path), "--name", "ann")
    # At once: the command waits until there is a swarm.
    made = ann.run("invite", "create", "--uses", "2", "--expires", "1h", "--qr")
    assert made.code == 0 and made.out.count("\n") == 1, made
    assert "Lets in 2 peers as members" in made.err
    assert "warning: other machines cannot reach 127.0.0.1" in made.err
    assert "█" in made.err
    ticket = made.out.strip()

    began(bob, member(tmp_path), "--name", "bob", "--join", ticket)
    for program in (ann, bob):
        assert program.run("wait", "--for", "done", *WAIT).code == 0
    assert "encrypted   entry by ticket   this peer is an admin" in (
        ann.run("status").out
    )
    assert bob.run("status", "--json").data["security"] == {
        **ann.run("status", "--json").data["security"],  # type: ignore[dict-item]
        "role": "member",
    }
    invites = ann.run("invite", "ls", "--json").data["invites"]
    me = bob.run("id").out.strip()
    assert [each["used_by"] for each in invites] == [[me]]  # type: ignore[attr-defined]
    assert "1 of 2" in ann.run("invite", "ls").out
    trust = bob.run("trust", "ls").out
    assert me in trust and ann.run("id").out.strip() in trust

    assert_refused(bob.run("invite", "create"), 5, "only an admin")
    assert_refused(bob.run("trust", "revoke", "ann", "--yes"), 5, "only an admin")
    assert_refused(bob.run("join", ticket), 10, "already in the swarm 'pair'")
    assert_refused(ann.run("invite", "revoke", "zzzz"), 4, "'zzzz' is unknown here")
    assert_refused(ann.run("trust", "revoke", "nobody", "--yes"), 4, "'nobody'")
    assert_refused(ann.run("trust", "revoke", "ann", "--yes"), 10, "this is you")
    assert_refused(ann.run("trust", "revoke", "bob"), 2, "needs --yes")
    mistyped = me[:-1] + ("a" if me[-1] != "a" else "b")
    revoke = ("trust", "revoke", mistyped, "--yes")
    assert_refused(ann.run(*revoke), 4, "its check characters do not fit")

    spared = answered_at_a_terminal(ann, "n", "trust", "revoke", "bob")
    assert spared.code == 1 and f"bob  {me}" in spared.err
    assert bob.run("status").code == 0
    out = answered_at_a_terminal(
        ann, "y", "trust", "revoke", "bob", "--reason", "lost laptop"
    )
    assert (out.code, out.out.splitlines()[0][:12]) == (0, "Put out: bob")
    assert "put out by ann: lost laptop" in ann.run("trust", "ls").out
    # It is told, ends, and does not come back.
    while bob.run("status").code == 0:
        pass
    again = bob.run("start", member(tmp_path), "--join", ticket)
    assert (again.code, "ann has put this peer out" in again.err) == (5, True), again
    assert ann.run("status", "--json").data["security"]["revoked"] == 1  # type: ignore[index]


@pytest.mark.soak
def test_tickets_that_let_nobody_in(homes: Homes, tmp_path: Path) -> None:
    ann, bob = homes("ann"), homes("bob")
    address = began(ann, founder(tmp_path), "--name", "ann")
    assert ann.run("wait", "--for", "joined", *WAIT).code == 0
    made = ann.run("invite", "create", "--uses", "0", "--expires", "never", "--json")
    ticket, invite = str(made.data["ticket"]), str(made.data["id"])
    assert made.data["expires"] is None

    # Found before a daemon or the network is asked: bob's does not even run.
    last = "a" if ticket[-1] != "a" else "b"
    for given, told in (
        (ticket[:-1] + last, "mistyped or cut off"),
        (ticket[:-9], "mistyped or cut off"),
        (replace(Ticket.decode(ticket), expires=LONG_AGO).encode(), "ended on 2001"),
    ):
        assert_refused(bob.run("join", given), 5, told)
        assert_refused(bob.run("start", member(tmp_path), "--join", given), 5, told)
    assert_refused(bob.run("join", ""), 8, "neither an address nor a ticket")
    assert_refused(bob.run("join", ticket), 3, "no daemon runs")

    # An address where a ticket is wanted: nobody there says anything.
    began(bob, member(tmp_path), "--name", "bob")
    told = "nobody there takes peers without a ticket"
    assert bob.run("join", address, "--timeout", "0.1").code == 6
    while told not in (status := bob.run("status").out):
        pass
    assert f"last error: {told}" in status and "do this:" in status
    assert_refused(bob.run("join", address, "--timeout", "0.1"), 6, told)

    assert ann.run("invite", "revoke", invite[:4]).code == 0
    assert "was revoked" in ann.run("invite", "ls").out
    assert_refused(bob.run("join", ticket, *WAIT), 5, "this ticket was revoked")
    # A swarm with the same invitation that never was: its secret is not known.
    forged = replace(Ticket.decode(ticket), secret=bytes(16)).encode()
    assert_refused(bob.run("join", forged, *WAIT), 5, "does not know this ticket")

    once = ann.run("invite", "create").out.strip()
    assert bob.run("join", once.upper(), *WAIT).code == 0
    cat = homes("cat")
    began(cat, member(tmp_path), "--name", "cat")
    assert_refused(cat.run("join", once, *WAIT), 5, "has been used up")

    # Who is in needs no ticket: an old one does not keep its daemon from starting.
    assert bob.run("stop").code == 0
    old = replace(Ticket.decode(once), expires=LONG_AGO).encode()
    back = bob.run("start", member(tmp_path), "--join", old, "--detach")
    assert back.code == 0 and "this peer is a member and needs none" in back.err
    assert bob.run("wait", "--for", "peers=2", *WAIT).code == 0


def test_knocking_without_a_ticket_where_admins_decide(
    homes: Homes, tmp_path: Path
) -> None:
    ann, bob, cat = homes("ann"), homes("bob"), homes("cat")
    swarm = SWARM + 'admission = "pending"\n'
    address = began(ann, founder(tmp_path, swarm), "--name", "ann")
    assert ann.run("wait", "--for", "joined", *WAIT).code == 0
    assert "Nobody waits" in ann.run("pending", "ls").out
    for program, name in ((bob, "bob"), (cat, "cat")):
        began(program, member(tmp_path), "--name", name)

    sent_away = cat.run("join", address, "--timeout", "0.1")
    assert sent_away.code == 6
    with bob.open("join", address, *WAIT) as joining:
        waiting = _until_waiting(ann, 2)
        assert {each["name"] for each in waiting} == {"bob", "cat"}
        ids = {str(each["name"]): str(each["id"]) for each in waiting}
        assert ids["bob"] == bob.run("id").out.strip()
        shown = ann.run("pending", "ls").out
        assert ids["bob"] in shown and ids["cat"] in shown
        assert "waiting: 2" in ann.run("status").out

        assert_refused(ann.run("pending", "accept", "zz"), 4, "begins with 'zz'")
        assert_refused(bob.run("pending", "accept", ids["cat"]), 4, "no swarm yet")
        assert ids["cat"] in ann.run("pending", "deny", ids["cat"]).out
        accepted = ann.run("pending", "accept", ids["bob"].upper(), "--json")
        assert accepted.data == {"id": ids["bob"], "name": "bob", "accepted": True}
        out, err = joining.communicate(timeout=PATIENCE_S)
    assert (joining.returncode, err) == (0, "")
    # It took ann's key on trust, and says whose it was.
    assert out.startswith("Joined the swarm pair;")
    assert ann.run("id").out.strip() in out and address in out
    assert bob.run("wait", "--for", "done", *WAIT).code == 0
    assert address in bob.run("trust", "ls").out
    assert_refused(cat.run("join", address, *WAIT), 5, "an admin of the swarm has said")


def _until_waiting(program: Program, count: int) -> list[dict[str, object]]:
    """The strangers that wait, once there are so many."""
    while True:
        found = program.run("pending", "ls", "--json").data["pending"]
        assert isinstance(found, list)
        if len(found) >= count:
            return found


@pytest.mark.soak
def test_an_open_swarm_and_two_peers_of_one_name(homes: Homes, tmp_path: Path) -> None:
    ann, bob, cat = homes("ann"), homes("bob"), homes("cat")
    swarm = SWARM.replace("min_peers = 2", "min_peers = 3") + 'admission = "open"\n'
    address = began(ann, founder(tmp_path, swarm), "--insecure-loopback")
    assert ann.run("wait", "--for", "joined", *WAIT).code == 0
    for program in (bob, cat):
        arguments = ("--name", "twin", "--join", address, "--insecure-loopback")
        began(program, member(tmp_path), *arguments)
    assert ann.run("wait", "--for", "peers=3", *WAIT).code == 0
    several = ann.run("trust", "revoke", "twin", "--yes")
    assert_refused(several, 4, "several peers are called 'twin'")
    for program in (bob, cat):
        assert program.run("id").out.strip() in several.err
    assert "NOT ENCRYPTED   entry open to everybody" in ann.run("status").out


def test_a_start_that_would_be_unsafe_is_refused(homes: Homes, tmp_path: Path) -> None:
    program = homes("home")
    insecure = ("start", "--insecure-loopback", "--listen", "0.0.0.0:0", "--detach")
    done = program.run(*insecure)
    assert done.code == 8 and "--insecure-loopback cannot listen on 0.0.0.0" in done.err

    assert program.run("id").code == 0, "the first start has made an identity"
    key = program.home / "device.key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    for arguments in (("start",), ("start", "--detach"), ("id",)):
        assert_refused(program.run(*arguments), 8, f"chmod 600 {key}")
    key.chmod(0o600)
    key.write_text("not a key")
    assert_refused(program.run("start"), 8, f"{key}: not a device key")


@pytest.mark.soak
def test_the_demo_can_do_without_encryption_and_says_so(
    homes: Homes, tmp_path: Path
) -> None:
    arguments = ("--peers", "2", "--rounds", "2", "--keep", str(tmp_path / "kept"))
    done = homes("home").run("demo", "--insecure-loopback", *arguments)
    assert done.code == 0, done
    assert "warning: --insecure-loopback" in done.err
    assert "what they send each other is NOT ENCRYPTED" in done.out
    assert "sent by all peers, NOT ENCRYPTED;" in done.out
    done = homes("home").run("demo", *arguments)
    assert (done.code, done.err) == (0, ""), done
    assert "all that they send each other is encrypted" in done.out
    assert "sent by all peers, encrypted;" in done.out
