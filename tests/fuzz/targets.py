"""What reads bytes of others, each with a way to feed it and to look at what it does.

A target's ``attempt`` makes one frame, gives it to the code, and names the outcome.
Any exception that leaves it is a finding; ``frames`` are then the bytes that did it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

import msgpack

from p2pfusion.errors import DeniedError, RemoteProtocolError
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import Chunk
from p2pfusion.protocol.statements import banner, read_banner
from p2pfusion.protocol.wire import TOGETHER, decode_all, encode_all
from p2pfusion.security import (
    ED25519,
    OVERHEAD_BYTES,
    DeviceKey,
    End,
    ExchangeKey,
    Scheme,
    Session,
    Ticket,
    check,
    is_ticket,
)
from p2pfusion.security.credential import issue
from p2pfusion.security.ticket import PREFIX, _base32, _checksum
from tests.fuzz.corpus import CODES, MEMBERS, Author
from tests.fuzz.mutation import changed, damaged
from tests.protocol.names import NAMES, NamedKey

REFUSED = "refused"


class Target(Protocol):
    """Something that is fed."""

    name: str
    frames: list[bytes]
    """The bytes of the last attempt."""

    def attempt(self) -> str:
        """Feeds it once; the outcome in a word or two."""

    def finish(self) -> None:
        """Looks at what is left when nothing more comes."""


class _Plain:
    """A target that keeps nothing between two attempts."""

    name = ""

    def __init__(self, rng: random.Random, author: Author) -> None:
        self.rng, self.author = rng, author
        self.frames: list[bytes] = []

    def finish(self) -> None:
        """There is nothing left."""


class Decoding(_Plain):
    """``wire.decode_all`` on both planes."""

    name = "decode"

    def __init__(self, rng: random.Random, author: Author) -> None:
        super().__init__(rng, author)
        self._corpus = [author.frames(kind) for kind in CODES for _ in range(3)]
        self._others = [frame for frames in self._corpus for frame in frames]

    def attempt(self) -> str:
        rng = self.rng
        draw = rng.random()
        if draw < 0.2:
            self.frames = self.author.frames(self.author.kind())
            last = self.frames[:1]
        else:
            some = self._some() if draw < 0.4 else [rng.choice(self._corpus)]
            self.frames, last = _sharing(some), some[-1]
            at = rng.randrange(len(self.frames))
            if draw > 0.3:
                self.frames[at] = damaged(rng, self.frames[at], self._others)
        if rng.random() < 0.02:
            self.frames = self.frames * rng.choice((0, 2, 3))
        on_data = rng.random() < 0.5 if rng.random() < 0.1 else _is_data(last)
        try:
            messages = decode_all(self.frames, data_plane=on_data)
        except RemoteProtocolError:
            return REFUSED
        # What was understood can be said, and is then understood as the same.
        again = [decode_all(f, data_plane=on_data) for f in encode_all(messages)]
        assert [each for together in again for each in together] == messages
        *first, last_one = messages
        assert not isinstance(last_one, Chunk) or last_one.payload.nbytes > 0
        return f"after {len(first)}" if first else type(last_one).__name__

    def _some(self) -> list[list[bytes]]:
        """Messages that share a frame, mostly as they should."""
        some = [
            self.rng.choice(self._corpus) for _ in range(self.rng.choice((2, 3, 6)))
        ]
        on_data = _is_data(some[-1])
        fitting = [each for each in some if _is_data(each) is on_data]
        return some if self.rng.random() < 0.2 else fitting


def _sharing(some: list[list[bytes]]) -> list[bytes]:
    """The frames of some messages, of which the last alone may have a payload."""
    if len(some) == 1:
        return list(some[0])
    shared: bytes = msgpack.packb([TOGETHER, *(head for head, *_ in some)])
    return [shared, *some[-1][1:]]


def _is_data(frames: list[bytes]) -> bool:
    codes = (CODES["StreamStart"], CODES["Chunk"])
    first = frames[0][1:2] if frames else b""
    return first in [bytes([code]) for code in codes]


class Manifests(_Plain):
    """``Manifest.from_bytes``."""

    name = "manifest"

    def attempt(self) -> str:
        rng, packed = self.rng, self.author.packed
        if rng.random() < 0.5:
            wrong = changed(rng, msgpack.unpackb(packed))
            try:
                packed = msgpack.packb(wrong)
            except (OverflowError, ValueError, TypeError):
                packed = b"\xc0"
        else:
            packed = damaged(rng, packed, [packed])
        self.frames = [packed]
        try:
            manifest = Manifest.from_bytes(packed)
        except RemoteProtocolError:
            return REFUSED
        assert manifest.to_bytes() == packed and manifest.swarm_id
        return "taken"


class Credentials(_Plain):
    """``credential.check``, mostly of chains that somebody has really signed."""

    name = "credential"

    def __init__(self, rng: random.Random, author: Author) -> None:
        super().__init__(rng, author)
        self._real = DeviceKey.from_seed(rng.randbytes(32))
        self._chain = issue(
            self._real,
            b"",
            swarm=author.manifest.swarm_id,
            public=self._real.public,
            role="admin",
            invite="x",
        )

    def attempt(self) -> str:
        rng, swarm = self.rng, self.author.manifest.swarm_id
        scheme: Scheme = NAMES
        founder = NamedKey("p0").public
        chain = self.author.credential(rng.choice(MEMBERS))
        if rng.random() < 0.3:
            scheme, founder, chain = ED25519, self._real.public, self._chain
        if rng.random() < 0.5:
            chain = damaged(rng, chain, [self._chain])
        self.frames = [chain]
        try:
            found = check(chain, swarm=swarm, founder=founder, scheme=scheme)
        except RemoteProtocolError:
            return REFUSED
        assert found.swarm == swarm and found.issuers[0] == scheme.peer_id(founder)
        assert 1 <= len(found.issuers) <= 4 and found.role in ("member", "admin")
        assert found.subject == scheme.peer_id(found.public)
        # One form only: what was taken is what was issued, byte for byte.
        assert msgpack.packb(msgpack.unpackb(chain)) == chain
        assert scheme is NAMES or chain == self._chain
        return f"{found.role}, {len(found.issuers)} links"


class Banners(_Plain):
    """``statements.read_banner``, what whoever listens somewhere says of itself."""

    name = "banner"

    def __init__(self, rng: random.Random, author: Author) -> None:
        super().__init__(rng, author)
        self._real = DeviceKey.from_seed(rng.randbytes(32))
        self._said = banner(rng.randbytes(32), self._real)

    def attempt(self) -> str:
        rng, said = self.rng, self._said
        what = rng.random()
        if what < 0.4:
            said = msgpack.packb(changed(rng, msgpack.unpackb(said)))
        elif what < 0.9:
            said = damaged(rng, said, [said])
        self.frames = [said]
        try:
            peer, key = read_banner(said, ED25519)
        except RemoteProtocolError:
            return REFUSED
        assert peer == self._real.peer and len(key) == 32
        return "taken"


class Tickets(_Plain):
    """``Ticket.decode``, of texts that somebody has typed or put together."""

    name = "ticket"

    def __init__(self, rng: random.Random, author: Author) -> None:
        super().__init__(rng, author)
        self._ticket = Ticket(
            addresses=("10.0.0.1:4747", "[fe80::1]:4747", "host.example:1"),
            issuer="p0",
            transport_key=rng.randbytes(32),
            swarm=author.manifest.swarm_id,
            invite="invite-1",
            secret=rng.randbytes(16),
            role=rng.choice(("member", "admin")),
            uses=rng.choice((0, 1, 7)),
            expires=rng.choice((0, 2_000_000_000)),
        )
        self._text = self._ticket.encode()

    def attempt(self) -> str:
        rng = self.rng
        if rng.random() < 0.4:
            return self._typed()
        fields = [list(self._ticket.addresses)]
        fields += [getattr(self._ticket, n) for n in FIELDS[1:]]  # type: ignore[misc]
        content = msgpack.packb(fields)
        if rng.random() < 0.7:
            try:
                content = msgpack.packb(changed(rng, fields))
            except (OverflowError, ValueError, TypeError):
                content = b"\xc0"
        else:
            content = damaged(rng, content, [content])
        text = PREFIX + _base32(content + _checksum(content))
        self.frames = [text.encode()]
        ticket = self._decoded(text)
        if ticket is None:
            return REFUSED
        assert ticket.encode() == text
        ticket.check_expiry(0.0)
        return "taken"

    def _typed(self) -> str:
        """Accidents on the text itself, which are all found, or mean nothing."""
        rng = self.rng
        raw = damaged(rng, self._text.encode(), [self._text.encode()])
        text = raw.decode(rng.choice(("utf-8", "latin-1")), errors="replace")
        text = rng.choice((text, text, text.upper(), f" {text}\n"))
        self.frames = [text.encode()]
        ticket = self._decoded(text)
        assert ticket is None or ticket == self._ticket
        return REFUSED if ticket is None else "the same"

    @staticmethod
    def _decoded(text: str) -> Ticket | None:
        is_ticket(text)
        try:
            return Ticket.decode(text)
        except DeniedError:
            return None


FIELDS = tuple(Ticket.__dataclass_fields__)


class Sessions(_Plain):
    """``Session.open_head`` and ``open_payload``, between genuine messages."""

    name = "session"

    def __init__(self, rng: random.Random, author: Author) -> None:
        super().__init__(rng, author)
        keys = [ExchangeKey.from_bytes(rng.randbytes(32)) for _ in range(2)]
        cipher = rng.choice(("aes-256-gcm", "chacha20-poly1305"))
        ends = [
            End(name, key.public, 1, cipher)
            for name, key in zip("ab", keys, strict=True)
        ]
        swarm = author.manifest.swarm_id
        self._sender = Session(keys[0], *ends, swarm=swarm, rekey_after=64)
        self._receiver = Session(keys[1], *ends[::-1], swarm=swarm, rekey_after=64)
        self._sealed: list[list[bytes]] = []

    def attempt(self) -> str:
        rng = self.rng
        if not self._sealed or rng.random() < 0.2:
            return self._genuine()
        frames = [bytes(frame) for frame in rng.choice(self._sealed)]
        at = rng.randrange(len(frames))
        others = [frame for message in self._sealed for frame in message]
        frames[at] = damaged(rng, frames[at], others)
        if rng.random() < 0.3:
            frames[at] = rng.choice(others)
        self.frames = frames
        try:
            self._open(frames)
        except RemoteProtocolError:
            return REFUSED
        raise AssertionError("something was opened that was not due")

    def _genuine(self) -> str:
        """The next message of the other side opens, whatever came before it."""
        head, payload = self.rng.randbytes(40), self.rng.randbytes(300)
        said = [head, payload][: self.rng.choice((1, 2, 2))]
        frames = [bytes(frame) for frame in self._sender.seal(said)]
        self._sealed = [*self._sealed, frames][-8:]
        opened = []
        for at, frame in enumerate(frames):
            read = self._head if at == 0 else self._payload
            self.frames = [*frames[:at], damaged(self.rng, frame, frames)]
            if self.frames[at] != frame:
                self._refused(read, self.frames[at])
            self.frames = frames
            opened.append(read(frame))
        assert opened == said
        return "genuine"

    @staticmethod
    def _refused(read: Callable[[bytes], bytes], frame: bytes) -> None:
        try:
            read(frame)
        except RemoteProtocolError:
            return
        raise AssertionError("a damaged frame was opened")

    def _open(self, frames: list[bytes]) -> list[bytes]:
        return [self._head(frames[0]), *map(self._payload, frames[1:])]

    def _head(self, frame: bytes) -> bytes:
        return self._receiver.open_head(frame)

    def _payload(self, frame: bytes) -> bytes:
        into = memoryview(bytearray(max(0, len(frame) - OVERHEAD_BYTES)))
        self._receiver.open_payload(frame, into)
        return bytes(into)


STATELESS = (Decoding, Manifests, Credentials, Banners, Tickets, Sessions)
