"""Outgoing control connections: lines to peers, and knocks at strangers' doors.

The library repairs a connection that broke, and tries again where nobody listened or
nobody answered in time. It gives up for ever, without saying so, where it was refused,
or where something else than a peer answered. A ``Line`` notices that, so that it can be
replaced; a ``Knock`` finds out why.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from p2pfusion.transport import bounds
from p2pfusion.transport.base import Address, Frame, Keys
from p2pfusion.transport.zeromq import Context, Event, Outgoing

HANGING_UP = (errno.EPIPE, errno.ECONNRESET)


class Line:
    """The connection to one peer."""

    def __init__(
        self,
        context: Context,
        address: Address,
        *,
        keys: Keys | None,
        key: bytes,
    ) -> None:
        """``keys`` say who calls (none: plain mode), ``key`` is what the other side
        must prove. ``ResourceError`` without descriptors left."""
        self.target = (address, key)
        self._lost_at: float | None = None
        self._looked_at = 0.0
        self._outgoing = Outgoing(
            context,
            address,
            key=key,
            own=keys,
            queue_messages=bounds.CONTROL_SEND_QUEUE_MESSAGES,
            handshake_ms=bounds.HANDSHAKE_TIMEOUT_MS,
            events=(Event.ENDED, Event.RETRIED),
        )

    def is_lost(self, now: float) -> bool:
        """Whether the connection has ended, and the library does not try another."""
        if now - self._looked_at >= bounds.LOST_LINK_S:
            self._looked_at = now
            for event, _ in self._outgoing.events():
                self._lost_at = now if event is Event.ENDED else None
        return self._lost_at is not None and now - self._lost_at >= bounds.LOST_LINK_S

    def send(self, frames: Sequence[Frame]) -> bool:
        """Queues a message, or returns False if the queue is full."""
        return self._outgoing.send(frames)

    def close(self, *, linger_ms: int) -> None:
        """Closes; for so long, what waits may still leave."""
        self._outgoing.close(linger_ms=linger_ms)


class Knock:
    """A connection to an address, to greet whoever listens there."""

    def __init__(
        self,
        context: Context,
        address: Address,
        *,
        keys: Keys | None,
        key: bytes,
    ) -> None:
        """As for a line."""
        self.means = (keys, key)
        self.knocked_at = 0.0
        self.awaits_news = False
        """Whether somebody has knocked and does not know yet if that led anywhere."""
        self._connected_at = 0.0
        self._is_through = False
        self._may_try_again = False
        self._times_hung_up = 0
        self.outgoing = Outgoing(
            context,
            address,
            key=key,
            own=keys,
            queue_messages=bounds.KNOCK_QUEUE_MESSAGES,
            handshake_ms=bounds.KNOCK_HANDSHAKE_MS,
            events=(
                *(Event.CONNECTED, Event.READY, Event.ENDED),
                *(Event.REFUSED, Event.UNFINISHED),
            ),
        )

    def send(self, frames: Sequence[Frame], now: float) -> bool:
        """Queues a message, or returns False if the queue is full."""
        self.knocked_at = now
        self.awaits_news = True
        return self.outgoing.send(frames)

    def failure(self, now: float) -> str | None:
        """Why this will never lead anywhere, as in ``KnockFailed``; None if it may."""
        for event, value in self.outgoing.events():
            if event is Event.REFUSED:
                return "refused"
            if event is Event.CONNECTED:
                self._connected_at = now
                self._is_through = self._may_try_again = False
            elif event is Event.READY:
                self._is_through, self.awaits_news = True, False
                self._times_hung_up = 0
            elif event is Event.UNFINISHED:
                self._may_try_again = not self._is_hung_up_on(value, now)
            elif not self._is_through and not self._may_try_again:
                return "wrong-key"
        return None

    def _is_hung_up_on(self, error: int, now: float) -> bool:
        """Whether a handshake broke off because the other side has another key.

        It hangs up at once then, and again the next time. Who has no room does not
        answer, and who ends in this moment will be back."""
        waited_ms = 1_000 * (now - self._connected_at)
        if waited_ms < bounds.KNOCK_HANDSHAKE_MS / 2 and error in HANGING_UP:
            self._times_hung_up += 1
        return self._times_hung_up == 2

    def close(self) -> None:
        """Closes; what waits is lost."""
        self.outgoing.close(linger_ms=0)
