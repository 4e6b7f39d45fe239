"""Machines that nobody can dial: behind routers that let no connection in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.hosts import start
from tests.end_to_end.namespaces import Network, network, why_not
from tests.end_to_end.swarm import QUICK, Daemon, Swarm, share, swarms

pytestmark = pytest.mark.slow


@pytest.fixture
def net() -> Iterator[Network]:
    """A switch, to which hosts can be connected."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with network() as made:
        yield made


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
    ticket = founder.ticket()
    start(net.host(inbound=False), hidden, "--advertise", "none", "--join", ticket)
    for daemon in (founder, hidden):
        daemon.wait("done")
    assert founder.ask("status")["traffic"]["relayed_bytes"] == 0


def test_two_that_can_only_dial_out_exchange_through_a_third(
    net: Network, swarm: Swarm
) -> None:
    founder, *hidden = add(swarm, 3)
    start(net.host(), founder)
    ticket = founder.ticket(uses=2)
    for daemon in hidden:
        start(net.host(inbound=False), daemon, "--advertise", "none", "--join", ticket)
    for daemon in (founder, *hidden):
        daemon.wait("done")
