"""Bytes to message and back: the only place that knows the format.

A message is one frame of plain msgpack: ``[code, field, field, ...]``, fields in the
order of the message's class. A ``Chunk`` has its payload in a second frame. Messages to
one peer may share a frame, ``[0, message, message, ...]``: a frame costs more than what
is in it. ``decode`` turns any bytes whatever into a message, ``decode_all`` into some,
or both raise ``RemoteProtocolError``: types, lengths and bounds are checked here, once,
so that the rest of the protocol handles values only.
What a signed statement says is read, and its signature checked, in ``statements.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter

from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.limits import (
    CHUNK_BYTES,
    DIGEST_BUCKETS,
    FACT_ID_BYTES,
    MAX_CHAIN_BYTES,
    MAX_CLOSING_BYTES,
    MAX_CONTROL_FRAME_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_NAME_CHARACTERS,
    MAX_NAMED_FACTS,
    MAX_RECORD_BYTES,
    MAX_RECOVERIES,
    MAX_REFUSED_CHARACTERS,
    MAX_ROSTER,
    MAX_START_BYTES,
    MAX_STATEMENT_BYTES,
    MAX_TOGETHER,
)
from p2pfusion.protocol import schema
from p2pfusion.protocol.merkle import MAX_PROOF_BYTES
from p2pfusion.protocol.messages import (
    CHECKPOINT,
    TABLE,
    Chunk,
    Credit,
    Digests,
    Evidence,
    Facts,
    Goodbye,
    Hello,
    Known,
    ManifestPart,
    Membership,
    Message,
    Ping,
    Pong,
    ProbeFor,
    Recovery,
    Refusal,
    Refused,
    Request,
    Revocation,
    Seen,
    Signed,
    SignedClosing,
    SignedOffer,
    StreamStart,
    Wanted,
    Welcome,
)
from p2pfusion.protocol.schema import Check
from p2pfusion.split.plan import Hop
from p2pfusion.split.restoring import MAX_ASKED_BYTES, MAX_VERSION

Frame = bytes | memoryview

BUCKETS_BYTES = DIGEST_BUCKETS * 8
"""Digests of the facts: eight bytes for each part of them."""

TOGETHER = 0
"""In place of a message's code: what follows are messages."""

LENGTH_BYTES = 4
"""What a message in a shared frame takes beside its own bytes, and the frame's head."""

MAX_ABSENT_BYTES = 64 * 1024 - 512
HOPS = frozenset({*(hop.value for hop in Hop), TABLE, CHECKPOINT})
REFUSED_CODES = frozenset({"version", "not-ready", "denied", "pending"})
REFUSAL_REASONS = frozenset({"gone", "plan", "not-training", "busy", "lacking"})

_number = schema.whole()
_name = schema.text(MAX_NAME_CHARACTERS)
_digest = schema.raw(16, least=16)
_signature = schema.raw(64, least=64)
_signed = schema.group(Signed, schema.raw(MAX_STATEMENT_BYTES, least=32), _signature)
_record = schema.group(Signed, schema.raw(MAX_RECORD_BYTES, least=32), _signature)
_list = schema.group(Signed, schema.raw(MAX_START_BYTES, least=32), _signature)
_closing = schema.group(Signed, schema.raw(MAX_CLOSING_BYTES, least=32), _signature)
_chain = schema.raw(MAX_CHAIN_BYTES)
_ids = schema.pieces(FACT_ID_BYTES, MAX_NAMED_FACTS)

SCHEMAS: dict[type, tuple[int, tuple[Check, ...]]] = {
    Hello: (1, (_number, _name, _record, _chain, _name, schema.raw_or_nothing(32))),
    Welcome: (2, (_name, _number, schema.whole(0, MAX_MANIFEST_BYTES), _chain)),
    ManifestPart: (3, (_number, schema.raw(MAX_CONTROL_FRAME_BYTES, least=1))),
    Refused: (4, (schema.one_of(REFUSED_CODES), schema.text(MAX_REFUSED_CHARACTERS))),
    Facts: (
        5,
        (
            schema.many(schema.group(Membership, _record, _chain), MAX_ROSTER),
            schema.optional(_list),
            schema.many(schema.group(Revocation, _signed, _chain), MAX_ROSTER),
            schema.many(_signed, MAX_ROSTER),
            schema.many(schema.group(Recovery, _list, _chain), MAX_RECOVERIES),
            schema.many(schema.group(Evidence, _signed, _signed), MAX_ROSTER),
        ),
    ),
    Ping: (6, (_number, _number, _digest)),
    Pong: (7, (_number, _number, _digest, schema.real)),
    Goodbye: (8, ()),
    SignedOffer: (9, (_signed, schema.raw(MAX_PROOF_BYTES))),
    Request: (
        10,
        (
            *(_number, schema.one_of(HOPS), _number, _digest, _name, _number, _number),
            *(schema.raw(MAX_ASKED_BYTES), schema.whole(0, MAX_VERSION)),
        ),
    ),
    Refusal: (11, (_number, schema.one_of(REFUSAL_REASONS))),
    Credit: (12, (_number, _number)),
    StreamStart: (
        13,
        (_number, _number, _number, schema.raw(MAX_ABSENT_BYTES), _number),
    ),
    Chunk: (14, (_number, _number)),
    Digests: (15, (schema.raw(BUCKETS_BYTES, least=BUCKETS_BYTES),)),
    ProbeFor: (16, (_number, _name)),
    Seen: (17, (_number, _name)),
    Known: (18, (schema.raw_or_nothing(DIGEST_BUCKETS // 8), _ids)),
    Wanted: (19, (_ids,)),
    SignedClosing: (20, (_closing,)),
}
_BY_CODE = {code: (kind, checks) for kind, (code, checks) in SCHEMAS.items()}
_DATA_CODES = frozenset(SCHEMAS[kind][0] for kind in (StreamStart, Chunk))


def _reader(kind: type) -> Callable[[object], tuple[object, ...]]:
    """What reads the fields of such a value, in order; of several by one call."""
    names = [field.name for field in fields(kind)]
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


_PARTS: dict[type, Callable[[object], tuple[object, ...]]] = {
    kind: _reader(kind) for kind in (Signed, Membership, Revocation, Recovery, Evidence)
}


def _plain(value: object) -> object:
    read = _PARTS.get(type(value))
    if read is not None:
        return [_plain(item) for item in read(value)]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _nested(kind: type) -> Callable[[object], list[object]]:
    """The same, of one that has values of several parts."""
    read = _reader(kind)
    return lambda value: [_plain(item) for item in read(value)]


_READERS: dict[type, Callable[..., Sequence[object]]] = {
    **{kind: _reader(kind) for kind in SCHEMAS},
    **{kind: _nested(kind) for kind in (Hello, Facts, SignedOffer, SignedClosing)},
    Chunk: attrgetter("pull", "offset"),
}


def encode(message: Message) -> list[Frame]:
    """The frames of a message; ``LocalProtocolError`` if it breaks a bound."""
    kind = type(message)
    code, checks = SCHEMAS[kind]
    plain = _READERS[kind](message)
    try:
        schema.checked(checks, plain)
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"{kind.__name__}: {error}") from None
    head = schema.pack([code, *plain])
    if len(head) > MAX_CONTROL_FRAME_BYTES:
        raise LocalProtocolError(f"{kind.__name__} is too long for a frame")
    return [head, message.payload] if type(message) is Chunk else [head]


def encode_all(messages: Iterable[Message]) -> list[list[Frame]]:
    """The frames of messages for one peer and plane, in as few pairs as hold them: a
    chunk is the last of its frame, because of its payload."""
    sent: list[list[Frame]] = []
    heads: list[Frame] = []
    room = MAX_CONTROL_FRAME_BYTES
    for message in messages:
        head, *payload = encode(message)
        room -= len(head) + LENGTH_BYTES
        if heads and (room < LENGTH_BYTES or len(heads) == MAX_TOGETHER):
            sent.append([_together(heads)])
            heads, room = [], MAX_CONTROL_FRAME_BYTES - len(head) - LENGTH_BYTES
        heads.append(head)
        if payload:
            sent.append([_together(heads), *payload])
            heads, room = [], MAX_CONTROL_FRAME_BYTES
    return [*sent, [_together(heads)]] if heads else sent


def _together(heads: Sequence[Frame]) -> Frame:
    return heads[0] if len(heads) == 1 else schema.pack([TOGETHER, *heads])


def decode(frames: Sequence[Frame], *, data_plane: bool) -> Message:
    """The message in these frames.

    Raises ``RemoteProtocolError``, and nothing else, for anything but one well-formed
    message that belongs on this plane.
    """
    head, payload = _apart(frames)
    return _message(*_parts(head), payload, data_plane=data_plane)


def decode_all(frames: Sequence[Frame], *, data_plane: bool) -> list[Message]:
    """The messages in these frames, in order; ``RemoteProtocolError`` as ``decode``."""
    head, payload = _apart(frames)
    code, values = _parts(head)
    if code != TOGETHER:
        return [_message(code, values, payload, data_plane=data_plane)]
    heads = [head for head in values if isinstance(head, bytes)]
    if not 2 <= len(heads) == len(values) <= MAX_TOGETHER:
        raise schema.bad("no messages in a frame for several")
    *first, last = (_parts(head) for head in heads)
    messages = [_message(*parts, (), data_plane=data_plane) for parts in first]
    return [*messages, _message(*last, payload, data_plane=data_plane)]


def _apart(frames: Sequence[Frame]) -> tuple[Frame, Sequence[Frame]]:
    """A message's head, and its payload if there is one."""
    if not 1 <= len(frames) <= 2 or len(frames[0]) > MAX_CONTROL_FRAME_BYTES:
        raise schema.bad("wrong number or length of frames")
    return frames[0], frames[1:]


def _parts(head: Frame) -> tuple[int, list[object]]:
    """A code, and what follows it."""
    parts = schema.unpack(head)
    if not parts or type(parts[0]) is not int:
        raise schema.bad("not a list that begins with a code")
    return parts[0], parts[1:]


def _message(
    code: int, said: list[object], payload: Sequence[Frame], *, data_plane: bool
) -> Message:
    """The message with this code, of what was said and what came beside it."""
    kind, checks = _BY_CODE.get(code, (None, ()))
    if kind is None:
        raise schema.bad("an unknown code")
    if (code in _DATA_CODES) is not data_plane:
        raise schema.bad("on the wrong plane")
    values = schema.checked(checks, said)
    if bool(payload) is not (kind is Chunk):
        raise schema.bad("a payload where none belongs, or none where one does")
    if kind is Chunk:
        view = memoryview(payload[0])
        if not 1 <= view.nbytes <= CHUNK_BYTES:
            raise schema.bad("a chunk of wrong length")
        values.append(view)
    message: Message = kind(*values)
    return message
