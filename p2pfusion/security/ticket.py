"""Tickets: one line of text that lets a machine into a swarm.

A ticket says where to knock, who is expected to answer there, and carries the secret
of an invitation. Its text is ``p2pf1`` and lowercase base32, without padding, of the
fields as msgpack followed by five bytes of the hash of all that, so that a mistyped or
shortened ticket is found before anybody knocks. Reading ignores white space, dashes and
case.

The secret proves the invitation twice. A key pair follows from it that the knocking
connection uses, so that strangers get no further than the handshake; and the greeting
carries ``proof``, which binds the invitation to the peer that uses it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime

import msgpack

from p2pfusion.errors import DeniedError, LocalProtocolError
from p2pfusion.limits import (
    MAX_ADDRESS_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_TICKET_ADDRESSES,
    MAX_TICKET_CHARACTERS,
    TICKET_CLOCK_TOLERANCE_S,
)
from p2pfusion.security.credential import ROLES
from p2pfusion.security.identity import KEY_BYTES, derive

PREFIX = "p2pf1"
SECRET_BYTES = 16

ASK_AGAIN = "ask for a new ticket"

_CHECK_BYTES = 5
_BEGINNING = re.compile(r"p2pf[0-9]", re.IGNORECASE | re.ASCII)
_IGNORED = re.compile(r"[\s-]+")
_CONTENT = re.compile(r"[a-z2-7]+")
_MOST_USES = 2**32 - 1
_LAST_SECOND = 253_402_300_799  # of the year 9999, where calendars end


@dataclass(frozen=True)
class Ticket:
    """What a ticket says."""

    addresses: tuple[str, ...]
    """Where the issuer listens, ``host:port`` each, at least one."""
    issuer: str
    """Id of the peer that will answer."""
    transport_key: bytes
    """The issuer's Curve25519 public key, 32 bytes."""
    swarm: str
    """Id of the swarm."""
    invite: str
    """Id of the invitation."""
    secret: bytes = field(repr=False)
    """The invitation's secret, 16 bytes: who knows it may join."""
    role: str
    """What its user will be: one of ``ROLES``."""
    uses: int
    """How many peers may use it; 0 is any number."""
    expires: int
    """Unix time in seconds after which it is refused; 0 is never."""

    def encode(self) -> str:
        """The text of the ticket; ``LocalProtocolError`` if a field breaks a bound."""
        if not _is_sound(self):
            raise LocalProtocolError("a ticket with a field out of its bounds")
        content: bytes = msgpack.packb(astuple(self))
        text = PREFIX + _base32(content + _checksum(content))
        if len(text) > MAX_TICKET_CHARACTERS:
            raise LocalProtocolError("a ticket would be too long: name fewer addresses")
        return text

    @classmethod
    def decode(cls, text: str) -> Ticket:
        """The ticket in a text; ``DeniedError`` if there is none, with the reason."""
        if not is_ticket(text):
            raise DeniedError(
                "this is not a ticket", hint=f"a ticket begins with {PREFIX}"
            )
        written = _IGNORED.sub("", text)
        bare = written.lower()
        if not bare.startswith(PREFIX):
            raise DeniedError(
                "the ticket was made by a newer version", hint="update p2pfusion"
            )
        # Foreign letters, too, can have one of these as their small form.
        if not written.isascii():
            raise _mistyped()
        content = _checked_content(bare)
        try:
            values: object = msgpack.unpackb(content)
        except Exception:  # msgpack documents no closed list of what bytes raise
            values = None
        ticket = _from_values(values)
        # A hash that fits a text that encode() cannot have written: not a typing error.
        if ticket is None or ticket.encode() != bare:
            raise DeniedError("this is not a ticket: its content makes no sense")
        return ticket

    def check_expiry(self, now_unix: float) -> None:
        """``DeniedError`` if the ticket is over; ``now_unix`` is in seconds."""
        if self.expires and now_unix > self.expires + TICKET_CLOCK_TOLERANCE_S:
            ended = datetime.fromtimestamp(self.expires, UTC)
            now = datetime.fromtimestamp(min(now_unix, _LAST_SECOND), UTC)
            raise DeniedError(
                f"the ticket ended on {ended:%Y-%m-%d} at {ended:%H:%M} UTC, and this "
                f"machine's clock says {now:%Y-%m-%d %H:%M}",
                hint=ASK_AGAIN,
            )


def is_ticket(text: str) -> bool:
    """Whether a text is meant as a ticket, of whatever version."""
    return _BEGINNING.match(text.strip()) is not None


def invite_secret_key(secret: bytes) -> bytes:
    """The Curve25519 secret, 32 bytes, of the connection that knocks with a ticket."""
    return derive(secret, b"p2pfusion invitation key/v1")


def proof(secret: bytes, *, swarm: str, peer: str) -> bytes:
    """32 bytes that show that ``peer`` knows an invitation's secret."""
    said = b"\0".join([b"p2pfusion invitation/v1", swarm.encode(), peer.encode()])
    return hmac.digest(secret, said, "sha256")


def proves(secret: bytes, given: bytes, *, swarm: str, peer: str) -> bool:
    """Whether ``given`` is the ``proof``, in a time that tells nothing about it."""
    return hmac.compare_digest(proof(secret, swarm=swarm, peer=peer), given)


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(PREFIX.encode() + content).digest()[:_CHECK_BYTES]


def _mistyped() -> DeniedError:
    return DeniedError(
        "the ticket is mistyped or cut off", hint="copy the whole ticket again"
    )


def _checked_content(bare: str) -> bytes:
    """The content of a text whose checksum fits; ``DeniedError`` otherwise."""
    characters = bare.removeprefix(PREFIX)
    if len(bare) > MAX_TICKET_CHARACTERS or not _CONTENT.fullmatch(characters):
        raise _mistyped()
    try:
        data = base64.b32decode(characters.upper() + "=" * (-len(characters) % 8))
    except ValueError:
        raise _mistyped() from None
    content, checksum = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    # Some bits of the last character mean nothing; they too must be as written.
    if _checksum(content) != checksum or _base32(data) != characters:
        raise _mistyped()
    return content


def _from_values(values: object) -> Ticket | None:
    if type(values) is not list or len(values) != 9 or type(values[0]) is not list:
        return None
    ticket = Ticket(tuple(values[0]), *values[1:])
    return ticket if _is_sound(ticket) else None


def _is_sound(ticket: Ticket) -> bool:
    """Whether every field has its type and keeps its bounds."""
    addresses = ticket.addresses
    return (
        type(addresses) is tuple
        and 1 <= len(addresses) <= MAX_TICKET_ADDRESSES
        and all(_is_text(each, MAX_ADDRESS_CHARACTERS) for each in addresses)
        and all(
            _is_text(each, MAX_NAME_CHARACTERS)
            for each in (ticket.issuer, ticket.swarm, ticket.invite)
        )
        and _is_raw(ticket.transport_key, KEY_BYTES)
        and _is_raw(ticket.secret, SECRET_BYTES)
        and type(ticket.role) is str
        and ticket.role in ROLES
        and _is_whole(ticket.uses, _MOST_USES)
        and _is_whole(ticket.expires, _LAST_SECOND)
    )


def _is_text(value: object, most: int) -> bool:
    return type(value) is str and 1 <= len(value) <= most and value.isprintable()


def _is_raw(value: object, size: int) -> bool:
    return type(value) is bytes and len(value) == size


def _is_whole(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most
