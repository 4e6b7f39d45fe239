"""Machines that nobody can dial: behind routers that let no connection in."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from p2pfusion.errors import ConfigError
from tests.end_to_end.hosts import PORT, start
from tests.end_to_end.namespaces import Host, Network
from tests.end_to_end.swarm import QUICK, Daemon, Data, Swarm, share, swarms

pytestmark = pytest.mark.slow


@pytest.fixture
def swarm(net: Network) -> Iterator[Swarm]:
    """A place for daemons, which end before their network does."""
    with swarms() as made:
        yield made


def add(swarm: Swarm, count: int, **settings: object) -> list[Daemon]:
    """A founder and others, that do not run yet."""
    first = {**QUICK, "method": "msfusion", "min_peers": count, "rounds": 4, **settings}
    return [
        swarm.add(data=share(number, count), swarm=None if number else first)
        for number in range(count)
    ]


def test_one_that_can_only_dial_out_trains_with_one_that_it_dials(
    net: Network, swarm: Swarm
) -> None:
    founder, hidden = add(swarm, 2)
    start(net.host(), founder)
    ticket = founder.ticket(role="admin")
    start(net.host(inbound=False), hidden, "--advertise", "none", "--join", ticket)
    for daemon in (founder, hidden):
        daemon.wait("done")
    assert founder.ask("status")["traffic"]["relayed_bytes"] == 0
    assert hidden.ask("status")["self"]["addresses"] == []
    with pytest.raises(ConfigError, match="nobody can use a ticket"):
        hidden.ask("invite-create")


def test_one_that_can_only_dial_out_founds_nothing(swarm: Swarm) -> None:
    (founder,) = add(swarm, 1)
    founder.launch("--advertise", "none")
    code, line = founder.ended()
    assert code == 8 and "cannot found a swarm" in line


def test_two_that_can_only_dial_out_exchange_through_a_third(
    net: Network, swarm: Swarm
) -> None:
    founder, *hidden = add(swarm, 3)
    founder_host = net.host()
    start(founder_host, founder)
    ticket = founder.ticket(uses=2)
    for daemon in hidden:
        host = net.host(inbound=False)
        assert_shut(founder_host, host)
        start(host, daemon, "--advertise", "none", "--join", ticket)
    for daemon in (founder, *hidden):
        daemon.wait("done")
    first, second = hidden
    (row,) = (each for each in rows(first) if each["id"] == second.peer)
    assert row["address"] == "dials out only"
    assert row["through"] == founder.ask("status")["self"]["name"]
    assert row["received_bytes"] > 0
    assert founder.ask("status")["traffic"]["relayed_bytes"] > row["received_bytes"]
    answered = first.ask("ping", peer=second.peer)
    assert answered["answered"] and answered["through"] == row["through"]


@pytest.mark.soak
def test_when_the_relay_dies_in_the_middle_another_takes_over(
    net: Network, swarm: Swarm
) -> None:
    founder, other, *hidden = add(swarm, 4, rounds=8)
    for daemon in (founder, other):
        joins = () if daemon is founder else ("--join", founder.ticket())
        start(net.host(), daemon, *joins)
    ticket = founder.ticket(uses=2)
    for daemon in hidden:
        start(net.host(inbound=False), daemon, "--advertise", "none", "--join", ticket)
    first, second = hidden
    first.until(lambda: second.peer in ways(first))
    first.wait("round=2")
    names = {each.ask("status")["self"]["name"]: each for each in (founder, other)}
    relay = names.pop(ways(first)[second.peer])
    relay.kill()
    for daemon in hidden:
        daemon.wait("done")
    assert ways(first)[second.peer] in names


def rows(daemon: Daemon) -> list[Data]:
    """What a daemon says of the members."""
    found = daemon.ask("peers")["peers"]
    assert isinstance(found, list)
    return found


def ways(daemon: Daemon) -> dict[str, str]:
    """Through whom others are reached, by their ids."""
    return {row["id"]: row["through"] for row in rows(daemon) if row["through"]}


def assert_shut(here: Host, there: Host) -> None:
    """Nobody can dial the one from the other, though something listens."""
    with there.inside():
        listener = socket.create_server((there.address, PORT))
    with here.inside(), listener, pytest.raises(TimeoutError):
        socket.create_connection((there.address, PORT), timeout=2.0)
