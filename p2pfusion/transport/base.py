"""What every transport promises: planes, addresses, messages, and who may send them.

A peer listens at two addresses, one per plane, and sends over connections of its own,
one per remote peer and plane. Messages of one pair and plane arrive in order, whole, at
most once; any may be lost when a connection breaks. Nothing here blocks but ``poll``.

Whose a connection is, its key proves: a message's sender is the name under which that
key was admitted, or ``GUEST`` and the key for a stranger that was let as far as the
door. On the data plane an 8-byte token names the session that both ends agreed upon;
its secrecy is no protection, the sealing above this layer is. Without keys ("plain"
mode, on loopback only) a sender's name is what the sender says it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from p2pfusion.errors import LocalProtocolError
from p2pfusion.limits import (
    CHUNK_BYTES,
    MAX_BANNER_BYTES,
    MAX_CONTROL_FRAME_BYTES,
    SEAL_BYTES,
)
from p2pfusion.transport.address import Address as Address
from p2pfusion.transport.bounds import (
    MAX_COUNTED_PEERS,
    MAX_FRAMES_PER_MESSAGE,
    MAX_PEER_ID_CHARACTERS,
)

Frame = bytes | memoryview
"""One part of a message: any contiguous buffer of bytes."""

GUEST = "guest "
"""Begins the sender of who is not admitted; its public key follows, in hexadecimal
digits. No peer's id has a space in it."""

OTHERS = "all others"
"""The counter of the names that have none of their own."""

LONGEST_WAIT_S = 3_600.0
"""Longer waits end early, with nothing: an infinite one has no milliseconds."""

_PEER_ID = re.compile(rf"[!-~]{{1,{MAX_PEER_ID_CHARACTERS}}}")


class Plane(StrEnum):
    """Bulk has connections of its own, so that it never delays a probe."""

    CONTROL = "control"
    DATA = "data"


FRAME_LIMITS_BYTES = {
    Plane.CONTROL: (MAX_CONTROL_FRAME_BYTES,) * MAX_FRAMES_PER_MESSAGE,
    Plane.DATA: (MAX_CONTROL_FRAME_BYTES + SEAL_BYTES, CHUNK_BYTES + SEAL_BYTES),
}
"""The largest frames of a message, one after the other: on the data plane a head and,
if there is one, a payload."""

TOKEN_BYTES = 8
"""What names a session on the data plane."""

KEY_BYTES = 32
"""A Curve25519 key, public or secret."""


@dataclass(frozen=True)
class Keys:
    """A Curve25519 key pair of 32 bytes each: who one is to the other side."""

    public: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class Remote:
    """Where a peer listens, and the public key that it must prove: 32 bytes, none in
    plain mode."""

    control: Address
    data: Address
    key: bytes
    relay: str = ""
    """Of one that cannot be dialled: the peer through which it is reached, where it
    keeps a connection standing by, and whose addresses these are. This peer's own id:
    it keeps one here."""


@dataclass(frozen=True)
class Caps:
    """Bytes per second that the data plane sends and receives at most; None: any."""

    up: float | None = None
    down: float | None = None


@dataclass(frozen=True)
class Incoming:
    """A message that arrived; frames of the data plane are views without a copy, valid
    until the next poll."""

    sender: str
    plane: Plane
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Moving:
    """A message on the data plane whose token is this peer's has begun to come and is
    not whole. Said now and then while more of it comes, or waits to be read."""

    sender: str


@dataclass(frozen=True)
class Banner:
    """What the peer at this control address says of itself to everybody."""

    address: Address
    data: bytes


@dataclass(frozen=True)
class KnockFailed:
    """A knock, or the question for a banner, that will lead to nothing.

    ``reason``: ``refused`` (the key that knocked is not admitted there), ``wrong-key``
    (somebody hung up on our handshake: another key, or another program), ``no-answer``
    (nobody is there), ``no-banner`` (somebody is, and says nothing).
    """

    address: Address
    reason: str


Arrival = Incoming | Moving | Banner | KnockFailed
"""What a poll hands over."""


class Traffic:
    """Payload bytes accepted for sending and handed over, and messages dropped."""

    def __init__(self) -> None:
        self._sent: Counter[tuple[Plane, str]] = Counter()
        self._received: Counter[tuple[Plane, str]] = Counter()
        self._relayed: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        """Messages that went nowhere, by reason."""
        self.relayed_bytes = 0
        """What went through this peer between others."""

    def count_sent(self, plane: Plane, peer: str, size_bytes: int) -> None:
        """Notes a message that left."""
        _count(self._sent, plane, peer, size_bytes)

    def count_received(self, plane: Plane, peer: str, size_bytes: int) -> None:
        """Notes a message that arrived."""
        _count(self._received, plane, peer, size_bytes)

    def count_relayed(self, source: str, target: str, size_bytes: int) -> None:
        """Notes bytes of a circuit between two others, whichever way they went."""
        for peer in (source, target):
            known = peer in self._relayed or len(self._relayed) < MAX_COUNTED_PEERS
            self._relayed[peer if known else OTHERS] += size_bytes
        self.relayed_bytes += size_bytes

    def relayed_for(self, peer: str) -> int:
        """What went through this peer from or to another."""
        return self._relayed[peer]

    def sent_bytes(self, *, plane: Plane | None = None, peer: str | None = None) -> int:
        """Sum over what is not named. Knocks count under their address."""
        return _total(self._sent, plane, peer)

    def received_bytes(
        self, *, plane: Plane | None = None, peer: str | None = None
    ) -> int:
        """Sum over what is not named."""
        return _total(self._received, plane, peer)


def _count(
    counter: Counter[tuple[Plane, str]], plane: Plane, peer: str, size_bytes: int
) -> None:
    known = (plane, peer) in counter or len(counter) < MAX_COUNTED_PEERS
    counter[plane, peer if known else OTHERS] += size_bytes


def _total(
    counter: Counter[tuple[Plane, str]], plane: Plane | None, peer: str | None
) -> int:
    return sum(
        size
        for (a_plane, a_peer), size in counter.items()
        if plane in (None, a_plane) and peer in (None, a_peer)
    )


class Transport(Protocol):
    """Used from one thread. ``close`` it at the end; nothing else needs cleaning.

    What was queued leaves while ``poll`` is called again and again."""

    @property
    def addresses(self) -> Mapping[Plane, Address]:
        """Where this peer listens, with the port that was really bound."""
        ...

    @property
    def traffic(self) -> Traffic:
        """What went over the wire so far."""
        ...

    def admit(self, name: str, key: bytes) -> None:
        """Connections that prove this key are ``name``'s from now on, those that wait
        in the handshake included. Replaces an earlier key of ``name``."""
        ...

    def expel(self, name: str) -> None:
        """Refuses the key of ``name`` from now on, closes its connections of both
        planes at once, and forgets links and session."""
        ...

    def set_door(
        self, *, guests: Collection[bytes], strangers: bool, banner: bytes
    ) -> None:
        """Who else may greet: the keys of ``guests`` (invitations), or anybody if
        ``strangers``. ``banner`` is what the data port says to everybody who connects;
        if empty, it says nothing. ``LocalProtocolError`` if it is too long."""
        ...

    def kick(self, sender: str) -> None:
        """Closes the control connections of a guest or a peer. It may come back."""
        ...

    def connect(self, peer: str, remote: Remote) -> None:
        """Makes ``peer`` known. Repeating it does nothing but try a refused connection
        again; a changed address or key replaces the connections and what waits on
        them. Whether anybody answers shows later."""
        ...

    def know(self, peer: str, token: bytes) -> None:
        """A token of 8 bytes that only ``peer`` and this peer know: with it begin the
        passages between them. ``disconnect`` and ``expel`` forget it."""
        ...

    def stand_by(self, peer: str, data: Address) -> None:
        """Keeps a connection to the data plane of ``peer`` there, for it to use when
        it, or another through it, wants to speak to this peer: for who cannot be
        dialled. Needs the token. Repeating it does nothing."""
        ...

    def disconnect(self, peer: str) -> None:
        """Forgets ``peer``; what waits for it still leaves if it can at once."""
        ...

    def open_session(self, peer: str, *, sending: bytes, receiving: bytes) -> None:
        """Tokens of the data plane, of 8 bytes each: with which messages to ``peer``
        begin, and those that are from it. Replaces earlier ones. Without a session
        nothing is sent to ``peer`` on the data plane, and nothing arrives."""
        ...

    def knock(
        self,
        address: Address,
        frames: Sequence[Frame],
        *,
        key: bytes,
        own: Keys | None = None,
    ) -> None:
        """Sends a control message to whoever listens there and proves ``key``, trying
        again for a while; it arrives as any other, from this peer's key.

        ``own`` is the key pair to knock with instead, an invitation's. What went wrong
        comes as ``KnockFailed``, once for each call and some seconds later; silence
        tells nothing."""
        ...

    def ask(self, address: Address) -> None:
        """Fetches the banner of who listens at this control address; the answer comes
        as ``Banner`` or ``KnockFailed``."""
        ...

    def send(self, peer: str, plane: Plane, frames: Sequence[Frame]) -> bool:
        """Queues a message, or returns False: peer or session unknown, or queue full.

        Never blocks. Large frames leave from the caller's memory: do not change it
        afterwards. ``LocalProtocolError`` if the message breaks the plane's bounds.
        """
        ...

    def waiting(self, peer: str) -> int:
        """How many messages to ``peer`` wait on the data plane, those included of which
        a part has left."""
        ...

    def under_way(self, peer: str) -> int:
        """... and those as well that have left and may still arrive: the last ones on
        a connection that holds, as far as the kernel knows (``REMEMBERED_MESSAGES``).
        """
        ...

    def poll(
        self, timeout_s: float | None, descriptors: Mapping[int, int]
    ) -> tuple[list[Arrival], list[int]]:
        """Waits for messages or descriptors: what arrived, and which are ready.

        ``descriptors`` maps each to ``selectors.EVENT_READ`` and ``EVENT_WRITE``. A
        descriptor that hung up counts as ready. ``None`` waits without end; any wait
        may end early. A call hands over a bounded number; the rest come with the next.
        """
        ...

    def close(self) -> None:
        """Lets the last messages leave for a bounded time and frees everything."""
        ...


def bounded_wait_s(timeout_s: float | None) -> float | None:
    """A timeout that every kernel takes."""
    return None if timeout_s is None else min(max(timeout_s, 0.0), LONGEST_WAIT_S)


def check_peer_id(peer: str) -> None:
    """``LocalProtocolError`` unless ``peer`` can name a sender."""
    if not is_peer_id(peer):
        raise LocalProtocolError(f"{peer!r} cannot be the id of a peer")


def is_peer_id(text: str) -> bool:
    """Whether ``text`` is printable ASCII without spaces, and short."""
    return _PEER_ID.fullmatch(text) is not None


def check_banner(banner: bytes) -> None:
    """``LocalProtocolError`` if the other side would not read it to its end."""
    if len(banner) > MAX_BANNER_BYTES:
        raise LocalProtocolError(f"own banner has {len(banner)} bytes")


def size_bytes(frames: Sequence[Frame]) -> int:
    """Payload of a message."""
    return sum(map(_frame_bytes, frames))


def check_outgoing(plane: Plane, frames: Sequence[Frame]) -> int:
    """``LocalProtocolError`` if the other side would refuse these frames; their size in
    bytes."""
    reason = refusal(plane, frames)
    if reason is not None:
        raise LocalProtocolError(f"own message on the {plane} plane has {reason}")
    return size_bytes(frames)


def refusal(plane: Plane, frames: Sequence[Frame]) -> str | None:
    """Why a message is dropped, or None."""
    most = FRAME_LIMITS_BYTES[plane]
    if not 0 < len(frames) <= len(most):
        return "a wrong number of frames"
    for size, limit in zip(map(_frame_bytes, frames), most, strict=False):
        if size > limit:
            return "an oversized frame"
    return None


def _frame_bytes(frame: Frame) -> int:
    return frame.nbytes if isinstance(frame, memoryview) else len(frame)
