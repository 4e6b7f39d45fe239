"""Signed statements: what a peer says that others pass on.

A statement's payload is its author's public key (32 bytes) and a msgpack list; the
signature covers those very bytes under the statement's domain, so nothing said in one
place can be repeated as something else. Reading is verifying first and decoding after;
whatever is wrong is a ``RemoteProtocolError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.limits import (
    MAX_ADDRESS_CHARACTERS,
    MAX_ANNOUNCED_BYTES,
    MAX_NAME_CHARACTERS,
    MAX_REFUTED,
    MAX_ROSTER,
)
from p2pfusion.protocol import schema
from p2pfusion.protocol.messages import (
    BEFORE_START,
    NEVER,
    Age,
    ClosingEntry,
    ClosingList,
    Offer,
    PeerRecord,
    Signed,
)
from p2pfusion.protocol.values import value
from p2pfusion.security import CIPHERS, Scheme, Signer

KEY_BYTES = 32

SESSION_BYTES = 8
"""Of the exchange key, to tell one start of a daemon from every other."""

KEPT_READ = 4 * MAX_ROSTER
"""Records and accusations that are remembered as they were read: each is looked at
more than once, when it comes, when it is told to people, when it is shown again."""

KEPT_OFFERS = 256
"""Offers that are remembered as they were read: one that is sent again is read once,
and so is one that many peers of one process get."""

_peer = schema.text(MAX_NAME_CHARACTERS, least=1)
_name = schema.text(MAX_NAME_CHARACTERS)
_number = schema.whole()
_key = schema.raw(KEY_BYTES, least=KEY_BYTES)
_epoch = schema.whole(0, NEVER)
_reason = schema.text(200)


def _step(*said: int) -> tuple[int, ...]:
    return said


RECORD = (
    _name,
    schema.text(MAX_ADDRESS_CHARACTERS),
    schema.whole(0, 65_534),
    schema.text(32, least=1),
    _number,
    _number,
    schema.whole(BEFORE_START),
    _name,
    _key,
    _key,
    schema.one_of(frozenset(CIPHERS)),
    schema.text(32),
    _epoch,
    _epoch,
    _epoch,
    schema.many(schema.group(_step, _number, _number, _epoch), MAX_REFUTED),
    schema.raw(MAX_ANNOUNCED_BYTES),
    _epoch,
    schema.yes_or_no,
)
START = (_name, schema.many(_peer, MAX_ROSTER))
REVOCATION = (_name, _peer, _number, _reason)
ACCUSATION = (_name, _peer, _number, _number, _epoch)
RECOVERY = (_name, schema.many(_peer, MAX_ROSTER), _epoch, _reason)
OFFER = (
    *(_name, _number, _number, _number, _number),
    *(schema.raw(16, least=16), _number, schema.real, schema.real, schema.real),
    *(_number, schema.amount, schema.amount),
    *(schema.raw(16, least=16), schema.raw(SESSION_BYTES, least=SESSION_BYTES)),
)
CLOSING = (
    *(_name, _number, schema.raw(16, least=16)),
    schema.many(
        schema.group(
            ClosingEntry,
            *(_number, schema.raw(8, least=8), _number, schema.amount, schema.real),
        ),
        MAX_ROSTER,
    ),
    schema.many(schema.amount, MAX_ROSTER),
)
BANNER = (_key,)
BANNER_FRAME = (schema.raw(128, least=KEY_BYTES), schema.raw(64, least=64))


@dataclass(frozen=True)
class RevocationFact:
    """``peer`` is not in the swarm from ``epoch`` on, says the admin ``by``."""

    by: str
    key: bytes
    peer: str
    epoch: int
    reason: str


@dataclass(frozen=True)
class AccusationFact:
    """``by`` hears nothing of ``peer`` any more: it should be out from ``epoch`` on."""

    by: str
    peer: str
    age: Age
    """Of the subject's record that is accused."""
    epoch: int


@dataclass(frozen=True)
class RecoveryFact:
    """``peers`` are lost, says the admin ``by``, and out from ``epoch`` on."""

    by: str
    key: bytes
    peers: tuple[str, ...]
    epoch: int
    reason: str


@value
class OfferFact:
    """An offer, with what tells a repetition from news."""

    incarnation: int
    sequence: int
    offer: Offer
    session: bytes = bytes(SESSION_BYTES)
    """The beginning of its author's exchange key."""


def sign_record(record: PeerRecord, signer: Signer) -> Signed:
    """The record, signed by its subject."""
    if _answers_itself(record):
        raise LocalProtocolError("own record/v1: it refutes what it may not")
    if _has_half_an_address(record):
        raise LocalProtocolError("own record/v1: half an address")
    return _sign(
        "record/v1",
        RECORD,
        [
            *(record.name, record.host, record.port, record.split_fraction),
            *(record.incarnation, record.sequence, record.join_epoch, record.swarm),
            *(record.transport_key, record.exchange_key, record.cipher),
            *(record.former_fraction, record.since_epoch),
            *(record.refutes_epoch, record.leave_epoch),
            [list(step) for step in record.refuted],
            *(record.announced, record.announced_epoch, record.relays),
        ],
        signer,
    )


@lru_cache(maxsize=KEPT_READ)
def read_record(signed: Signed, scheme: Scheme) -> PeerRecord:
    """The record that a peer signed."""
    key, values = _read("record/v1", RECORD, signed, scheme)
    name, host, port, fraction, incarnation, sequence, epoch, *rest = values
    swarm, transport_key, exchange_key, cipher, *news = rest
    former_fraction, since_epoch, refutes_epoch, leave_epoch, refuted, *said = news
    announced, announced_epoch, relays = said
    record = PeerRecord(
        peer=scheme.peer_id(key),
        name=name,
        host=host,
        port=port,
        split_fraction=fraction,
        incarnation=incarnation,
        sequence=sequence,
        join_epoch=epoch,
        swarm=swarm,
        key=key,
        transport_key=transport_key,
        exchange_key=exchange_key,
        cipher=cipher,
        former_fraction=former_fraction,
        since_epoch=since_epoch,
        refutes_epoch=refutes_epoch,
        leave_epoch=leave_epoch,
        refuted=refuted,
        announced=announced,
        announced_epoch=announced_epoch,
        relays=relays,
    )
    if _answers_itself(record):
        raise RemoteProtocolError("a record that refutes what nobody has said yet")
    if _has_half_an_address(record):
        raise schema.bad("half an address")
    return record


def _has_half_an_address(record: PeerRecord) -> bool:
    return bool(record.host) != bool(record.port)


def _answers_itself(record: PeerRecord) -> bool:
    """Whether a record refutes accusations of itself, or of its successors: a peer
    could then never be accused again."""
    return any(step[:2] > record.age for step in record.refuted)


def sign_start(swarm: str, members: Sequence[str], signer: Signer) -> Signed:
    """The founder's list of first members."""
    return _sign("start/v1", START, [swarm, list(members)], signer)


def read_start(
    signed: Signed, scheme: Scheme, *, swarm: str, founder: bytes
) -> tuple[str, ...]:
    """The first members, sorted; only the swarm's founder can name them."""
    key, (theirs, members) = _read("start/v1", START, signed, scheme)
    if key != founder or theirs != swarm:
        raise RemoteProtocolError("a list of first members that the founder never made")
    if not members or list(members) != sorted(set(members)):
        raise RemoteProtocolError("a list of first members out of order")
    first: tuple[str, ...] = members
    return first


def sign_revocation(
    swarm: str, *, peer: str, epoch: int, reason: str, signer: Signer
) -> Signed:
    """An admin's word that ``peer`` is out."""
    values = [swarm, peer, epoch, reason]
    return _sign("revocation/v1", REVOCATION, values, signer)


def read_revocation(signed: Signed, scheme: Scheme, *, swarm: str) -> RevocationFact:
    """Who is out, and who says so; whether that is an admin, its chain tells."""
    key, (theirs, peer, epoch, reason) = _read(
        "revocation/v1", REVOCATION, signed, scheme
    )
    if theirs != swarm:
        raise RemoteProtocolError("a revocation of another swarm")
    return RevocationFact(scheme.peer_id(key), key, peer, epoch, reason)


def sign_accusation(swarm: str, said: AccusationFact, signer: Signer) -> Signed:
    """A member's word, as signed by it, that it hears nothing of another."""
    values = [swarm, said.peer, *said.age, said.epoch]
    return _sign("accusation/v1", ACCUSATION, values, signer)


@lru_cache(maxsize=KEPT_READ)
def read_accusation(signed: Signed, scheme: Scheme, *, swarm: str) -> AccusationFact:
    """Who accuses whom; whether they are members is not known here."""
    key, (theirs, peer, incarnation, sequence, epoch) = _read(
        "accusation/v1", ACCUSATION, signed, scheme
    )
    if theirs != swarm:
        raise RemoteProtocolError("an accusation of another swarm")
    by = scheme.peer_id(key)
    if by == peer:
        raise RemoteProtocolError("an accusation of its own author")
    return AccusationFact(by, peer, (incarnation, sequence), epoch)


def sign_recovery(
    swarm: str, *, peers: Sequence[str], epoch: int, reason: str, signer: Signer
) -> Signed:
    """An admin's word that ``peers``, in order, are lost."""
    values = [swarm, list(peers), epoch, reason]
    return _sign("recovery/v1", RECOVERY, values, signer)


def read_recovery(signed: Signed, scheme: Scheme, *, swarm: str) -> RecoveryFact:
    """Who is lost, and who says so; whether that is an admin, its chain tells."""
    key, (theirs, peers, epoch, reason) = _read("recovery/v1", RECOVERY, signed, scheme)
    if theirs != swarm:
        raise RemoteProtocolError("a recovery of another swarm")
    if not peers or list(peers) != sorted(set(peers)):
        raise RemoteProtocolError("a recovery that names nobody, or out of order")
    return RecoveryFact(scheme.peer_id(key), key, peers, epoch, reason)


def sign_offer(swarm: str, said: OfferFact, epoch: int, signer: Signer) -> Signed:
    """An offer, signed by the peer that makes it."""
    offer = said.offer
    values = [
        *(swarm, said.incarnation, said.sequence, epoch),
        *(offer.round_index, offer.digest, offer.samples),
        *(offer.loss, offer.norm, offer.seconds, offer.base_round),
        *(offer.l1, offer.moved, offer.contents, said.session),
    ]
    return _sign("offer/v1", OFFER, values, signer)


@lru_cache(maxsize=KEPT_OFFERS)
def read_offer(signed: Signed, scheme: Scheme, *, swarm: str, key: bytes) -> OfferFact:
    """The offer of the peer with this key."""
    author, values = _read("offer/v1", OFFER, signed, scheme)
    theirs, incarnation, sequence, _, *rest, session = values
    if author != key or theirs != swarm:
        raise RemoteProtocolError("an offer that speaks for another")
    return OfferFact(incarnation, sequence, Offer(*rest), session)


def sign_closing(swarm: str, said: ClosingList, signer: Signer) -> Signed:
    """A closing list, signed by the peer that makes it."""
    entries = [
        [each.position, each.offer, each.rounds_late, each.l1, each.split_fraction]
        for each in said.entries
    ]
    values = [swarm, said.round_index, said.digest, entries, list(said.distances)]
    return _sign("closing/v1", CLOSING, values, signer)


def read_closing(
    signed: Signed, scheme: Scheme, *, swarm: str
) -> tuple[str, ClosingList]:
    """Who closes a round, and with what; whether that is its part is not known here."""
    key, (theirs, *rest) = _read("closing/v1", CLOSING, signed, scheme)
    if theirs != swarm:
        raise RemoteProtocolError("a closing list of another swarm")
    return scheme.peer_id(key), ClosingList(*rest)


def banner(transport_key: bytes, signer: Signer) -> bytes:
    """What a peer that takes strangers says to whoever asks: its ids and keys."""
    signed = _sign("banner/v1", BANNER, [transport_key], signer)
    return schema.pack([signed.payload, signed.signature])


def read_banner(packed: bytes, scheme: Scheme) -> tuple[str, bytes]:
    """Id and transport key of whoever sent this banner."""
    payload, signature = schema.checked(BANNER_FRAME, schema.unpack(packed))
    signed = Signed(payload, signature)
    key, (transport_key,) = _read("banner/v1", BANNER, signed, scheme)
    return scheme.peer_id(key), transport_key


def author(signed: Signed) -> bytes:
    """The public key that a statement names; whether it signed is not checked."""
    return signed.payload[:KEY_BYTES]


def _sign(
    domain: str, checks: Sequence[schema.Check], values: list[object], signer: Signer
) -> Signed:
    try:
        schema.checked(checks, values)
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"own {domain}: {error}") from None
    payload = signer.public + schema.pack(values)
    return Signed(payload, signer.sign(domain, payload))


def _read(
    domain: str, checks: Sequence[schema.Check], signed: Signed, scheme: Scheme
) -> tuple[bytes, list[Any]]:
    key = author(signed)
    if not scheme.verify(key, domain, signed.payload, signed.signature):
        raise RemoteProtocolError("a statement with a wrong signature")
    values = schema.unpack(signed.payload[KEY_BYTES:])
    return key, schema.checked(checks, values)
