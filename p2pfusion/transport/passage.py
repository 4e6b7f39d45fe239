"""Passages: connections that lead elsewhere than to whoever was dialled.

A peer that can only dial out keeps a connection *standing by* at every peer that it can
reach. Whoever wants to speak to it takes that one: the peer at which it stands for
itself, and for others that ask for a *circuit*, which joins their connection to it.

On the wire a passage begins like a message of the data plane: with a token by which the
two ends of this connection know each other, and in place of the head's length what is
wanted; a circuit's request names the peer that it shall lead to. The answer is one
byte, perhaps after a banner. What follows belongs to the plane that uses the passage.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from p2pfusion import limits
from p2pfusion.transport import bounds
from p2pfusion.transport.asking import BANNER_HEAD, MARK
from p2pfusion.transport.base import Address, Plane
from p2pfusion.transport.connection import PREFIX, WISHES
from p2pfusion.transport.dialing import Dial, Resolver
from p2pfusion.transport.watch import READ, Budget, Watch


class Wish(IntEnum):
    """What a passage is for; no head is so long."""

    STANDBY, CONTROL, DATA = WISHES


WISH_OF = {Plane.CONTROL: Wish.CONTROL, Plane.DATA: Wish.DATA}

ANSWERS = {b"\x01": Plane.CONTROL, b"\x02": Plane.DATA}
"""What is said when a passage is open: the plane that it is used for from now on."""

ANSWER_OF = {plane: answer for answer, plane in ANSWERS.items()}

Opened = Callable[[socket.socket, Plane], None]


class Opening(Protocol):
    """An attempt to get a connection. Ends with one call of those it was given."""

    def start(self) -> None:
        """Begins; the end may come before this returns."""
        ...

    def cancel(self) -> None:
        """Ends it without a call."""
        ...


def request(token: bytes, wish: Wish, target: str = "") -> bytes:
    """How a passage begins."""
    name = target.encode("ascii")
    return PREFIX.pack(token, wish, len(name)) + name


def hear(channel: socket.socket, most: int) -> bytes | None:
    """What has come, up to so many bytes; nothing at the end of the connection, None
    if it is only not there yet."""
    try:
        return channel.recv(most)
    except BlockingIOError:
        return None
    except OSError:
        return b""


class Passage:
    """One attempt to open a passage at an address."""

    def __init__(
        self,
        address: Address,
        request: bytes,
        *,
        watch: Watch,
        resolver: Resolver,
        opened: Opened,
        failed: Callable[[], None],
        patient: bool = False,
    ) -> None:
        """``patient``: waits for the answer as long as the connection holds."""
        self._request = request
        self._watch = watch
        self._opened = opened
        self._failed = failed
        self._patient = patient
        self._channel: socket.socket | None = None
        self._heard = b""
        self._wanted = 1
        self._dial = Dial(
            address,
            watch=watch,
            resolver=resolver,
            connected=self._connected,
            failed=failed,
        )

    def start(self) -> None:
        """Begins; one of the two calls may come before this returns."""
        self._dial.start()

    def cancel(self) -> None:
        """Ends it without a call."""
        self._dial.cancel()
        channel = self._leave()
        if channel is not None:
            channel.close()

    def ready(self, events: int, budget: Budget) -> bool:
        """Reads the answer, and nothing beyond it."""
        channel = self._channel
        assert channel is not None
        heard = hear(channel, self._wanted - len(self._heard))
        if heard is None:
            return False
        self._heard += heard
        if not heard:
            self.overdue()
        elif len(self._heard) < self._wanted:
            return True
        elif self._heard in ANSWERS:
            self._leave()
            self._opened(channel, ANSWERS[self._heard])
        else:
            return self._skip()
        return False

    def overdue(self) -> None:
        """Nobody answers."""
        self.cancel()
        self._failed()

    def _skip(self) -> bool:
        """A banner comes first: it is left out, piece by piece."""
        if not self._heard.startswith(MARK[: len(self._heard)]):
            self.overdue()
            return False
        if self._wanted < BANNER_HEAD.size:
            self._wanted = BANNER_HEAD.size
        elif self._wanted == BANNER_HEAD.size:
            _, size = BANNER_HEAD.unpack(self._heard)
            if not 0 < size <= limits.MAX_BANNER_BYTES:
                self.overdue()
                return False
            self._wanted += size
        else:
            self._heard, self._wanted = b"", 1
        return True

    def _connected(self, channel: socket.socket) -> None:
        try:
            channel.send(self._request)  # an empty buffer has room for it
        except OSError:
            channel.close()
            self._failed()
            return
        self._channel = channel
        self._watch.set(self, channel, READ)
        if not self._patient:
            self._watch.remind(self, bounds.HANDSHAKE_TIMEOUT_MS / 1_000)

    def _leave(self) -> socket.socket | None:
        """Lets go of the connection."""
        channel, self._channel = self._channel, None
        self._watch.remind(self, None)
        if channel is not None:
            self._watch.set(self, channel, 0)
        return channel
