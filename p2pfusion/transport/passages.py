"""All passages of one peer: those that end here, stand by elsewhere, or lead on.

Puts the parts together for the data plane: ``circuits`` has what others keep here,
``standby`` what this peer keeps elsewhere, and ``gate`` leads the control plane's
connections into passages. A peer that is forgotten keeps its part for a moment, so that
the last word to it can leave.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from p2pfusion.errors import ResourceError
from p2pfusion.transport import bounds
from p2pfusion.transport.base import Address, Plane, Traffic
from p2pfusion.transport.cap import Cap
from p2pfusion.transport.circuits import Circuits
from p2pfusion.transport.dialing import Dial, Resolver
from p2pfusion.transport.gate import Connected, Gate, Way, join
from p2pfusion.transport.passage import WISH_OF, Opening, Passage, request
from p2pfusion.transport.splice import Splice
from p2pfusion.transport.standby import Standby
from p2pfusion.transport.watch import Budget, Watch

Adopt = Callable[[socket.socket], None]
"""Takes a connection in as if it had been accepted."""


class Passages:
    """Opens passages to others, and takes in theirs."""

    def __init__(
        self,
        me: str,
        *,
        watch: Watch,
        resolver: Resolver,
        traffic: Traffic,
        up: Cap,
        down: Cap,
        relays: bool,
        adopt: Adopt,
    ) -> None:
        """``adopt``: what becomes of connections to the own data plane."""
        self.circuits = Circuits(watch, traffic, up=up, down=down, relays=relays)
        self.control = Address("127.0.0.1", 0)
        """Where the own control plane listens."""
        self._me = me
        self._watch = watch
        self._resolver = resolver
        self._free = Cap(watch, None)
        self._adopt = adopt
        self._standbys: dict[str, Standby] = {}
        self._gates: dict[str, Gate] = {}
        self._places: dict[str, tuple[Address, str]] = {}
        self._leaving: dict[str, _Leaving] = {}
        self._inner: set[Dial | Splice] = set()

    def know(self, peer: str, token: bytes) -> None:
        """Passages between the peer and this one begin with this token."""
        self._stay(peer)
        if self.circuits.token(peer) != token:
            self.circuits.know(peer, token)

    # --- To others -------------------------------------------------------------------

    def way(self, peer: str, data: Address, relay: str, plane: Plane) -> Way:
        """How to get a connection to one that cannot be dialled, through a relay whose
        data plane is there."""

        def open_(connected: Connected, failed: Callable[[], None]) -> Opening:
            if relay == self._me:
                return self.circuits.claim(peer, plane, connected, failed)
            token = self.circuits.token(relay) or b""
            return Passage(
                data,
                request(token, WISH_OF[plane], peer),
                watch=self._watch,
                resolver=self._resolver,
                opened=lambda channel, _: connected(channel),
                failed=failed,
            )

        return open_

    def gate(self, peer: str, data: Address, relay: str) -> Address:
        """Where the control plane connects to reach such a peer.

        ``ResourceError`` if there are no descriptors left."""
        way = self.way(peer, data, relay, Plane.CONTROL)
        gate = self._gates.get(peer)
        if gate is None:
            try:
                gate = self._gates[peer] = Gate(self._watch, way)
            except OSError as error:
                raise ResourceError(
                    f"no more connections can be opened: {error}",
                    hint="raise the limit of open files (ulimit -n) and start again",
                ) from error
        elif self._places[peer] != (data, relay):
            gate.way = way
            gate.restart()
        self._places[peer] = (data, relay)
        return gate.address

    def close_gate(self, peer: str) -> None:
        """The peer can be dialled now."""
        gate = self._gates.pop(peer, None)
        if gate is not None:
            gate.close()
            del self._places[peer]

    # --- From others -----------------------------------------------------------------

    def stand_by(self, peer: str, address: Address) -> None:
        """Keeps a connection there with which the peer can reach this one."""
        token = self.circuits.token(peer)
        standby = self._standbys.get(peer)
        if token is None or (standby and standby.place == (address, token)):
            return
        if standby is not None:
            standby.close()
        self._standbys[peer] = Standby(
            address,
            token,
            watch=self._watch,
            resolver=self._resolver,
            taken=self._taken,
        )

    def _taken(self, channel: socket.socket, plane: Plane) -> None:
        """Somebody has begun to use a connection that stood by."""
        if plane is Plane.DATA:
            self._adopt(channel)
            return

        def connected(local: socket.socket) -> None:
            self._inner.discard(dial)
            closed = self._inner.discard
            splice = join(self._watch, self._free, local, channel, closed)
            self._inner.add(splice)

        def failed() -> None:
            self._inner.discard(dial)
            channel.close()

        dial = Dial(
            self.control,
            watch=self._watch,
            resolver=self._resolver,
            connected=connected,
            failed=failed,
        )
        self._inner.add(dial)
        dial.start()

    # --- The end ---------------------------------------------------------------------

    def leave(self, peer: str) -> None:
        """Forgets a peer, when the last word to it has had its time."""
        self._stay(peer)
        if self.circuits.token(peer) is not None:
            self._leaving[peer] = _Leaving(self, peer, self._watch)

    def _stay(self, peer: str) -> None:
        leaving = self._leaving.pop(peer, None)
        if leaving is not None:
            leaving.cancel()

    def forget(self, peer: str) -> None:
        """Ends all that the peer is a part of."""
        self._stay(peer)
        standby = self._standbys.pop(peer, None)
        if standby is not None:
            standby.close()
        self.close_gate(peer)
        self.circuits.forget(peer)

    def close(self) -> None:
        """Ends everything."""
        for peer in {*self._standbys, *self._gates}:
            self.forget(peer)
        self.circuits.close()
        for inner in list(self._inner):
            if isinstance(inner, Dial):
                inner.cancel()
            else:
                inner.close()


class _Leaving:
    """A peer that will be forgotten."""

    def __init__(self, passages: Passages, peer: str, watch: Watch) -> None:
        self._passages = passages
        self._peer = peer
        self._watch = watch
        watch.remind(self, bounds.LAST_WORD_LINGER_MS / 1_000)

    def ready(self, events: int, budget: Budget) -> bool:
        """There is no socket of its own."""
        return False

    def overdue(self) -> None:
        """Its time is over."""
        self._passages.forget(self._peer)

    def cancel(self) -> None:
        """It is known again."""
        self._watch.remind(self, None)
