"""Bytes to message and back: the only place that knows the format.

A message is one frame of plain msgpack: ``[code, field, field, ...]``, fields in the
order of the message's class. A ``Chunk`` has its payload in a second frame. ``decode``
turns any bytes whatever into a message or a ``RemoteProtocolError``: types, lengths and
bounds are checked here, once, so that the rest of the protocol handles values only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import msgpack

from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.limits import (
    CHUNK_BYTES,
    MAX_ADDRESS_CHARACTERS,
    MAX_CONTROL_FRAME_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_NAME_CHARACTERS,
    MAX_ROSTER,
)
from p2pfusion.protocol.messages import (
    BEFORE_START,
    TABLE,
    Chunk,
    Credit,
    Facts,
    Goodbye,
    Hello,
    ManifestPart,
    Message,
    Offer,
    PeerRecord,
    Ping,
    Pong,
    Refusal,
    Refused,
    Request,
    StreamStart,
    Welcome,
)
from p2pfusion.split.plan import Hop

Frame = bytes | memoryview
Check = Callable[[Any], Any]

MAX_INTEGER = 2**63 - 1
MAX_ABSENT_BYTES = 64 * 1024 - 512
HOPS = frozenset({*(hop.value for hop in Hop), TABLE})
REFUSED_CODES = frozenset({"version", "not-ready"})
REFUSAL_REASONS = frozenset({"gone", "plan", "not-training", "busy"})


def _bad(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"malformed message: {what}")


def _whole(low: int = 0, high: int = MAX_INTEGER) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _bad("an integer out of its bounds")
        return value

    return check


def _real(value: Any) -> float:
    if type(value) is not float or not math.isfinite(value):
        raise _bad("a number that is not finite")
    return value


def _text(most: int, *, least: int = 0) -> Check:
    def check(value: Any) -> str:
        if type(value) is not str or not least <= len(value) <= most:
            raise _bad("a text of wrong length")
        if not value.isprintable():
            raise _bad("a text with control characters")
        return value

    return check


def _raw(most: int, *, least: int = 0) -> Check:
    def check(value: Any) -> bytes:
        if type(value) is not bytes or not least <= len(value) <= most:
            raise _bad("bytes of wrong length")
        return value

    return check


def _one_of(allowed: frozenset[str]) -> Check:
    def check(value: Any) -> str:
        if type(value) is not str or value not in allowed:
            raise _bad("an unknown word")
        return value

    return check


def _many(check_one: Check, most: int) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) > most:
            raise _bad("a list of wrong length")
        return tuple(check_one(item) for item in value)

    return check


_peer = _text(MAX_NAME_CHARACTERS, least=1)
_name = _text(MAX_NAME_CHARACTERS)
_number = _whole()
_port = _whole(1, 65_535)
_digest = _raw(16, least=16)
_RECORD: tuple[Check, ...] = (
    _peer,
    _name,
    _text(MAX_ADDRESS_CHARACTERS, least=1),
    _port,
    _port,
    _text(32, least=1),
    _number,
    _number,
    _whole(BEFORE_START),
)


def _record(value: Any) -> PeerRecord:
    if type(value) is not list or len(value) != len(_RECORD):
        raise _bad("a peer record of wrong length")
    return PeerRecord(
        *(check(item) for check, item in zip(_RECORD, value, strict=True))
    )


SCHEMAS: dict[type, tuple[int, tuple[Check, ...]]] = {
    Hello: (1, (_number, _name, _record)),
    Welcome: (2, (_name, _number, _whole(0, MAX_MANIFEST_BYTES))),
    ManifestPart: (3, (_number, _raw(MAX_CONTROL_FRAME_BYTES, least=1))),
    Refused: (4, (_one_of(REFUSED_CODES), _text(500))),
    Facts: (5, (_many(_record, MAX_ROSTER), _many(_peer, MAX_ROSTER))),
    Ping: (6, (_number, _number, _digest)),
    Pong: (7, (_number, _number, _digest)),
    Goodbye: (8, ()),
    Offer: (9, (_number, _digest, _number, _real, _real, _real)),
    Request: (
        10,
        (_number, _one_of(HOPS), _number, _digest, _name, _number, _number),
    ),
    Refusal: (11, (_number, _one_of(REFUSAL_REASONS))),
    Credit: (12, (_number, _number)),
    StreamStart: (13, (_number, _number, _number, _raw(MAX_ABSENT_BYTES))),
    Chunk: (14, (_number, _number)),
}
_BY_CODE = {code: (kind, checks) for kind, (code, checks) in SCHEMAS.items()}
_DATA_CODES = frozenset(SCHEMAS[kind][0] for kind in (StreamStart, Chunk))


def _plain(value: object) -> object:
    if isinstance(value, PeerRecord):
        return [getattr(value, f.name) for f in fields(value)]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def encode(message: Message) -> list[Frame]:
    """The frames of a message; ``LocalProtocolError`` if it breaks a bound."""
    code, checks = SCHEMAS[type(message)]
    values = [_plain(getattr(message, f.name)) for f in fields(message)]
    payload = [values.pop()] if isinstance(message, Chunk) else []
    try:
        for check, value in zip(checks, values, strict=True):
            check(value)
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"{type(message).__name__}: {error}") from None
    head: bytes = msgpack.packb([code, *values])
    if len(head) > MAX_CONTROL_FRAME_BYTES:
        raise LocalProtocolError(f"{type(message).__name__} is too long for a frame")
    return [head, *payload]  # type: ignore[list-item]


def decode(frames: Sequence[Frame], *, data_plane: bool) -> Message:
    """The message in these frames.

    Raises ``RemoteProtocolError``, and nothing else, for anything but one well-formed
    message that belongs on this plane.
    """
    if not 1 <= len(frames) <= 2 or len(frames[0]) > MAX_CONTROL_FRAME_BYTES:
        raise _bad("wrong number or length of frames")
    try:
        parts = msgpack.unpackb(frames[0])
    except Exception:  # msgpack documents no closed list of what hostile bytes raise
        raise _bad("not msgpack") from None
    if type(parts) is not list or not parts or type(parts[0]) is not int:
        raise _bad("not a list that begins with a code")
    kind, checks = _BY_CODE.get(parts[0], (None, ()))
    if kind is None or len(parts) != len(checks) + 1:
        raise _bad("unknown code or wrong number of fields")
    if (parts[0] in _DATA_CODES) is not data_plane:
        raise _bad("on the wrong plane")
    values = [check(part) for check, part in zip(checks, parts[1:], strict=True)]
    if (len(frames) == 2) is not (kind is Chunk):
        raise _bad("a payload where none belongs, or none where one does")
    if kind is Chunk:
        payload = memoryview(frames[1])
        if not 1 <= payload.nbytes <= CHUNK_BYTES:
            raise _bad("a chunk of wrong length")
        values.append(payload)
    message: Message = kind(*values)
    return message
