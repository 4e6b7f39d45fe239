"""The events about who comes in and goes: ways to try, decisions of the user."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfusion.protocol.admission import Invite
from p2pfusion.protocol.joining import Way


@dataclass(frozen=True)
class JoinBy:
    """Try to join the swarm of whoever answers there, until one does."""

    way: Way


@dataclass(frozen=True)
class Introduced:
    """Whoever listens at this address says that it is this peer, with this key."""

    host: str
    port: int
    peer: str
    key: bytes


@dataclass(frozen=True)
class KnockFailed:
    """A knock came to nothing.

    ``reason``: refused, wrong-key, changed-key, no-answer, no-banner.
    """

    host: str
    port: int
    reason: str


@dataclass(frozen=True)
class Invited:
    """The user made an invitation."""

    invite: Invite


@dataclass(frozen=True)
class InviteRevoked:
    """The user wants an invitation to admit nobody any more."""

    invite: str


@dataclass(frozen=True)
class Decided:
    """The user decided about a peer that waits to be let in."""

    peer: str
    accepted: bool


@dataclass(frozen=True)
class Revoke:
    """The user wants a member put out."""

    peer: str
    reason: str


@dataclass(frozen=True)
class Leave:
    """The user takes this peer out of the swarm for good."""


@dataclass(frozen=True)
class Recover:
    """The user declares these members lost, so that the others can go on."""

    peers: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class ChangeFraction:
    """From an epoch that lies ahead this peer is to train so much of the model."""

    fraction: str
