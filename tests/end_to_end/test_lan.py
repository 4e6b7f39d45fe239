"""Daemons that announce themselves in their network, which is found by multicast."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.hosts import PORT, start
from tests.end_to_end.namespaces import Network
from tests.end_to_end.programs import Program
from tests.end_to_end.swarm import QUICK, Daemon, Swarm, share, swarms

pytestmark = pytest.mark.slow


@pytest.fixture
def swarm(net: Network) -> Iterator[Swarm]:
    """A place for daemons, which end before their network does."""
    with swarms() as made:
        yield made


def pair(swarm: Swarm) -> list[Daemon]:
    settings = {**QUICK, "min_peers": 2, "rounds": 100_000}
    return [
        swarm.add(
            peer={"lan": True},
            data=share(number, 2),
            swarm=settings if not number else None,
        )
        for number in range(2)
    ]


def online(daemon: Daemon) -> list[bool]:
    found = daemon.ask("peers")["peers"]
    assert isinstance(found, list)
    return [row["online"] for row in found]


@pytest.mark.soak
def test_they_are_found_and_find_each_other_again_when_all_addresses_have_changed(
    net: Network, swarm: Swarm
) -> None:
    founder, other = pair(swarm)
    here, there = net.host(), net.host()
    start(here, founder)
    start(there, other, "--join", founder.ticket())
    for daemon in (founder, other):
        daemon.until(lambda d=daemon: online(d) == [True, True])
    with there.inside():
        program, found = Program(other.home), []
        while len(found) < 2 or not all(row["swarm"] for row in found):
            found = program.run("discover", "--json").data["found"]
        text = program.run("discover", "--seconds", "2").out
    swarm_id = founder.ask("status")["swarm"]["id"]
    for host, daemon in ((here, founder), (there, other)):
        (row,) = (each for each in found if each["id"] == daemon.peer)
        assert row["addresses"] == [f"{host.address}:{PORT}"]
        assert swarm_id.startswith(row["swarm"])
        assert row["name"] in text and row["addresses"][0] in text
    for daemon in (founder, other):
        daemon.interrupt()
        assert daemon.ended()[0] == 0
    for daemon in (founder, other):
        start(net.host(), daemon)
    for daemon in (founder, other):
        daemon.until(lambda d=daemon: online(d) == [True, True])
    logs = [(daemon.home / "daemon.log").read_text() for daemon in (founder, other)]
    assert any("announces itself at" in log for log in logs)
