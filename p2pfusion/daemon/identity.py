"""Who the peer of a home is: its device key, its id, its name.

    device.key      the private key that the id follows from (PEM, 0600): back it up
    identity.json   the id and the name, for people and programs

Keys are refused when others can read them, as ssh does: a key that was open for a while
cannot be trusted by closing the file.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from p2pfusion.daemon.home import Home
from p2pfusion.errors import ConfigError, VerificationError
from p2pfusion.limits import MAX_NAME_CHARACTERS
from p2pfusion.security import DeviceKey, transport_public
from p2pfusion.store.files import clear_errors

PRIVATE_MODE = 0o600
FOR_OTHERS = 0o077
MAX_KEY_BYTES = 16 * 1024

NEW_PEER = "restore it, or remove the home directory to become a new peer"


@dataclass(frozen=True)
class Identity:
    """Who a peer is: a key that never changes and a name for people."""

    key: DeviceKey
    name: str

    @property
    def peer(self) -> str:
        """The id."""
        return self.key.peer

    @property
    def transport_secret(self) -> bytes:
        """Secret of the key that control connections prove; follows from the device."""
        return self.key.derived("transport key/v1")

    @property
    def transport_key(self) -> bytes:
        """The key that control connections prove."""
        return transport_public(self.transport_secret)


def read_identity(home: Home) -> Identity | None:
    """The peer that lives in this home; None if nobody does yet.

    ``ConfigError``: others can read the key, or the files are not those of a peer.
    """
    try:
        pem = _read_private(home.key)
    except FileNotFoundError:
        if home.identity.exists():
            raise ConfigError(f"{home.key} is missing", hint=NEW_PEER) from None
        return None
    try:
        key = DeviceKey.from_pem(pem)
    except VerificationError:
        raise ConfigError(f"{home.key}: not a device key", hint=NEW_PEER) from None
    try:
        return Identity(key, _name_beside(home, key))
    except FileNotFoundError:
        # The first start was cut short between the two files.
        return Identity(key, host_name())
    except (ValueError, KeyError, TypeError):
        text = f"{home.identity}: not the identity of a peer"
        raise ConfigError(text, hint=NEW_PEER) from None


def _name_beside(home: Home, key: DeviceKey) -> str:
    """The name in the file beside the key."""
    data = json.loads(home.identity.read_text(encoding="utf-8"))
    name, peer = data["name"], data["peer"]
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS:
        raise ValueError("not a short name")
    if peer != key.peer:
        raise ConfigError(
            f"{home.identity} names another peer than {home.key.name} makes",
            hint=NEW_PEER,
        )
    return name


def create_identity(home: Home, name: str | None = None) -> Identity:
    """The peer of this home, drawn and written down if it does not exist yet."""
    found = read_identity(home)
    if found is not None and home.identity.exists():
        return found
    home.create()
    identity = found or Identity(DeviceKey.generate(), name or host_name())
    if found is None:
        write_private(home.key, identity.key.to_pem())
    told = {"peer": identity.peer, "name": identity.name}
    text = json.dumps(told, indent=2) + "\n"
    write_private(home.identity, text.encode())
    return identity


def host_name() -> str:
    """What this machine calls itself, shortened to a name that tables can show."""
    name = "".join(c for c in socket.gethostname() if c.isprintable())
    return name[:MAX_NAME_CHARACTERS] or "peer"


def write_private(path: Path, data: bytes) -> None:
    """Replaces a file that only its owner may read: temporary name, fsync, rename."""
    temporary = path.with_suffix(".tmp")
    with clear_errors(path), open(temporary, "wb", opener=_private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    with clear_errors(path):
        temporary.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_MODE)


def _read_private(path: Path) -> bytes:
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        if stat.S_IMODE(found.st_mode) & FOR_OTHERS:
            mode = stat.S_IMODE(found.st_mode)
            raise ConfigError(
                f"others can read or change {path} (mode {mode:04o})",
                hint=f"close it: chmod 600 {path} (and remove the home directory to "
                "become a new peer if somebody may have read it)",
            )
        return file.read(MAX_KEY_BYTES)
