"""What waits to leave on the data plane: pieces of streams, until their line has room.

A piece is read and sealed only when it can leave soon. So a slow peer costs no memory,
and who asks for a stream again, from some place on, gets no second copy of what has not
arrived yet: a connection loses nothing while it holds.

A stream's head leaves with the piece after it, where that can leave as well: most
streams of a small model then are one message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from p2pfusion.limits import MAX_HELD_PIECES
from p2pfusion.protocol.messages import StreamStart
from p2pfusion.transport.bounds import REMEMBERED_MESSAGES

ROOM_MESSAGES = 2
"""So many wait at the transport: one that leaves and the one after it."""

HEAD = -1
"""In place of an offset, of a stream's head."""


Label = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """A part of a stream that a peer has asked for under a number."""

    peer: str
    pull: int
    offset: int
    send: Callable[[StreamStart | None], bool]
    """Gives it to the transport, with its stream's head if that goes along; False: it
    is lost, as on the wire."""
    head: StreamStart | None = None
    """The message, if it is a head."""

    @property
    def label(self) -> Label:
        """What it is among those for one peer."""
        return self.pull, self.offset


@dataclass
class _Line:
    """To one peer."""

    held: deque[Piece] = field(default_factory=deque)
    given: deque[list[Label]] = field(
        default_factory=lambda: deque(maxlen=REMEMBERED_MESSAGES)
    )
    """Of the messages that the transport was given last, what is in each."""


class Outbox:
    """Pieces for all peers, each in the order in which the protocol wants it sent."""

    def __init__(
        self, waiting: Callable[[str], int], under_way: Callable[[str], int]
    ) -> None:
        """``waiting``: how many messages to a peer wait at the transport;
        ``under_way``: these, and those that have left and not arrived."""
        self._waiting = waiting
        self._under_way = under_way
        self._lines: dict[str, _Line] = {}

    @property
    def is_empty(self) -> bool:
        """Whether all has been given to the transport."""
        return not any(line.held for line in self._lines.values())

    def add(self, piece: Piece) -> None:
        """Sends it, now or later; a head not before ``flush``, or what comes after it.

        A stream's head begins it anew: what is held of it is held no more. What is
        under way already is not sent twice.
        """
        line = self._lines.setdefault(piece.peer, _Line())
        if piece.offset == HEAD:
            self._forget(line, piece.pull)
        if self._is_under_way(line, piece):
            return
        if len(line.held) < MAX_HELD_PIECES:
            line.held.append(piece)
        if piece.offset != HEAD:
            self._flush(piece.peer, line)

    def drop(self, peer: str, pull: int) -> None:
        """Nobody wants this stream any more."""
        line = self._lines.get(peer)
        if line is not None:
            self._forget(line, pull)

    def flush(self) -> None:
        """Lets go what has room by now."""
        for peer, line in list(self._lines.items()):
            self._flush(peer, line)
            if not line.held and not self._under_way(peer):
                del self._lines[peer]

    def _is_under_way(self, line: _Line, piece: Piece) -> bool:
        given = enumerate(reversed(line.given), 1)
        last = next((at for at, labels in given if piece.label in labels), 0)
        return 0 < last <= self._under_way(piece.peer)

    def _forget(self, line: _Line, pull: int) -> None:
        line.held = deque(piece for piece in line.held if piece.pull != pull)

    def _flush(self, peer: str, line: _Line) -> None:
        while line.held and self._waiting(peer) < ROOM_MESSAGES:
            piece, labels, head = line.held.popleft(), list[Label](), None
            if piece.head and line.held and line.held[0].pull == piece.pull:
                labels, head = [piece.label], piece.head
                piece = line.held.popleft()
            if piece.send(head):
                line.given.append([*labels, piece.label])
