"""Whose key answered at which address: trust on first contact, kept.

Joining by a plain address begins with taking a key on trust. From then on the address
must answer with that key; another one is an alarm, as with ssh.
"""

from __future__ import annotations

import json
from pathlib import Path

from p2pfusion.daemon.identity import write_private
from p2pfusion.errors import VerificationError


class KnownPeers:
    """The file of addresses and the peers that answered there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._peers = _read(path)

    def at(self, address: str) -> str | None:
        """The peer that answered at this address before; None at first contact."""
        return self._peers.get(address)

    def pin(self, address: str, peer: str) -> None:
        """From now on this peer must answer there."""
        self._peers[address] = peer
        write_private(self._path, json.dumps(self._peers, indent=2).encode() + b"\n")

    def all(self) -> dict[str, str]:
        """Every address and its peer."""
        return dict(self._peers)


def _read(path: Path) -> dict[str, str]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        data = None
    texts = isinstance(data, dict) and all(
        isinstance(key, str) and isinstance(value, str) for key, value in data.items()
    )
    if not texts:
        raise VerificationError(
            f"{path} is damaged: not a table of addresses and peers",
            hint="remove it to trust every address anew",
        )
    assert isinstance(data, dict)
    return data
