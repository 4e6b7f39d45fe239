"""A real node in this process, turned by hand: its sockets, its store, its trainer.

Local questions are asked through the local socket, from a second thread, while the test
turns the node's loop; so what is asked, and when, is under the test's control.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from p2pfusion.cli.toml_text import toml_text
from p2pfusion.daemon import assemble
from p2pfusion.daemon.apprentice import Apprentice
from p2pfusion.daemon.client import LocalClient
from p2pfusion.daemon.config import parse_profile
from p2pfusion.daemon.control import ControlServer
from p2pfusion.daemon.home import Home
from p2pfusion.daemon.identity import create_identity
from p2pfusion.daemon.node import Node
from p2pfusion.daemon.state import SwarmState
from p2pfusion.daemon.ways import ways_of
from p2pfusion.protocol.access import JoinBy

PATIENCE_S = 240.0
"""Only a failure waits so long."""
Data = dict[str, object]

ALONE = {
    "name": "alone",
    "model": "mlp",
    "model_arguments": {"hidden": [16]},
    "rounds": 2,
    "learning_rate": 0.1,
}


@dataclass
class Running:
    """A node and who asks it."""

    node: Node
    home: Home
    pool: ThreadPoolExecutor
    wake: int
    poke: int

    def turn_until(self, reached: Callable[[], bool]) -> None:
        """Lets the node live until something is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert time.monotonic() < deadline, "it never happened"
            self.node._turn(self.wake)

    def begin(self, command: str, **arguments: object) -> Future[object]:
        """A question, on its way."""
        client = LocalClient(self.home.root)
        return self.pool.submit(client.call, command, **arguments)  # type: ignore[arg-type]

    def ticket(self, **arguments: object) -> str:
        """A ticket into this node's swarm."""
        return str(self.ask("invite-create", **arguments)["ticket"])

    def join(self, typed: str) -> None:
        """Begins to join by a ticket or an address."""
        for way in ways_of(typed, "test", time.time()):
            self.node.handle(JoinBy(way))

    @property
    def is_exporting(self) -> bool:
        """Whether a whole model is on its way into a file."""
        return self.node.commands.exports.is_busy

    def ask(self, command: str, **arguments: object) -> Data:
        """A question, answered."""
        future = self.begin(command, **arguments)
        self.turn_until(future.done)
        found = future.result()
        assert isinstance(found, dict)
        return found


@contextlib.contextmanager
def running(**tables: Mapping[str, object]) -> Iterator[Running]:
    """A node of this profile, in a home of its own."""
    with contextlib.ExitStack() as closing:
        root = closing.enter_context(tempfile.TemporaryDirectory(prefix="t-"))
        pool = closing.enter_context(ThreadPoolExecutor(4))
        home = Home(Path(root))
        profile = parse_profile(toml_text(tables), "test.toml")
        identity = create_identity(home, "me")
        control = ControlServer(home.socket)
        closing.callback(control.close)
        state = SwarmState(home.swarm)
        transport = assemble._listen(identity, profile)
        closing.callback(transport.close)
        apprentice = Apprentice(home, profile.peer, profile.data)
        closing.callback(apprentice.stop)
        node = assemble.make_node(
            home, identity, profile, transport, control, apprentice, state
        )
        assemble._begin(node, state.load_manifest())
        reader, writer = os.pipe()
        closing.callback(os.close, reader)
        closing.callback(os.close, writer)
        yield Running(node, home, pool, reader, writer)


SLOW = {**ALONE, "rounds": 400, "local_epochs": 10, "min_peers": 2}


@contextlib.contextmanager
def two_running() -> Iterator[tuple[Running, Running]]:
    """Two nodes of one swarm, in round 0."""
    with (
        running(data={"kind": "digits"}, swarm=SLOW) as founder,
        running(data={"kind": "digits"}) as other,
    ):
        founder.turn_until(lambda: founder.node.peer.manifest is not None)
        other.join(founder.ticket())
        nodes = (founder, other)
        turn_all(nodes, lambda: all(n.node.peer.round is not None for n in nodes))
        yield nodes


def turn_all(nodes: Sequence[Running], reached: Callable[[], bool]) -> None:
    """Turns all, a little each: none waits for its own next deadline."""
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline, "it never happened"
        for each in nodes:
            os.write(each.poke, b".")
            each.node._turn(each.wake)
