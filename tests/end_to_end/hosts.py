"""Daemons on hosts of their own: each with an address, as on machines of a network."""

from __future__ import annotations

from tests.end_to_end.namespaces import Host
from tests.end_to_end.swarm import Daemon, Swarm, share

PORT = 7788


def start(host: Host, daemon: Daemon, *options: str) -> None:
    """Starts a daemon that listens on its host's address."""
    with host.inside():
        daemon.start("--listen", f"{host.address}:{PORT}", *options)


def start_all(
    swarm: Swarm, hosts: list[Host], settings: dict[str, object]
) -> list[Daemon]:
    """A founder on the first host and others that join it, with a share of the digits
    each; the swarm begins when all are there."""
    count = len(hosts)
    made = [
        swarm.add(
            data=share(number, count, 0.1),
            swarm={**settings, "min_peers": count} if not number else None,
        )
        for number in range(count)
    ]
    founder, *others = made
    start(hosts[0], founder)
    ticket = founder.ticket(uses=count)
    for host, daemon in zip(hosts[1:], others, strict=True):
        start(host, daemon, "--join", ticket)
    return made
