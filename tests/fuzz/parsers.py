"""Everything that turns bytes of others into something, as functions of the bytes.

Unlike the targets of ``frames.py`` these keep nothing: an input alone says what will
happen, so inputs are kept in ``corpus/`` and tried again by the normal tests. ``read``
gives the outcome in a word; whatever it raises is a finding.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgpack
import numpy as np

from p2pfusion.daemon.address import parse_address
from p2pfusion.daemon.ways import ways_of
from p2pfusion.errors import ConfigError, DeniedError, LayoutError, RemoteProtocolError
from p2pfusion.fusion import codec
from p2pfusion.protocol import statements
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import Signed
from p2pfusion.protocol.wire import decode_all, encode_all
from p2pfusion.security import (
    ED25519,
    DeviceKey,
    End,
    ExchangeKey,
    Session,
    Ticket,
    check,
    issue,
)
from p2pfusion.split.forms import FORMS
from p2pfusion.split.homes import Homes
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.masks import decode_mask, encode_mask, mask_bytes
from p2pfusion.transport.asking import read_banner, write_banner
from p2pfusion.transport.zap import Handshake
from tests.fuzz.corpus import CODES, Author
from tests.fuzz.mutation import changed
from tests.protocol.names import NAMES, NamedKey
from tests.protocol.stage import small_layout, small_manifest

REFUSED, TAKEN = "refused", "taken"

Read = Callable[[bytes], str]
Seeds = Callable[[random.Random], list[bytes]]
Change = Callable[[random.Random, bytes], bytes]

MANIFEST = small_manifest(rounds=32)
SWARM = MANIFEST.swarm_id
REAL = DeviceKey.from_seed(bytes(range(32)))
ISSUED = issue(
    REAL, b"", swarm=SWARM, public=REAL.public, role="admin", invite="an-invite"
)


@dataclass(frozen=True)
class Parser:
    """Something that reads bytes."""

    name: str
    read: Read
    """The outcome. Any exception is a finding."""
    seeds: Seeds
    """Inputs to begin with, most of them right."""
    change: Change | None = None
    """Another way to damage an input that it takes, which leaves its form as it is."""
    is_native: bool = False
    """Whether a library reads them that may end the process: they are noted before."""


def refusing(*errors: type[Exception]) -> Callable[[Callable[[bytes], object]], Read]:
    """Of a function that raises these, and nothing else, for what it refuses."""

    def decorate(parse: Callable[[bytes], object]) -> Read:
        @functools.wraps(parse)
        def read(data: bytes) -> str:
            try:
                outcome = parse(data)
            except errors:
                return REFUSED
            return outcome if isinstance(outcome, str) else TAKEN

        return read

    return decorate


def parts(data: bytes) -> list[bytes]:
    """Several inputs in one: before each its length, in two bytes."""
    found = []
    while data:
        size = int.from_bytes(data[:2], "big")
        found.append(data[2 : 2 + size])
        data = data[2 + size :]
    return found


def joined(several: Sequence[bytes]) -> bytes:
    """What ``parts`` takes apart."""
    return b"".join(len(each).to_bytes(2, "big") + each for each in several)


# --- Damage to what has a form ---


def changed_json(rng: random.Random, data: bytes) -> bytes:
    """One thing in a JSON text is another."""
    value = changed(rng, json.loads(data))
    return json.dumps(value, default=repr).encode() + b"\n"


def changed_msgpack(rng: random.Random, data: bytes) -> bytes:
    """One thing in a packed value is another."""
    packed: bytes = msgpack.packb(changed(rng, msgpack.unpackb(data)))
    return packed


def _changed_statement(rng: random.Random, data: bytes) -> bytes:
    kind, line, said = data.partition(b"\n")
    return kind + line + changed_msgpack(rng, said)


def _changed_frames(rng: random.Random, data: bytes) -> bytes:
    head, *rest = parts(data)
    return joined([changed_msgpack(rng, head), *rest])


# --- Messages ------------------------------------------------------------------------


def _read_messages(data: bytes, *, data_plane: bool) -> str:
    messages = decode_all(parts(data), data_plane=data_plane)
    again = [decode_all(f, data_plane=data_plane) for f in encode_all(messages)]
    assert [each for some in again for each in some] == messages
    return type(messages[-1]).__name__


def _messages(rng: random.Random) -> list[bytes]:
    author = Author(rng, MANIFEST, damage=0.03)
    return [joined(author.frames(kind)) for kind in CODES for _ in range(3)]


@refusing(RemoteProtocolError)
def _statement(data: bytes) -> str:
    """All that a peer can sign, and does: it is read behind a good signature."""
    kind, _, said = data.partition(b"\n")
    name = kind.decode("ascii", "replace")
    if name not in READ:
        return "no kind of statement"
    author = NamedKey("p0")
    payload = author.public + said
    READ[name](Signed(payload, author.sign(f"{name}/v1", payload)))
    return name


P0 = NamedKey("p0").public

READ: dict[str, Callable[[Signed], object]] = {
    "record": lambda s: statements.read_record(s, NAMES),
    "start": lambda s: statements.read_start(s, NAMES, swarm=SWARM, founder=P0),
    "revocation": lambda s: statements.read_revocation(s, NAMES, swarm=SWARM),
    "accusation": lambda s: statements.read_accusation(s, NAMES, swarm=SWARM),
    "recovery": lambda s: statements.read_recovery(s, NAMES, swarm=SWARM),
    "offer": lambda s: statements.read_offer(s, NAMES, swarm=SWARM, key=P0),
    "closing": lambda s: statements.read_closing(s, NAMES, swarm=SWARM),
}


def _statements(rng: random.Random) -> list[bytes]:
    author = Author(rng, MANIFEST, damage=0.02)
    made = {
        "record": lambda: author._record("p0", SWARM),
        "start": author._start,
        "revocation": author._revocation,
        "accusation": author._accusation,
        "recovery": author._recovery,
        "offer": author._offer,
        "closing": author._closing,
    }
    return [
        kind.encode() + b"\n" + bytes(write()[0][len(P0) :])  # type: ignore[index]
        for kind, write in made.items()
        for _ in range(4)
    ]


# --- Who may come in -----------------------------------------------------------------


@refusing(RemoteProtocolError)
def _credential(data: bytes) -> str:
    found = check(data, swarm=SWARM, founder=REAL.public, scheme=ED25519)
    assert data == ISSUED
    return found.role


@refusing(RemoteProtocolError)
def _named_credential(data: bytes) -> str:
    founder = NamedKey("p0").public
    found = check(data, swarm=SWARM, founder=founder, scheme=NAMES)
    return f"{found.role} {len(found.issuers)}"


def _chains(rng: random.Random) -> list[bytes]:
    author = Author(rng, MANIFEST, damage=0.05)
    return [author.credential(peer) for peer in ("p1", "m1", "me") for _ in range(5)]


TICKET = Ticket(
    addresses=("10.0.0.1:4747", "[fe80::1]:4747", "host.example:1"),
    issuer="p0",
    transport_key=bytes(range(32)),
    swarm=SWARM,
    invite="invite-1",
    secret=bytes(16),
    role="member",
    uses=3,
    expires=2_000_000_000,
)


@refusing(DeniedError, ConfigError)
def _way(data: bytes) -> object:
    """A ticket, or an address, that somebody has typed."""
    return ways_of(data.decode("utf-8", "replace"), "typed", 1_900_000_000.0)


@refusing(ConfigError)
def _address(data: bytes) -> object:
    return parse_address(data.decode("utf-8", "replace"), "listen")


def _ways(rng: random.Random) -> list[bytes]:
    tickets = [TICKET, replace(TICKET, uses=0, expires=0, addresses=("h:1",))]
    typed = ["127.0.0.1:4747", "[::1]:1", "host", "h:65535", "h:0"]
    return [each.encode() for each in (*(t.encode() for t in tickets), *typed)]


@refusing(RemoteProtocolError)
def _banner(data: bytes) -> object:
    banner = read_banner(data)
    if banner is None:
        return "more is to come"
    return statements.read_banner(banner, ED25519)


def _banners(rng: random.Random) -> list[bytes]:
    return [write_banner(statements.banner(bytes(range(32)), REAL))]


@refusing()
def _question(data: bytes) -> str:
    """What the library asks about a key."""
    return REFUSED if Handshake.parse(parts(data)) is None else TAKEN


def _questions(rng: random.Random) -> list[bytes]:
    asked = [b"route", b"", b"1.0", b"1", b"p2pfusion", b"127.0.0.1", b"", b"CURVE"]
    return [joined([*asked, bytes(32)]), joined([*asked[:5], b"fe80::1%x", *asked[6:]])]


def _sealed() -> tuple[Session, list[bytes]]:
    """A session, and what its other end has said."""
    keys = [ExchangeKey.from_bytes(bytes([number]) * 32) for number in (1, 2)]
    named = zip("ab", keys, strict=True)
    ends = [End(name, key.public, 1, "aes-256-gcm") for name, key in named]
    sender = Session(keys[0], *ends, swarm=SWARM)
    frames = sender.seal([b"a head", b"a payload"])
    return Session(keys[1], *ends[::-1], swarm=SWARM), [bytes(f) for f in frames]


@refusing(RemoteProtocolError)
def _sealed_frames(data: bytes) -> str:
    """Bulk frames, as a session opens them. What opens is what was sealed."""
    session, genuine = _sealed()
    frames = parts(data)
    head = session.open_head(frames[0] if frames else b"")
    assert (frames[0], head) == (genuine[0], b"a head")
    for frame in frames[1:]:
        into = memoryview(bytearray(max(0, len(frame) - session.overhead_bytes)))
        session.open_payload(frame, into)
        assert frame == genuine[1]
    return f"{len(frames)} frames"


# --- What a swarm agrees on ----------------------------------------------------------


@refusing(RemoteProtocolError)
def _manifest(data: bytes) -> object:
    manifest = Manifest.from_bytes(data)
    assert manifest.to_bytes() == data
    return TAKEN


def _manifests(rng: random.Random) -> list[bytes]:
    others = (
        small_manifest(rounds=5, admission="ticket", method="fedrolex"),
        small_manifest(rounds=5, weighting="samples", pretrained="ab" * 32),
    )
    return [each.to_bytes() for each in (MANIFEST, *others)]


@refusing(LayoutError)
def _homes(data: bytes) -> object:
    homes = Homes.from_bytes(MANIFEST.layout, data)
    assert Homes.from_bytes(MANIFEST.layout, homes.to_bytes()).to_bytes() == (
        homes.to_bytes()
    )
    return TAKEN


def _tables(rng: random.Random) -> list[bytes]:
    return [Homes.initial(MANIFEST.layout).to_bytes()]


@refusing(LayoutError)
def _mask(data: bytes) -> object:
    axes = small_layout().axes
    sets = decode_mask(axes, data)
    assert encode_mask(axes, sets) == data
    return TAKEN


def _masks(rng: random.Random) -> list[bytes]:
    axes = small_layout().axes
    every = {axis.name: IndexSet.span(0, axis.cell_count) for axis in axes}
    first = {axis.name: IndexSet.span(0, 1) for axis in axes}
    empty = bytes(mask_bytes(axes))
    return [encode_mask(axes, every), encode_mask(axes, first), empty]


# --- Values --------------------------------------------------------------------------


@refusing(RemoteProtocolError)
def _values(data: bytes) -> str:
    """Every wire type, of whole and of cut streams. What comes out is finite."""
    name = list(FORMS)[data[0] % len(FORMS)] if data else next(iter(FORMS))
    raw, form = data[1:], FORMS[name]
    codec.check_cut(form, offset=0, size=len(raw), total=len(raw))
    values = codec.decode(raw, name)
    assert np.isfinite(values).all(), name
    return name


def _streams(rng: random.Random) -> list[bytes]:
    draws = np.random.default_rng(rng.randrange(1 << 30))
    made = []
    for number, name in enumerate(FORMS):
        for count in (1, 3, 64, 200):
            values = draws.normal(size=count).astype(np.float32)
            made.append(bytes([number]) + bytes(codec.encode(values, name)))
    return made


PARSERS = (
    Parser(
        "control",
        refusing(RemoteProtocolError)(lambda d: _read_messages(d, data_plane=False)),
        _messages,
        _changed_frames,
    ),
    Parser(
        "bulk",
        refusing(RemoteProtocolError)(lambda d: _read_messages(d, data_plane=True)),
        _messages,
        _changed_frames,
    ),
    Parser("statement", _statement, _statements, _changed_statement),
    Parser("credential", _credential, lambda rng: [ISSUED]),
    Parser("chain", _named_credential, _chains, changed_msgpack),
    Parser("way", _way, _ways),
    Parser("address", _address, _ways),
    Parser("banner", _banner, _banners),
    Parser("zap", _question, _questions),
    Parser("sealed", _sealed_frames, lambda rng: [joined(_sealed()[1])]),
    Parser("manifest", _manifest, _manifests, changed_msgpack),
    Parser("homes", _homes, _tables),
    Parser("mask", _mask, _masks),
    Parser("values", _values, _streams),
)
"""Those that need no file and no socket."""
