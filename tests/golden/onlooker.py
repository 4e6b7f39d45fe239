"""A real ``Node`` around a peer of a swarm in memory, so that one can ask it.

Nothing in it runs: its clock is the swarm's, its trainer is whatever a test says, and
what the protocol has reported is told to it as the loop would.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from p2pfusion.cli.fields import rows
from p2pfusion.cli.status_screen import status_screen
from p2pfusion.daemon import answers
from p2pfusion.daemon.apprentice import Apprentice
from p2pfusion.daemon.config import Profile
from p2pfusion.daemon.control import ControlServer
from p2pfusion.daemon.entrance import Entrance
from p2pfusion.daemon.home import Home
from p2pfusion.daemon.identity import create_identity
from p2pfusion.daemon.links import Links
from p2pfusion.daemon.members import member_rows
from p2pfusion.daemon.node import Node
from p2pfusion.daemon.payloads import Payloads
from p2pfusion.daemon.state import SwarmState
from p2pfusion.security import ExchangeKey
from p2pfusion.transport import Address
from p2pfusion.transport.memory import Hub, MemoryTransport
from tests.protocol.swarm import Swarm

SCREEN_WIDTH = 130


class Still(Apprentice):
    """A trainer without a process: its state is what a test says."""

    def _start(self) -> None:  # type: ignore[override]
        return None


@contextmanager
def onlooker(swarm: Swarm, name: str, profile: Profile | None = None) -> Iterator[Node]:
    """The node of this peer, at this moment of the swarm."""
    host, chosen = swarm.hosts[name], profile or Profile()
    with ExitStack() as closing:
        root = closing.enter_context(tempfile.TemporaryDirectory(prefix="t-"))
        home = Home(Path(root))
        transport = MemoryTransport(Hub(), name, Address("127.0.0.1", 0))
        closing.callback(transport.close)
        control = ControlServer(home.socket)
        closing.callback(control.close)
        record = host.peer.gossip.record
        node = Node(
            home=home,
            peer=host.peer,
            profile=chosen,
            links=Links(
                transport,
                ExchangeKey.generate(),
                record,
                secret=bytes(32),
                encrypted=True,
            ),
            entrance=Entrance(home, create_identity(home, name), transport),
            control=control,
            apprentice=Still(home, chosen.peer, chosen.data),
            state=SwarmState(home.swarm),
        )
        node.now = lambda: swarm.now  # type: ignore[method-assign]
        node.started_at = 0.0
        manifest = host.peer.manifest
        if manifest is not None and not host.peer.exchange.fetching.is_on:
            store = node.state.open_store(manifest)
            node.payloads = Payloads(name, store, manifest.wire_dtype)
        for report in host.reports:
            node.history.note(report, sent_bytes=0, received_bytes=0)
        yield node


def status_of(node: Node) -> tuple[str, str]:
    """What ``status`` gives, as JSON and as text, without what differs by chance."""
    data = answers.status(node, loss=node.commands.loss, accuracy=None)
    told = json.loads(json.dumps(data), parse_float=lambda x: round(float(x), 3))
    told["daemon"].update(pid=4711, version="0.0.0")
    if told["swarm"] is not None:
        told["swarm"]["id"] = "<swarm id>"
        told["roster"]["digest"] = "<digest>"
    peers = {"peers": json.loads(json.dumps(member_rows(node)))}
    joined = told["swarm"] is not None
    text = status_screen(told, rows(peers, "peers") if joined else [], SCREEN_WIDTH)
    document = json.dumps(told, indent=2, ensure_ascii=False)
    home = str(node.home.root)
    return document.replace(home, "<home>") + "\n", text.replace(home, "<home>") + "\n"
