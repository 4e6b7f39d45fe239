"""Sealed frames between two peers, under keys that only these two can compute.

Each start of a peer draws an exchange key. From one's own and another's follows a
secret (X25519), and from it, for each direction, the swarm and both incarnations, a
*token* and a row of keys (HKDF). The token names the session on the wire and protects
nothing. Key number *g* seals the messages with counters from *g* x ``rekey_after`` on.

A message has one or two frames. Frame 0 is the counter (8 bytes, big-endian) and the
sealed head, frame 1 the sealed payload. Counters begin at 1 and only rise; the nonce is
the frame's number (4 bytes) and the counter, so that a frame opens only in its place:
replayed, reordered, swapped or cut, it is refused. Lost messages are not noticed here:
streams ask again for what is missing.

Invariant: no key seals two frames under one nonce. Within a session the counter sees
to that; between sessions the ``ExchangeKey``, which opens one per pair of incarnations.
"""

from __future__ import annotations

import platform
import struct
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.limits import CHUNK_BYTES, DATA_BUFFERS, REKEY_AFTER_CHUNKS
from p2pfusion.security.identity import KEY_BYTES, derive

Frame = bytes | memoryview

AES = "aes-256-gcm"
CHACHA = "chacha20-poly1305"
CIPHERS = (AES, CHACHA)

OVERHEAD_BYTES = 16
"""What sealing adds to a payload: the tag."""

TOKEN_BYTES = 8

_COUNTER = struct.Struct(">Q")
_NONCE = struct.Struct(">IQ")
_HEAD, _PAYLOAD = 0, 1

_AES_MACHINES = {"x86_64", "amd64", "arm64", "aarch64"}


def preferred_cipher() -> str:
    """The faster cipher here: ChaCha where the processor has no AES instructions."""
    try:
        described = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        described = ""
    return cipher_for(described, platform.machine())


def cipher_for(cpuinfo: str, machine: str) -> str:
    """The faster cipher of a processor that Linux describes so, or that is named so.

    ``cpuinfo`` is the content of /proc/cpuinfo, empty where there is none; ``machine``
    the name of the architecture, which decides where the description says nothing.
    """
    rows = (row.partition(":") for row in cpuinfo.splitlines())
    flags = [
        words.split()
        for name, _, words in rows
        if name.strip().lower() in ("flags", "features")
    ]
    if flags:
        return AES if all("aes" in words for words in flags) else CHACHA
    return AES if machine.lower() in _AES_MACHINES else CHACHA


@dataclass(frozen=True)
class End:
    """One of a session's two peers, as its signed record describes it."""

    peer: str
    public: bytes
    """Public exchange key, 32 bytes."""
    incarnation: int
    cipher: str
    """The cipher that it prefers: one of ``CIPHERS``."""


class ExchangeKey:
    """The X25519 key of one start of this peer; it is never stored."""

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self._opened: dict[str, tuple[int, int]] = {}
        self.public = private.public_key().public_bytes_raw()
        """The public key, 32 bytes."""

    @classmethod
    def generate(cls) -> ExchangeKey:
        """A new key from the system's source of chance."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, secret: bytes) -> ExchangeKey:
        """The key with this secret of 32 bytes."""
        if len(secret) != KEY_BYTES:
            raise LocalProtocolError(f"an exchange key has {KEY_BYTES} bytes")
        return cls(X25519PrivateKey.from_private_bytes(secret))

    def shared(self, other: bytes) -> bytes:
        """The secret, 32 bytes, that the owner of the public key ``other`` shares.

        Raises ``RemoteProtocolError`` if there is none: wrong length, or one of the few
        keys with which everybody's secret is the same.
        """
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(other))
        except ValueError:
            raise RemoteProtocolError("an exchange key is useless") from None

    def claim(self, me: End, other: End) -> None:
        """Note that a session of these two incarnations begins.

        Incarnations rise, so the newest of each peer is all there is to remember.
        Raises ``RemoteProtocolError`` if this pair, or a later one, has had a session:
        a second one would begin to count anew under the same keys.
        """
        pair = (me.incarnation, other.incarnation)
        if pair <= self._opened.get(other.peer, (-1, -1)):
            raise RemoteProtocolError(
                f"incarnation {other.incarnation} of {other.peer} has had its session"
            )
        self._opened[other.peer] = pair


class _Way:
    """The keys of one direction, and the newest counter that they were used with."""

    def __init__(
        self, shared: bytes, salt: bytes, ends: bytes, cipher: str, rekey_after: int
    ) -> None:
        self._shared = shared
        self._salt = salt
        self._ends = ends
        self._cipher = cipher
        self._rekey_after = rekey_after
        self._generation = 0
        self._key = self._key_of(0)
        self.token = self._derived(b"p2pfusion data token/v1", TOKEN_BYTES)
        self.counter = 0

    def _derived(self, purpose: bytes, length: int) -> bytes:
        info = _joined(purpose, self._ends)
        return derive(self._shared, info, salt=self._salt, length=length)

    def _key_of(self, generation: int) -> AESGCM | ChaCha20Poly1305:
        info = _joined(b"p2pfusion data/v1", self._ends, _COUNTER.pack(generation))
        secret = derive(self._shared, info, salt=self._salt)
        return AESGCM(secret) if self._cipher == AES else ChaCha20Poly1305(secret)

    def key_for(self, counter: int) -> AESGCM | ChaCha20Poly1305:
        """The key of a counter, which must lie in this generation or the next."""
        generation = counter // self._rekey_after
        if generation == self._generation:
            return self._key
        if generation != self._generation + 1:
            raise RemoteProtocolError("a sealed frame skips a generation of keys")
        return self._key_of(generation)

    def advance(self, counter: int, key: AESGCM | ChaCha20Poly1305) -> None:
        """``key``, which ``key_for`` gave, has been used with this counter."""
        self.counter = counter
        self._generation = counter // self._rekey_after
        self._key = key


class _Room:
    """Memory for sealed payloads, used again when nobody has a view of it any more.

    A fresh mebibyte for each chunk costs more than sealing it: while several wait to be
    sent, the system hands out new pages for every one, and clears them first.
    """

    def __init__(self) -> None:
        self._free: list[bytearray] = []

    def take(self, size_bytes: int) -> memoryview:
        """So many bytes, with any content."""
        size = max(size_bytes, CHUNK_BYTES + OVERHEAD_BYTES)
        whole = size == CHUNK_BYTES + OVERHEAD_BYTES
        base = self._free.pop() if whole and self._free else bytearray(size)
        # An array, because it can say when the last view of it is gone.
        array = np.frombuffer(base, np.uint8, size_bytes)
        if whole:
            weakref.finalize(array, self._give, base).atexit = False
        return array.data

    def _give(self, base: bytearray) -> None:
        if len(self._free) < DATA_BUFFERS:
            self._free.append(base)


_ROOM = _Room()


class Session:
    """Keys between this peer and another, both directions, for two incarnations.

    There is one for each pair of incarnations, kept for as long as both last, also
    while they are not connected. It can be thrown away with a peer that is gone for
    good, but not made anew: the other side keeps counting, and nonces may not repeat.
    """

    overhead_bytes = OVERHEAD_BYTES
    """What a sealed payload has more than the payload."""

    def __init__(
        self,
        key: ExchangeKey,
        me: End,
        other: End,
        *,
        swarm: str,
        rekey_after: int = REKEY_AFTER_CHUNKS,
    ) -> None:
        """Raises ``RemoteProtocolError`` for a useless exchange key of the other side,
        and for a pair of incarnations, or an older one, that has had its session."""
        shared = key.shared(other.public)
        salt = _salt(me, other)
        key.claim(me, other)
        both_aes = me.cipher == other.cipher == AES
        cipher = AES if both_aes else CHACHA
        there, back = _ends(swarm, me, other), _ends(swarm, other, me)
        self._sending = _Way(shared, salt, there, cipher, rekey_after)
        self._receiving = _Way(shared, salt, back, cipher, rekey_after)
        self._payload_due = False
        self.sending_token = self._sending.token
        """Names what this side sends, 8 bytes: the other side's receiving token."""
        self.receiving_token = self._receiving.token
        """Names what the other side sends, 8 bytes."""

    def seal(self, frames: Sequence[Frame]) -> list[Frame]:
        """A message's frames, a head or a head and a payload, sealed."""
        if not 1 <= len(frames) <= 2:
            raise LocalProtocolError("a sealed message has one or two frames")
        way = self._sending
        counter = way.counter + 1
        key = way.key_for(counter)
        way.advance(counter, key)
        head, *payloads = frames
        sealed_head = key.encrypt(_NONCE.pack(_HEAD, counter), head, None)
        sealed: list[Frame] = [_COUNTER.pack(counter) + sealed_head]
        for payload in payloads:
            room = _ROOM.take(len(payload) + OVERHEAD_BYTES)
            key.encrypt_into(_NONCE.pack(_PAYLOAD, counter), payload, None, room)
            sealed.append(room)
        return sealed

    def open_head(self, frame: Frame) -> bytes:
        """The head in a message's frame 0.

        Raises ``RemoteProtocolError`` if it was not sealed by the other side in this
        session, or not after everything opened so far; that changes nothing.
        """
        if len(frame) < _COUNTER.size + OVERHEAD_BYTES:
            raise RemoteProtocolError("a sealed frame is cut off")
        way = self._receiving
        (counter,) = _COUNTER.unpack_from(frame)
        if counter <= way.counter:
            raise RemoteProtocolError("a sealed frame comes again, or too late")
        key = way.key_for(counter)
        sealed = memoryview(frame)[_COUNTER.size :]
        try:
            head = key.decrypt(_NONCE.pack(_HEAD, counter), sealed, None)
        except InvalidTag:
            raise RemoteProtocolError("a sealed frame is not genuine") from None
        way.advance(counter, key)
        self._payload_due = True
        return head

    def open_payload(self, frame: Frame, into: memoryview) -> None:
        """Put the payload of the message whose head was opened last into ``into``.

        ``into`` has ``overhead_bytes`` bytes less than ``frame``. Raises
        ``RemoteProtocolError`` if the frame does not belong to that head or has been
        opened already; ``into`` then holds zeros, or what it held.
        """
        if len(frame) < OVERHEAD_BYTES:
            raise RemoteProtocolError("a sealed payload is cut off")
        if not self._payload_due:
            raise RemoteProtocolError("a sealed payload comes without its head")
        _check_room(into, len(frame) - OVERHEAD_BYTES)
        way = self._receiving
        key = way.key_for(way.counter)
        try:
            key.decrypt_into(_NONCE.pack(_PAYLOAD, way.counter), frame, None, into)
        except InvalidTag:
            # The library has decrypted before it knew: nobody shall see that.
            into[:] = bytes(len(into))
            raise RemoteProtocolError("a sealed payload is not genuine") from None
        self._payload_due = False


class PlainSession:
    """The members of a ``Session``, and nothing sealed: for loopback only."""

    overhead_bytes = 0
    """What a sealed payload has more than the payload."""

    def __init__(self, key: ExchangeKey, me: End, other: End, *, swarm: str) -> None:
        """``key`` is not used; with it both kinds are made alike."""
        del key
        there, back = _ends(swarm, me, other), _ends(swarm, other, me)
        self.sending_token = sha256(b"p2pfusion plain\0" + there).digest()[:TOKEN_BYTES]
        """Names what this side sends, 8 bytes: the other side's receiving token."""
        self.receiving_token = sha256(b"p2pfusion plain\0" + back).digest()[
            :TOKEN_BYTES
        ]
        """Names what the other side sends, 8 bytes."""

    def seal(self, frames: Sequence[Frame]) -> list[Frame]:
        """The frames as they are, without a copy."""
        return list(frames)

    def open_head(self, frame: Frame) -> bytes:
        """The head as it is."""
        return bytes(frame)

    def open_payload(self, frame: Frame, into: memoryview) -> None:
        """Copy the payload to ``into``, which is as long."""
        _check_room(into, len(frame))
        into[:] = frame


def _check_room(into: memoryview, size_bytes: int) -> None:
    if len(into) != size_bytes:
        raise LocalProtocolError(
            f"a payload of {size_bytes} bytes is to be opened into {len(into)}"
        )


def _joined(*parts: bytes) -> bytes:
    """The parts, each with its length in front, so that no two rows of them agree."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def _ends(swarm: str, sender: End, receiver: End) -> bytes:
    return _joined(
        swarm.encode(),
        sender.peer.encode(),
        receiver.peer.encode(),
        _COUNTER.pack(sender.incarnation),
        _COUNTER.pack(receiver.incarnation),
    )


def _salt(me: End, other: End) -> bytes:
    # Of two ends with one name both directions would have the same keys.
    if me.peer == other.peer:
        raise LocalProtocolError("a session needs two peers")
    first, second = sorted((me, other), key=lambda end: end.peer)
    return first.public + second.public
