"""Where a daemon shows what it knows, to others than the swarm's members.

Metrics for Prometheus, the page for browsers, event files for TensorBoard, and what is
announced in the local network. Each is imported only where it is wanted, and asks the
daemon through its local socket, as a command would, or is told of every round.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfusion.daemon.address import parse_address
from p2pfusion.daemon.client import LocalClient

# Also for commands that start nothing, and are to be quick.
if TYPE_CHECKING:
    from p2pfusion.daemon.answers import Data
    from p2pfusion.daemon.config import PeerSettings
    from p2pfusion.daemon.history import Watcher
    from p2pfusion.daemon.home import Home

ANSWER_TIMEOUT_S = 5.0
"""For the answers of which metrics and the page are made: the loop that gives them does
nothing that takes long."""

At = tuple[str, int]
"""Host and port."""


@dataclass(frozen=True)
class Outlets:
    """What is wanted; None: not that one."""

    metrics: At | None = None
    """Where Prometheus may ask."""

    web: At | None = None
    """Where browsers may."""

    tensorboard: Path | None = None
    """The directory in which the numbers of every round go."""


NO_OUTLETS = Outlets()


class OpenOutlets:
    """What is open of them; ``close`` ends it."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._closing = ExitStack()
        self._beginning: list[Callable[[], None]] = []
        self.watchers: list[Watcher] = []
        """Who is to be told of every round."""
        self.urls: dict[str, str | None] = {"metrics": None, "web": None}

    def open(self, wanted: Outlets, peer: PeerSettings) -> None:
        """Opens what is wanted; ``ConfigError`` if one cannot be."""
        if wanted.metrics is not None:
            self.urls["metrics"] = self._metrics(wanted.metrics)
        if wanted.web is not None:
            self.urls["web"] = self._web(wanted.web)
        if wanted.tensorboard is not None:
            from p2pfusion.daemon.scalars import ScalarFile

            scalars = ScalarFile(wanted.tensorboard)
            self._closing.callback(scalars.close)
            self.watchers.append(scalars.note)
        if peer.lan:
            from p2pfusion.daemon.lan import Neighbours

            host, _ = parse_address(peer.listen, "listen")
            neighbours = Neighbours(self._told, host)
            self._closing.callback(neighbours.close)
            self._beginning.append(neighbours.start)

    def begin(self) -> None:
        """The daemon is ready: what speaks by itself may begin."""
        for begin in self._beginning:
            begin()

    def close(self) -> None:
        """Ends them. The daemon's socket has to be closed before, and what waits for
        its answer ends with that."""
        self._closing.close()

    def _metrics(self, where: At) -> str:
        from p2pfusion.daemon.metrics import MetricsServer

        server = MetricsServer(*where, lambda: self._told("status"))
        self._closing.callback(server.close)
        return server.url

    def _web(self, where: At) -> str:
        from p2pfusion.daemon.web.server import WebServer
        from p2pfusion.daemon.web.token import chosen_token, save_access

        token = chosen_token(self._home)
        server = WebServer(*where, token, lambda after: self._told("view", **after))
        self._closing.callback(server.close)
        save_access(self._home, token, server.url)
        return server.url

    def _told(self, command: str, **arguments: object) -> Data:
        answer = LocalClient(self._home.root).call(
            command,
            timeout_s=ANSWER_TIMEOUT_S,
            **arguments,  # type: ignore[arg-type]
        )
        assert isinstance(answer, dict), "it is this daemon's own"
        return answer
