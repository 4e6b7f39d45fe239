"""What named peers say: records, admissions, greetings, all signed with their names.

The keys are those of ``simulation/keys.py``. What tests must not rely on here is
secrecy; the tests of ``security`` and of real daemons do.
"""

from __future__ import annotations

import dataclasses
import hashlib

import msgpack

from p2pfusion.protocol.admission import Invite
from p2pfusion.protocol.messages import (
    BEFORE_START,
    PROTOCOL_VERSION,
    Hello,
    Membership,
    Offer,
    PeerRecord,
    Recovery,
    Revocation,
    Signed,
    SignedOffer,
)
from p2pfusion.protocol.statements import (
    SESSION_BYTES,
    AccusationFact,
    OfferFact,
    sign_accusation,
    sign_offer,
    sign_record,
    sign_recovery,
    sign_revocation,
)
from p2pfusion.security import issue, proof
from p2pfusion.simulation.keys import NAMES as NAMES
from p2pfusion.simulation.keys import NamedKey
from p2pfusion.simulation.keys import Names as Names
from p2pfusion.simulation.keys import founder as founder


def record(peer: str, **changes: object) -> PeerRecord:
    """What a peer says of itself."""
    values: dict[str, object] = {
        "peer": peer,
        "name": peer,
        "host": "127.0.0.1",
        "port": 1,
        "split_fraction": "1/2",
        "incarnation": 1,
        "sequence": 0,
        "join_epoch": BEFORE_START,
        "swarm": "",
        "key": NamedKey(peer).public,
        "transport_key": hashlib.sha256(b"transport" + peer.encode()).digest(),
        "exchange_key": hashlib.sha256(b"exchange" + peer.encode()).digest(),
        "cipher": "aes-256-gcm",
        **changes,
    }
    return PeerRecord(**values)  # type: ignore[arg-type]


def credential(
    peer: str, swarm: str, *, by: str, role: str = "member", chain: bytes = b""
) -> bytes:
    """An admission, by the founder or by an admin with this chain."""
    public = NamedKey(peer).public
    return issue(NamedKey(by), chain, swarm=swarm, public=public, role=role, invite="")


def forged_credential(swarm: str, *links: tuple[str, str, str]) -> bytes:
    """A chain of (issuer, subject, role), each signed by its issuer, right or not."""
    rows = []
    for by, subject, role in links:
        issuer = NamedKey(by)
        values = [swarm, issuer.public, NamedKey(subject).public, role, ""]
        link = msgpack.packb(values)
        rows.append([link, issuer.sign("admission/v1", link)])
    packed: bytes = msgpack.packb(rows)
    return packed


def membership(
    found: PeerRecord,
    swarm: str,
    *,
    by: str = "p0",
    role: str = "member",
    chain: bytes = b"",
) -> Membership:
    """A record in a swarm, signed, with an admission as ``credential`` makes it."""
    there = dataclasses.replace(found, swarm=swarm)
    signed = sign_record(there, NamedKey(found.peer))
    if found.peer == by:
        return Membership(signed, b"")
    shown = credential(found.peer, swarm, by=by, role=role, chain=chain)
    return Membership(signed, shown)


def greeting(of: Membership, swarm: str, *, version: int = PROTOCOL_VERSION) -> Hello:
    """The greeting of a member."""
    return Hello(version, swarm, of.record, of.credential)


def knocking(
    found: PeerRecord,
    invite: Invite | None = None,
    *,
    swarm: str = "",
    version: int = PROTOCOL_VERSION,
) -> Hello:
    """The greeting of a newcomer, with an invitation to this swarm or without one."""
    there = dataclasses.replace(found, swarm=swarm)
    hello = Hello(version, "", sign_record(there, NamedKey(found.peer)))
    if invite is None:
        return hello
    shown = proof(invite.secret, swarm=swarm, peer=found.peer)
    return dataclasses.replace(hello, invite=invite.id, proof=shown)


def invitation(number: int = 1, **changes: object) -> Invite:
    """An invitation of an admin."""
    values: dict[str, object] = {
        "id": f"invite-{number}",
        "secret": hashlib.sha256(b"secret %d" % number).digest()[:16],
        "role": "member",
        "uses": 1,
        "expires": 0,
        **changes,
    }
    return Invite(**values)  # type: ignore[arg-type]


def revocation(
    peer: str,
    swarm: str,
    *,
    by: str = "p0",
    chain: bytes = b"",
    epoch: int = 0,
    reason: str = "",
) -> Revocation:
    """An admin's word that a peer is out; ``chain`` is what makes it an admin."""
    statement = sign_revocation(
        swarm, peer=peer, epoch=epoch, reason=reason, signer=NamedKey(by)
    )
    return Revocation(statement, chain)


def accusation(
    peer: str, swarm: str, *, by: str, age: tuple[int, int] = (1, 0), epoch: int = 2
) -> Signed:
    """A member's word that it hears nothing of a peer with a record of this age."""
    return sign_accusation(swarm, AccusationFact(by, peer, age, epoch), NamedKey(by))


def recovery(
    *peers: str,
    swarm: str,
    by: str = "p0",
    chain: bytes = b"",
    epoch: int = 0,
    reason: str = "",
) -> Recovery:
    """An admin's word that these are lost; ``chain`` is what makes it an admin."""
    statement = sign_recovery(
        swarm, peers=sorted(peers), epoch=epoch, reason=reason, signer=NamedKey(by)
    )
    return Recovery(statement, chain)


def offered(
    peer: str, swarm: str, offer: Offer, *, sequence: int = 1, incarnation: int = 1
) -> SignedOffer:
    """An offer as its maker sends it."""
    key = hashlib.sha256(f"exchange {peer} {incarnation}".encode()).digest()
    said = OfferFact(incarnation, sequence, offer, key[:SESSION_BYTES])
    return SignedOffer(sign_offer(swarm, said, 0, NamedKey(peer)))
