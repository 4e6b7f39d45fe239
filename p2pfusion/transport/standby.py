"""What a peer does that can only dial out: it has a connection standing by elsewhere.

One at each peer that it can reach. When somebody uses it, the next is opened at once;
when it breaks, or is not taken in, after a rest that grows as a link's does.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable

from p2pfusion.transport import bounds
from p2pfusion.transport.base import Address, Plane
from p2pfusion.transport.dialing import Resolver
from p2pfusion.transport.passage import Passage, Wish, request
from p2pfusion.transport.watch import Budget, Watch

Taken = Callable[[socket.socket, Plane], None]


class Standby:
    """A connection that stands by at one address."""

    def __init__(
        self,
        address: Address,
        token: bytes,
        *,
        watch: Watch,
        resolver: Resolver,
        taken: Taken,
    ) -> None:
        """Begins at once; ``taken`` is told when somebody uses one."""
        self.place = (address, token)
        self._watch = watch
        self._resolver = resolver
        self._taken = taken
        self._rest_ms = bounds.RECONNECT_INTERVAL_MS
        self._passage: Passage | None = None
        # In the next turn: whoever is to be told is not ready before.
        watch.remind(self, 0.0)

    def ready(self, events: int, budget: Budget) -> bool:
        """There is no socket of its own."""
        return False

    def overdue(self) -> None:
        """Rested enough."""
        address, token = self.place
        self._passage = Passage(
            address,
            request(token, Wish.STANDBY),
            watch=self._watch,
            resolver=self._resolver,
            opened=self._used,
            failed=self._rest,
            patient=True,
        )
        self._passage.start()

    def close(self) -> None:
        """Ends it."""
        self._watch.remind(self, None)
        if self._passage is not None:
            self._passage.cancel()
            self._passage = None

    def _used(self, channel: socket.socket, plane: Plane) -> None:
        self._rest_ms = bounds.RECONNECT_INTERVAL_MS
        self._watch.remind(self, 0.0)
        self._taken(channel, plane)

    def _rest(self) -> None:
        # Not to the millisecond, or all come back at once to one that was away.
        self._watch.remind(self, self._rest_ms * random.uniform(0.5, 1.0) / 1_000)
        self._rest_ms = min(2 * self._rest_ms, bounds.RECONNECT_CEILING_MS)
