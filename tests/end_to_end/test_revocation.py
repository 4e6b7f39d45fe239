"""Members that are put out, with real processes: at once at the sockets, soon in the
plans, for good at the door; and who may let in and put out."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict

import pytest

from tests.end_to_end.callers import LET_IN, SENT_AWAY, caller
from tests.end_to_end.inspection import connections, identity, keys, ports
from tests.end_to_end.programs import Program
from tests.end_to_end.swarm import PATIENCE_S, QUICK, Daemon, Swarm, share

pytestmark = [pytest.mark.slow, pytest.mark.soak]

ROUNDS_PER_EPOCH = 10
"""Some rounds lie between a revocation and the epoch from which it counts."""

SETTINGS = {
    **QUICK,
    "method": "msfusion",
    "min_peers": 3,
    "rounds": 100_000,
    "rounds_per_epoch": ROUNDS_PER_EPOCH,
    # Nobody is given up for being slow.
    "deadline_min_s": 15.0,
}
LOST = "p0 has put this peer out of the swarm: lost laptop"
MISTAKE = "p0 has put this peer out of the swarm: a mistake"


def test_who_was_away_when_it_was_put_out_hears_of_it_when_it_is_back(
    swarm: Swarm,
) -> None:
    founder = swarm.add(data=share(0, 2), swarm={**SETTINGS, "min_peers": 2})
    founder.start()
    away = joined(swarm, founder.ticket())
    away.wait("round=1")
    away.kill()
    founder.ask("trust-revoke", peer="p1", reason="lost laptop")
    # Where it was: nobody listens to it, so elsewhere nobody would find it.
    away.start("--listen", away.address)
    assert_ends(away, LOST)


def test_admins_let_in_and_put_out_and_the_others_go_on(swarm: Swarm) -> None:
    founder = swarm.add(data=share(0, 4), swarm=SETTINGS)
    founder.start()
    member = joined(swarm, founder.ticket())
    admin = joined(swarm, founder.ticket(role="admin"))
    member.wait("round=0")
    assert_may_let_nobody_in(member)
    late = joined(swarm, admin.ticket())
    seen = seen_by(founder)
    assert seen["p2"]["role"] == "admin"
    assert (seen["p3"]["role"], seen["p3"]["admitted_by"]) == ("member", admin.peer)
    for daemon in (founder, member, admin, late):
        daemon.wait("round=1")
        daemon.wait("peers=4")

    begin_an_epoch(founder)
    # While it cannot do anything itself, only the others can have hung up.
    os.kill(member.pid, signal.SIGSTOP)
    founder.ask("trust-revoke", peer="p1", reason="lost laptop")
    first = first_round_without(founder, "p1")
    assert_leaves_the_plans([founder, admin, late], "p1", first)
    for daemon in (founder, admin, late):
        assert_is_shut_out(daemon, member)
    os.kill(member.pid, signal.SIGCONT)
    assert_ends(member, LOST)
    assert_misses_nobody([founder, admin, late], since=first)
    member.launch("--join", founder.ticket())
    assert_ends(member, LOST)

    # Whom an admin has let in goes with it.
    out = founder.ask("trust-revoke", peer="p2", reason="a mistake")["put_out"]
    assert {each["name"] for each in out} == {"p2", "p3"}  # type: ignore[attr-defined]
    for daemon in (admin, late):
        assert_ends(daemon, MISTAKE)
    assert_misses_nobody([founder], since=first_round_without(founder, "p2"))


def joined(swarm: Swarm, ticket: str) -> Daemon:
    """One more peer, by ticket."""
    daemon = swarm.add(data=share(len(swarm.daemons), 4))
    daemon.start("--join", ticket)
    daemon.wait("joined")
    return daemon


def seen_by(daemon: Daemon) -> dict[str, dict[str, object]]:
    """Everybody that a daemon has heard of, by name."""
    rows = daemon.ask("trust-ls")["peers"]
    assert isinstance(rows, list)
    return {row["name"]: row for row in rows}


def assert_may_let_nobody_in(member: Daemon) -> None:
    program = Program(member.home)
    for command in (("invite", "create"), ("trust", "revoke", "p0", "--yes")):
        done = program.run(*command)
        assert (done.code, done.out) == (5, ""), done
        assert "only an admin" in done.err and done.err.count("\n") == 1, done


def assert_ends(daemon: Daemon, told: str) -> None:
    """It ends by itself, with the exit code for this and a line that says why."""
    code, line = daemon.ended()
    assert code == 5 and told in line, daemon.errors()
    assert "Traceback" not in daemon.errors()


# --- In the plans --------------------------------------------------------------------


def begin_an_epoch(daemon: Daemon) -> None:
    """Waits for the beginning of an epoch: then as many rounds as can be lie between a
    revocation and the epoch from which it counts."""
    reached = int(str(daemon.wait("round=0")["round"]))
    daemon.wait(f"round={reached + ROUNDS_PER_EPOCH - reached % ROUNDS_PER_EPOCH}")


def first_round_without(daemon: Daemon, name: str) -> int:
    """The first round of the epoch from which a revocation counts."""
    epoch = int(str(seen_by(daemon)[name]["revoked_from_epoch"]))
    return epoch * ROUNDS_PER_EPOCH


def assert_leaves_the_plans(daemons: list[Daemon], name: str, first: int) -> None:
    """A peer is in everybody's plans until its last round, and in none from then on."""
    rosters = rosters_until(daemons, first + 2)
    assert min(rosters) < first, "it was too late to see it in a plan"
    for number, said in rosters.items():
        assert len(said) == 1, (number, said)
        (roster,) = said
        assert (name in roster) == (number < first), (number, roster)
    for daemon in daemons:
        assert first_round_without(daemon, name) == first


def rosters_until(daemons: list[Daemon], last: int) -> dict[int, set[tuple[str, ...]]]:
    """What daemons tell of whom their rounds are planned for, until all of them have
    reached the last one."""
    found: dict[int, set[tuple[str, ...]]] = defaultdict(set)
    deadline = time.monotonic() + PATIENCE_S
    reached = 0
    while reached < last:
        assert time.monotonic() < deadline, f"only round {reached} was reached"
        numbers = []
        for daemon in daemons:
            plan = daemon.ask("plan")
            numbers.append(int(str(plan["round"])))
            names = tuple(each["name"] for each in plan["roster"])  # type: ignore[attr-defined]
            found[numbers[-1]].add(names)
        reached = min(numbers)
    return found


def assert_misses_nobody(daemons: list[Daemon], since: int) -> None:
    """Rounds go on without waiting for who has left the plans."""
    for daemon in daemons:
        daemon.wait(f"round={since + 5}")
        rows = [row for row in daemon.rounds() if int(str(row["number"])) >= since]
        assert len(rows) >= 5
        assert all(row["missing"] == [] for row in rows), rows


# --- At the sockets ------------------------------------------------------------------


def assert_is_shut_out(daemon: Daemon, member: Daemon) -> None:
    """A daemon has no connection with a member, and refuses its key."""
    # Who knocked with a ticket proved the ticket's key. That connection may stay with
    # the issuer, p0, for a while; what comes over it is from nobody that is known.
    most = 1 if daemon.home.name == "0" else 0
    daemon.until(lambda: connections(daemon, member) <= most)
    with caller(ports(daemon)[0], keys(member)) as again:
        again.call([b"hello"], key=identity(daemon).transport_key)
        assert not again.until(SENT_AWAY) & LET_IN
