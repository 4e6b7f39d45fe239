"""What can be seen of a running daemon from outside: keys, ports, rounds, refusals."""

from __future__ import annotations

from collections.abc import Iterable

import psutil

from p2pfusion.daemon.home import Home
from p2pfusion.daemon.identity import Identity, read_identity
from p2pfusion.transport import Keys
from tests.end_to_end.swarm import Daemon


def identity(daemon: Daemon) -> Identity:
    """Who a daemon is."""
    found = read_identity(Home(daemon.home))
    assert found is not None
    return found


def keys(daemon: Daemon) -> Keys:
    """The keys that a daemon's control connections prove."""
    who = identity(daemon)
    return Keys(who.transport_key, who.transport_secret)


def ports(daemon: Daemon) -> tuple[int, int]:
    """Where a daemon really listens: control and data."""
    found = psutil.Process(daemon.pid).net_connections("tcp")
    listens = [each for each in found if each.status == psutil.CONN_LISTEN]
    control, data = sorted(each.laddr.port for each in listens)
    return control, data


def accepted(daemon: Daemon, port: int) -> int:
    """How many connections to this local port stand."""
    return sum(
        each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED
        for each in psutil.Process(daemon.pid).net_connections("tcp")
    )


def connections(daemon: Daemon, other: Daemon) -> int:
    """How many connections stand between two daemons, whoever made them."""
    theirs = psutil.Process(other.pid).net_connections("tcp")
    numbers = {each.laddr.port for each in theirs}
    return sum(
        each.status == psutil.CONN_ESTABLISHED and each.raddr.port in numbers
        for each in psutil.Process(daemon.pid).net_connections("tcp")
    )


def resident_bytes(daemon: Daemon) -> int:
    """The memory that a daemon has now."""
    return int(psutil.Process(daemon.pid).memory_info().rss)


def states(daemon: Daemon) -> list[str]:
    """How the members appear to a daemon, itself first."""
    rows = daemon.ask("peers")["peers"]
    assert isinstance(rows, list)
    return [str(row["state"]) for row in rows]


def number_of_round(daemon: Daemon) -> int:
    """The round that a daemon is in; -1 while it is in none."""
    found = daemon.ask("status")["round"]
    assert isinstance(found, dict)
    return -1 if found["number"] is None else int(found["number"])


def refused(daemon: Daemon, reason: str) -> int:
    """How often a daemon has refused something for this reason."""
    found = daemon.ask("status")["security"]
    assert isinstance(found, dict)
    return int(found["refused"].get(reason, 0))


def assert_goes_on(daemons: Iterable[Daemon], since: int, rounds: int = 2) -> None:
    """The daemons seal so many rounds more, and missed nothing in any since then."""
    daemons = list(daemons)
    end = max(map(number_of_round, daemons)) + rounds
    for daemon in daemons:
        daemon.wait(f"round={end}")
        rows = [row for row in daemon.rounds() if int(str(row["number"])) >= since]
        assert len(rows) >= rounds
        for row in rows:
            assert row["missing"] == [] and row["stale_ranges"] == 0, row
