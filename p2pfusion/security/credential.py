"""Credentials: why a peer is a member, as a chain of signatures that anybody can check.

The founder's key stands in the manifest. It admits members; those with the role of an
admin may admit others. Each admission is a link, msgpack
``[swarm, issuer's public key, subject's public key, role, invitation]``, signed by the
issuer. A chain is msgpack ``[[link, signature], ...]`` from the founder's link down to
the member's. The founder itself needs none. Equal admissions have equal bytes: keys
sign deterministically, and only the shortest msgpack of a chain is accepted.

Invariant: ``check`` turns any bytes into a ``Credential`` or a ``RemoteProtocolError``,
after at most ``MAX_CHAIN_LINKS`` signatures. Whether an issuer has been revoked since
is for the caller to ask, of ``Credential.issuers``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import msgpack

from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.limits import (
    MAX_CHAIN_BYTES,
    MAX_CHAIN_LINKS,
    MAX_NAME_CHARACTERS,
    MAX_ROSTER,
)
from p2pfusion.security.identity import KEY_BYTES, Scheme, Signer

ROLES = ("member", "admin")

_DOMAIN = "admission/v1"

KEPT_CHECKED = 2 * MAX_ROSTER
"""Chains that are remembered as good: a member shows its own with every word."""


@dataclass(frozen=True)
class Credential:
    """What a chain says, once it has been checked."""

    swarm: str
    subject: str
    """Id of the peer that was admitted."""
    public: bytes
    """The subject's public key, 32 bytes."""
    role: str
    """One of ``ROLES``."""
    invite: str
    """Id of the invitation that was used; empty if an admin accepted without one."""
    issuers: tuple[str, ...]
    """Ids of all who signed, from the founder down."""


@dataclass(frozen=True)
class _Link:
    swarm: str
    issuer: bytes
    subject: bytes
    role: str
    invite: str


def issue(
    signer: Signer,
    own_chain: bytes,
    *,
    swarm: str,
    public: bytes,
    role: str,
    invite: str,
) -> bytes:
    """The chain of the peer with the key ``public``, admitted by ``signer``.

    ``own_chain`` is the signer's own, empty for the founder. Raises
    ``LocalProtocolError`` if the signer is no admin by it, if the chain would be too
    long, and for values that ``check`` would refuse.
    """
    try:
        entries = _entries(own_chain) if own_chain else []
        last = _link(entries[-1][0]) if entries else None
        link = _packed([swarm, signer.public, public, role, invite])
        _link(link)
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"cannot admit: {error}") from None
    if last and (last.subject, last.role) != (signer.public, "admin"):
        raise LocalProtocolError("cannot admit: this peer is no admin")
    chain = _packed([*entries, [link, signer.sign(_DOMAIN, link)]])
    if len(entries) >= MAX_CHAIN_LINKS or len(chain) > MAX_CHAIN_BYTES:
        raise LocalProtocolError("cannot admit: the chain from the founder is too long")
    return chain


@lru_cache(maxsize=KEPT_CHECKED)
def check(chain: bytes, *, swarm: str, founder: bytes, scheme: Scheme) -> Credential:
    """What a chain from a peer says.

    ``founder`` is the public key in the manifest of ``swarm``. Raises
    ``RemoteProtocolError`` if the chain is malformed or for another swarm, does not
    begin with the founder, passes through somebody who is no admin, or has a wrong
    signature.
    """
    entries = _entries(chain)
    links = [_link(packed) for packed, _ in entries]
    issuer = founder
    for number, link in enumerate(links):
        if link.swarm != swarm:
            raise _bad("is for another swarm")
        if link.issuer != issuer:
            raise _bad("does not lead from the founder to its subject")
        if number and links[number - 1].role != "admin":
            raise _bad("passes through a peer that is no admin")
        issuer = link.subject
    # Last, because nothing costs as much.
    for link, (packed, signature) in zip(links, entries, strict=True):
        if not scheme.verify(link.issuer, _DOMAIN, packed, signature):
            raise _bad("has a wrong signature")
    return Credential(
        swarm=swarm,
        subject=scheme.peer_id(links[-1].subject),
        public=links[-1].subject,
        role=links[-1].role,
        invite=links[-1].invite,
        issuers=tuple(scheme.peer_id(link.issuer) for link in links),
    )


def _bad(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"a credential {what}")


def _packed(value: object) -> bytes:
    try:
        packed: bytes = msgpack.packb(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise _bad("has values that cannot be encoded") from None
    return packed


def _unpacked(packed: bytes) -> list[object]:
    """The list in these bytes, which must be its shortest encoding."""
    try:
        value: object = msgpack.unpackb(packed)
    except Exception:  # msgpack documents no closed list of what hostile bytes raise
        raise _bad("is not msgpack") from None
    if type(value) is not list or _packed(value) != packed:
        raise _bad("is not in canonical form")
    return value


def _entries(chain: bytes) -> list[tuple[bytes, bytes]]:
    """Links with their signatures; neither has been looked at."""
    if not 0 < len(chain) <= MAX_CHAIN_BYTES:
        raise _bad("is empty or too long")
    rows = _unpacked(chain)
    if not 0 < len(rows) <= MAX_CHAIN_LINKS:
        raise _bad("has a wrong number of links")
    return [_entry(row) for row in rows]


def _entry(row: object) -> tuple[bytes, bytes]:
    if type(row) is not list or len(row) != 2:
        raise _bad("has a link without a signature")
    link, signature = row
    if type(link) is not bytes or type(signature) is not bytes:
        raise _bad("has a link of wrong types")
    return link, signature


def _link(packed: bytes) -> _Link:
    values = _unpacked(packed)
    if len(values) != 5:
        raise _bad("has a link of wrong length")
    swarm, issuer, subject, role, invite = values
    if type(role) is not str or role not in ROLES:
        raise _bad("has an unknown role")
    return _Link(_text(swarm), _key(issuer), _key(subject), role, _text(invite))


def _key(value: object) -> bytes:
    if type(value) is not bytes or len(value) != KEY_BYTES:
        raise _bad("has a key of wrong length")
    return value


def _text(value: object) -> str:
    if type(value) is not str or len(value) > MAX_NAME_CHARACTERS:
        raise _bad("has a text of wrong length")
    if not value.isprintable():
        raise _bad("has a text with control characters")
    return value
