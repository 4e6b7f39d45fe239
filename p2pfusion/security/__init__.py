"""Keys, statements that others can check, tickets, and sealed frames."""

from __future__ import annotations

from p2pfusion.security.credential import ROLES, Credential, check, issue
from p2pfusion.security.identity import (
    ED25519,
    DeviceKey,
    Ed25519Scheme,
    Scheme,
    Signer,
    find_peer,
    is_peer_id,
    peer_id,
    transport_public,
)
from p2pfusion.security.passage import passage_token
from p2pfusion.security.replay import ReplayWindow
from p2pfusion.security.session import (
    CIPHERS,
    OVERHEAD_BYTES,
    End,
    ExchangeKey,
    PlainSession,
    Session,
    preferred_cipher,
)
from p2pfusion.security.ticket import (
    PREFIX,
    Ticket,
    invite_secret_key,
    is_ticket,
    proof,
    proves,
)

__all__ = [
    "CIPHERS",
    "ED25519",
    "OVERHEAD_BYTES",
    "PREFIX",
    "ROLES",
    "Credential",
    "DeviceKey",
    "Ed25519Scheme",
    "End",
    "ExchangeKey",
    "PlainSession",
    "ReplayWindow",
    "Scheme",
    "Session",
    "Signer",
    "Ticket",
    "check",
    "find_peer",
    "invite_secret_key",
    "is_peer_id",
    "is_ticket",
    "issue",
    "passage_token",
    "peer_id",
    "preferred_cipher",
    "proof",
    "proves",
    "transport_public",
]
