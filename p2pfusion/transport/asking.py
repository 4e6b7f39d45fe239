"""Banners: what a peer says of itself to everybody who connects, and asking for one.

On the wire a banner is ``BANNER_HEAD`` (a mark and a length) and that many bytes. A
question is one connection that reads it and hangs up.
"""

from __future__ import annotations

import socket
import struct

from p2pfusion import limits
from p2pfusion.errors import ConfigError, RemoteProtocolError
from p2pfusion.transport import bounds
from p2pfusion.transport.base import Address, Banner, KnockFailed, check_banner
from p2pfusion.transport.dialing import Dial, Resolver
from p2pfusion.transport.watch import READ, Budget, Watch

MARK = b"p2pf"
"""Tells a banner from what another program would say."""

BANNER_HEAD = struct.Struct(f"<{len(MARK)}sH")

BANNER_LIMIT_BYTES = BANNER_HEAD.size + limits.MAX_BANNER_BYTES


def write_banner(data: bytes) -> bytes:
    """A banner as it is said; nothing if there is none.

    ``LocalProtocolError`` if it is too long.
    """
    check_banner(data)
    return BANNER_HEAD.pack(MARK, len(data)) + data if data else b""


def read_banner(heard: bytes) -> bytes | None:
    """The banner with which ``heard`` begins, or None while some of it is missing.

    ``RemoteProtocolError`` if it is no banner, whatever may follow.
    """
    if not heard.startswith(MARK[: len(heard)]):
        raise RemoteProtocolError("something else than a banner")
    if len(heard) < BANNER_HEAD.size:
        return None
    _, size = BANNER_HEAD.unpack_from(heard)
    if not 0 < size <= limits.MAX_BANNER_BYTES:
        raise RemoteProtocolError("a banner of impossible size")
    data = heard[BANNER_HEAD.size :][:size]
    return data if len(data) == size else None


class Asks:
    """The questions that are under way, and the answers that nobody has taken yet."""

    def __init__(self, watch: Watch, resolver: Resolver) -> None:
        self._watch = watch
        self._resolver = resolver
        self._questions: dict[Address, _Question] = {}
        self._answers: list[Banner | KnockFailed] = []

    def ask(self, address: Address) -> None:
        """Asks who listens at this control address, in the next turn; if that question
        is under way, there is one answer for both."""
        if address in self._questions:
            return
        if len(self._questions) == bounds.MAX_KNOCKS:
            next(iter(self._questions.values())).fail()
        question = _Question(self, address, self._watch, self._resolver)
        self._questions[address] = question

    def answer(self, answer: Banner | KnockFailed) -> None:
        """Ends a question."""
        del self._questions[answer.address]
        self._answers.append(answer)

    def take(self) -> list[Banner | KnockFailed]:
        """The answers that came since the last call."""
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        """Ends all questions without an answer."""
        for question in self._questions.values():
            question.hang_up()
        self._questions.clear()


class _Question:
    """Source of one answer: to a banner, a refusal, or a silence."""

    def __init__(
        self, asks: Asks, address: Address, watch: Watch, resolver: Resolver
    ) -> None:
        self._asks = asks
        self._address = address
        self._watch = watch
        self._resolver = resolver
        self._dial: Dial | None = None
        self._channel: socket.socket | None = None
        self._heard = b""
        # An answer may come in a turn only, so the question begins in one.
        watch.remind(self, 0.0)

    def ready(self, events: int, budget: Budget) -> bool:
        """Reads what there is of the banner, and nothing beyond."""
        assert self._channel is not None
        try:
            heard = self._channel.recv(BANNER_LIMIT_BYTES - len(self._heard))
            self._heard += heard
            banner = read_banner(self._heard)
        except BlockingIOError:
            return False
        except (OSError, RemoteProtocolError):
            self.fail()
            return False
        if banner is not None:
            self.hang_up()
            self._asks.answer(Banner(self._address, banner))
        elif not heard:
            self.fail()
        return False

    def overdue(self) -> None:
        """Begins; later, gives up."""
        if self._dial is not None:
            self.fail()
            return
        try:
            data = Address(self._address.host, self._address.port + 1)
        except ConfigError:
            self.fail()  # no port is above the highest
            return
        self._dial = Dial(
            data,
            watch=self._watch,
            resolver=self._resolver,
            connected=self._connected,
            failed=self.fail,
        )
        self._dial.start()

    def fail(self) -> None:
        """There is no banner, or nobody at all."""
        reason = "no-answer" if self._channel is None else "no-banner"
        self.hang_up()
        self._asks.answer(KnockFailed(self._address, reason))

    def hang_up(self) -> None:
        """Frees what it holds."""
        self._watch.remind(self, None)
        if self._dial is not None:
            self._dial.cancel()
        if self._channel is not None:
            self._watch.set(self, self._channel, 0)
            self._channel.close()
            self._channel = None

    def _connected(self, channel: socket.socket) -> None:
        self._channel = channel
        self._watch.set(self, channel, READ)
        self._watch.remind(self, bounds.HANDSHAKE_TIMEOUT_MS / 1_000)
