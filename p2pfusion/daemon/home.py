"""The home directory of one peer: where everything that it keeps lies.

    identity.json   who this peer is (0600)
    swarm/          manifest.msgpack, store/, offers/, state
    control.sock    the local socket that the command line talks to
    daemon.lock     held while a daemon runs
    daemon.log      what the daemon says; trainer.log: what the trainer says

Paths and modes live here and nothing else, apart from the identity's few bytes. The
command line imports this file for every command, so it imports nothing that is slow.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from p2pfusion.daemon.client import CONTROL_SOCKET, check_socket_path
from p2pfusion.errors import ConfigError, ResourceError
from p2pfusion.limits import MAX_NAME_CHARACTERS

ENVIRONMENT_KEY = "P2PFUSION_HOME"
HOME_MODE = 0o700
IDENTITY_MODE = 0o600

PEER_ID_BYTES = 10
"""Sixteen characters of base32: no two peers of any swarm draw the same by accident."""


@dataclass(frozen=True)
class Identity:
    """Who a peer is: an id that never changes and a name for people."""

    peer: str
    name: str


@dataclass(frozen=True)
class Home:
    """Paths inside one home directory; creating nothing until asked."""

    root: Path

    @property
    def identity(self) -> Path:
        """The identity file."""
        return self.root / "identity.json"

    @property
    def swarm(self) -> Path:
        """Directory of what belongs to the swarm: manifest, store, offers, state."""
        return self.root / "swarm"

    @property
    def socket(self) -> Path:
        """The local control socket."""
        return self.root / CONTROL_SOCKET

    @property
    def log(self) -> Path:
        """The daemon's log."""
        return self.root / "daemon.log"

    @property
    def trainer_log(self) -> Path:
        """The trainer's standard error."""
        return self.root / "trainer.log"

    def create(self) -> None:
        """Make the directory, readable by its owner alone, if it is not there yet."""
        check_socket_path(self.socket.absolute())
        try:
            self.root.mkdir(mode=HOME_MODE, parents=True, exist_ok=True)
            self.root.chmod(HOME_MODE)
        except FileExistsError:
            raise ConfigError(
                f"the home directory {str(self.root)!r} is a file",
                hint="choose a directory with --home",
            ) from None
        except OSError as error:
            raise ResourceError(
                f"cannot create the home directory {str(self.root)!r}: "
                f"{error.strerror or error}",
                hint="choose another one with --home",
            ) from None


def find_home(option: str | None) -> Home:
    """The home that ``--home`` names, else the environment, else the platform."""
    chosen = option or os.environ.get(ENVIRONMENT_KEY)
    return Home(Path(chosen).expanduser() if chosen else platform_home())


def platform_home() -> Path:
    """The user's state directory for this program on this platform."""
    import platformdirs  # imported when needed: most commands name their home

    return platformdirs.user_state_path("p2pfusion", appauthor=False)


def read_identity(home: Home) -> Identity | None:
    """The peer that lives in this home; None if nobody does yet."""
    try:
        text = home.identity.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        data = json.loads(text)
        return Identity(peer=_text(data["peer"]), name=_text(data["name"]))
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{home.identity}: not the identity of a peer",
            hint="restore it, or remove the home directory to become a new peer",
        ) from None


def create_identity(home: Home, name: str | None = None) -> Identity:
    """The peer of this home, drawn and written down if it does not exist yet."""
    found = read_identity(home)
    if found is not None:
        return found
    home.create()
    drawn = base64.b32encode(secrets.token_bytes(PEER_ID_BYTES)).decode().lower()
    identity = Identity(peer=drawn, name=name or host_name())
    text = json.dumps({"peer": identity.peer, "name": identity.name}, indent=2) + "\n"
    temporary = home.identity.with_suffix(".tmp")
    with open(temporary, "w", encoding="utf-8", opener=_private) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(home.identity)
    return identity


def host_name() -> str:
    """What this machine calls itself, shortened to a name that tables can show."""
    name = "".join(c for c in socket.gethostname() if c.isprintable())
    return name[:MAX_NAME_CHARACTERS] or "peer"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, IDENTITY_MODE)


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_CHARACTERS:
        raise ValueError("not a short text")
    return value
