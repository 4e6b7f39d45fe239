"""A port of this machine from which a passage leads to one peer.

ZeroMQ can only connect to addresses. For a peer that cannot be dialled it is given the
address of a gate: what connects there is joined to a passage. The handshake of the
control plane goes through it from end to end, so a gate protects nothing and need not:
whoever else on this machine finds the port has got no further than to the peer's door.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from p2pfusion.transport import bounds
from p2pfusion.transport.base import Address
from p2pfusion.transport.cap import Cap
from p2pfusion.transport.connection import prepare
from p2pfusion.transport.passage import Opening
from p2pfusion.transport.splice import Splice
from p2pfusion.transport.watch import READ, Budget, Watch

LOOPBACK = "127.0.0.1"

Connected = Callable[[socket.socket], None]
Way = Callable[[Connected, Callable[[], None]], Opening]
"""Makes an attempt to get a connection to the peer, with the calls that end it."""


class Gate:
    """Listens on loopback. ``OSError`` if there are no descriptors left."""

    def __init__(self, watch: Watch, way: Way) -> None:
        self.way = way
        self._watch = watch
        self._free = Cap(watch, None)
        self._openings: dict[socket.socket, Opening] = {}
        self._splices: set[Splice] = set()
        self._listener = socket.create_server((LOOPBACK, 0))
        self._listener.setblocking(False)
        self.address = Address(LOOPBACK, int(self._listener.getsockname()[1]))
        watch.set(self, self._listener, READ)

    def ready(self, events: int, budget: Budget) -> bool:
        """Somebody has connected."""
        try:
            local, _ = self._listener.accept()
        except OSError:
            return False
        if len(self._openings) + len(self._splices) >= bounds.MAX_GATE_CONNECTIONS:
            local.close()
            return True
        prepare(local)
        opening = self.way(
            lambda channel: self._connected(local, channel), lambda: self._failed(local)
        )
        self._openings[local] = opening
        opening.start()
        return True

    def overdue(self) -> None:
        """Nothing is ever due."""

    def restart(self) -> None:
        """Ends what leads through it: from now on another way leads on."""
        for local, opening in list(self._openings.items()):
            opening.cancel()
            self._failed(local)
        for splice in list(self._splices):
            splice.close()

    def close(self) -> None:
        """Ends it, with what leads through it."""
        self._watch.set(self, self._listener, 0)
        self._listener.close()
        self.restart()

    def _connected(self, local: socket.socket, channel: socket.socket) -> None:
        del self._openings[local]
        splice = join(self._watch, self._free, local, channel, self._splices.discard)
        self._splices.add(splice)

    def _failed(self, local: socket.socket) -> None:
        del self._openings[local]
        local.close()


def join(
    watch: Watch,
    free: Cap,
    local: socket.socket,
    channel: socket.socket,
    closed: Callable[[Splice], None],
) -> Splice:
    """Joins a connection within this machine to one that leaves it: of the control
    plane, to which no cap applies."""
    return Splice(
        local,
        channel,
        watch=watch,
        up=free,
        down=free,
        moved=lambda count: None,
        closed=closed,
    )
