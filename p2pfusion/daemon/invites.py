"""The file of invitations: what this peer has promised, and to whom it was kept.

It holds the secrets of tickets, so only its owner may read it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from p2pfusion.daemon.identity import write_private
from p2pfusion.errors import VerificationError
from p2pfusion.protocol.admission import Invite


def load_invites(path: Path) -> list[Invite]:
    """The invitations in a file; none if there is no file."""
    try:
        return [_invite(entry) for entry in json.loads(path.read_text("utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise VerificationError(
            f"{path} is damaged: {error}",
            hint="remove it: tickets that were made here are then good no more",
        ) from None


def save_invites(path: Path, invites: Iterable[Invite]) -> None:
    """Keeps the invitations."""
    entries = [
        {**dataclasses.asdict(invite), "secret": invite.secret.hex()}
        for invite in invites
    ]
    write_private(path, json.dumps(entries, indent=2).encode() + b"\n")


def _invite(entry: Mapping[str, object]) -> Invite:
    uses, expires, used_by = entry["uses"], entry["expires"], entry["used_by"]
    if not isinstance(uses, int) or not isinstance(expires, int):
        raise ValueError("uses and expires must be whole numbers")
    if not isinstance(used_by, list):
        raise ValueError("used_by must be a list")
    return Invite(
        id=str(entry["id"]),
        secret=bytes.fromhex(str(entry["secret"])),
        role=str(entry["role"]),
        uses=uses,
        expires=expires,
        revoked=bool(entry["revoked"]),
        used_by=tuple(str(peer) for peer in used_by),
    )
