"""Connections that peers keep standing by here, and who uses them.

For this peer itself one is taken as it is. For others it becomes one half of a circuit:
their bytes go through, sealed as they are between the ends, and only how many they are
is known here. Between two peers there is one circuit for each plane and direction; a
new one takes the place of the old one. How many there are is bounded, and so is the
time for which anybody waits.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

from p2pfusion import limits
from p2pfusion.transport import bounds
from p2pfusion.transport.base import Plane, Traffic, is_peer_id
from p2pfusion.transport.budget import TokenBuckets
from p2pfusion.transport.cap import Cap
from p2pfusion.transport.passage import ANSWER_OF, WISH_OF, Wish, hear
from p2pfusion.transport.splice import Splice
from p2pfusion.transport.watch import READ, Budget, Watch

PLANE_OF = {wish: plane for plane, wish in WISH_OF.items()}

Between = tuple[str, str, Plane]
"""Who asked for a circuit, to whom, and for which plane."""


class Circuits:
    """Where passages end that begin at other peers."""

    def __init__(
        self, watch: Watch, traffic: Traffic, *, up: Cap, down: Cap, relays: bool
    ) -> None:
        """``relays``: whether others may reach each other through this peer; what that
        moves counts under the caps."""
        self.watch = watch
        self._traffic = traffic
        self._caps = {"up": up, "down": down}
        self._relays = relays
        self._tokens: dict[str, bytes] = {}
        self._peers: dict[bytes, str] = {}
        self._standing: dict[str, deque[_Standing]] = {}
        self._claims: dict[str, deque[Claim]] = {}
        self._rate = TokenBuckets(
            per_second=limits.HANDSHAKES_PER_SECOND,
            burst=limits.HANDSHAKE_BURST,
            most_keys=limits.MAX_ROSTER,
        )
        self._requests: dict[_Request, None] = {}
        self._joined: dict[Between, Claim | Splice] = {}

    def know(self, peer: str, token: bytes) -> None:
        """Passages that begin with this token are the peer's."""
        self._peers.pop(self._tokens.get(peer, b""), None)
        self._tokens[peer], self._peers[token] = token, peer

    def knows(self, token: bytes) -> bool:
        """Whether it is somebody's."""
        return token in self._peers

    def token(self, peer: str) -> bytes | None:
        """What passages between the peer and this one begin with."""
        return self._tokens.get(peer)

    def forget(self, peer: str) -> None:
        """Ends everything of which the peer is a part."""
        self._peers.pop(self._tokens.pop(peer, b""), None)
        for standing in self._standing.pop(peer, ()):
            standing.close()
        for claim in list(self._claims.get(peer, ())):
            claim.overdue()
        for request in [r for r in self._requests if r.peer == peer]:
            request.overdue()
        for between in [ends for ends in self._joined if peer in ends]:
            self._end(between)

    def close(self) -> None:
        """Ends everything."""
        for peer in list(self._tokens):
            self.forget(peer)

    def take(
        self, channel: socket.socket, token: bytes, wish: int, length: int
    ) -> bool:
        """A passage has begun at the other side, and the name of its target is so long;
        whether the connection is taken over."""
        peer = self._peers.get(token)
        if peer is None:
            return False
        if wish == Wish.STANDBY:
            self._stand(peer, channel)
            return True
        is_name = 0 < length <= bounds.MAX_PEER_ID_CHARACTERS
        if not self._relays or not is_name:
            return False
        if not self._rate.spend(peer, self.watch.clock()):
            return False
        theirs = [request for request in self._requests if request.peer == peer]
        if len(theirs) == bounds.MAX_CIRCUIT_REQUESTS_PER_PEER:
            theirs[0].overdue()
        request = _Request(self, peer, channel, PLANE_OF[Wish(wish)], length)
        self._requests[request] = None
        return True

    # --- Connections that stand by ---------------------------------------------------

    def _stand(self, peer: str, channel: socket.socket) -> None:
        standing = self._standing.setdefault(peer, deque())
        if len(standing) == bounds.MAX_STANDING_PER_PEER:
            standing.popleft().close()
        standing.append(_Standing(self, peer, channel))
        self._serve(peer)

    def left(self, standing: _Standing) -> None:
        """One of them has hung up, or says something that nobody asked for."""
        self._standing[standing.peer].remove(standing)
        standing.close()

    def claim(
        self,
        peer: str,
        plane: Plane,
        connected: Callable[[socket.socket], None],
        failed: Callable[[], None],
    ) -> Claim:
        """Wants one of this peer's connections; ``start`` it."""
        return Claim(self, peer, plane, connected, failed)

    def enqueue(self, claim: Claim) -> None:
        """It waits until there is one."""
        self._claims.setdefault(claim.peer, deque()).append(claim)
        self._serve(claim.peer)

    def drop(self, claim: Claim) -> None:
        """It does not wait any more."""
        claims = self._claims.get(claim.peer, deque())
        if claim in claims:
            claims.remove(claim)
        if not claims:
            self._claims.pop(claim.peer, None)

    def _serve(self, peer: str) -> None:
        """Gives what stands here to who waits for it."""
        standing = self._standing.get(peer, deque())
        while standing and peer in self._claims:
            claim = self._claims[peer][0]
            channel = standing.popleft().take(claim.plane)
            if channel is not None:
                self.drop(claim)
                claim.serve(channel)

    # --- Circuits of others ----------------------------------------------------------

    def asked(self, request: _Request, target: str) -> None:
        """A circuit is wanted; it begins when the target has a connection here."""
        del self._requests[request]
        between = (request.peer, target, request.plane)
        self._end(between)
        theirs = sum(asker == request.peer for asker, *_ in self._joined)
        is_full = len(self._joined) >= bounds.MAX_CIRCUITS
        is_full = is_full or theirs >= bounds.MAX_CIRCUITS_PER_PEER
        if is_full or not is_peer_id(target) or target not in self._tokens:
            self._traffic.dropped["no circuit"] += 1
            request.channel.close()
            return

        def connected(channel: socket.socket) -> None:
            del self._joined[between]
            self._join(between, request.channel, channel)

        def failed() -> None:
            del self._joined[between]
            self._traffic.dropped["no circuit"] += 1
            request.channel.close()

        claim = Claim(self, target, request.plane, connected, failed)
        self._joined[between] = claim
        claim.start()

    def withdraw(self, request: _Request) -> None:
        """A request ends before it was whole."""
        del self._requests[request]

    def _join(
        self, between: Between, asking: socket.socket, asked: socket.socket
    ) -> None:
        asker, target, plane = between
        if not _say(asking, plane):
            asking.close()
            asked.close()
            return
        self._joined[between] = Splice(
            asking,
            asked,
            watch=self.watch,
            moved=lambda count: self._traffic.count_relayed(asker, target, count),
            closed=lambda splice: self._closed(between, splice),
            **self._caps,
        )

    def _closed(self, between: Between, splice: Splice) -> None:
        if self._joined.get(between) is splice:
            del self._joined[between]

    def _end(self, between: Between) -> None:
        joined = self._joined.get(between)
        if isinstance(joined, Claim):
            joined.overdue()
        elif joined is not None:
            joined.close()


class Claim:
    """Somebody waits for a connection that stands by."""

    def __init__(
        self,
        circuits: Circuits,
        peer: str,
        plane: Plane,
        connected: Callable[[socket.socket], None],
        failed: Callable[[], None],
    ) -> None:
        self.peer = peer
        self.plane = plane
        self._circuits = circuits
        self._connected = connected
        self._failed = failed

    def start(self) -> None:
        """Begins; ends with one of the two calls, perhaps before this returns."""
        self._circuits.watch.remind(self, bounds.CLAIM_TIMEOUT_MS / 1_000)
        self._circuits.enqueue(self)

    def serve(self, channel: socket.socket) -> None:
        """There is one."""
        self._circuits.watch.remind(self, None)
        self._connected(channel)

    def cancel(self) -> None:
        """Ends it without a call."""
        self._circuits.watch.remind(self, None)
        self._circuits.drop(self)

    def ready(self, events: int, budget: Budget) -> bool:
        """There is no socket of its own."""
        return False

    def overdue(self) -> None:
        """There was none in time."""
        self.cancel()
        self._failed()


class _Standing:
    """A connection that stands by."""

    def __init__(self, circuits: Circuits, peer: str, channel: socket.socket) -> None:
        self.peer = peer
        self._circuits = circuits
        self._channel = channel
        circuits.watch.set(self, channel, READ)

    def ready(self, events: int, budget: Budget) -> bool:
        """Nothing is to come before it is used."""
        self._circuits.left(self)
        return False

    def overdue(self) -> None:
        """Nothing is ever due: the kernel asks whether the other side is there."""

    def take(self, plane: Plane) -> socket.socket | None:
        """From now on it is used for this plane; None if it has broken."""
        self._circuits.watch.set(self, self._channel, 0)
        if _say(self._channel, plane):
            return self._channel
        self._channel.close()
        return None

    def close(self) -> None:
        """Hangs up."""
        self._circuits.watch.set(self, self._channel, 0)
        self._channel.close()


class _Request:
    """A circuit's request, of which the target's name is to come."""

    def __init__(
        self,
        circuits: Circuits,
        peer: str,
        channel: socket.socket,
        plane: Plane,
        length: int,
    ) -> None:
        self.peer = peer
        self.channel = channel
        self.plane = plane
        self._circuits = circuits
        self._length = length
        self._heard = b""
        circuits.watch.set(self, channel, READ)
        circuits.watch.remind(self, bounds.HANDSHAKE_TIMEOUT_MS / 1_000)

    def ready(self, events: int, budget: Budget) -> bool:
        """Reads the name, and nothing beyond."""
        heard = hear(self.channel, self._length - len(self._heard))
        if heard is None:
            return False
        self._heard += heard
        if not heard:
            self.overdue()
        elif len(self._heard) == self._length:
            self._leave()
            target = self._heard.decode("ascii", errors="replace")
            self._circuits.asked(self, target)
        return False

    def overdue(self) -> None:
        """It does not come, or the asker has gone."""
        self._leave()
        self._circuits.withdraw(self)
        self.channel.close()

    def _leave(self) -> None:
        self._circuits.watch.set(self, self.channel, 0)
        self._circuits.watch.remind(self, None)


def _say(channel: socket.socket, plane: Plane) -> bool:
    """Answers that the passage is open; whether anybody is there to hear it."""
    try:
        return channel.send(ANSWER_OF[plane]) == 1
    except OSError:
        return False
