"""The home directory of one peer: where everything that it keeps lies.

    device.key      the private key of this peer (0600)
    identity.json   its id and name
    invites.json    invitations that this peer has made (0600)
    known.json      whose key answered at which address
    privacy.json    what its data has told, if it counts that
    web.json        the token and the address of the web page (0600)
    swarm/          manifest.msgpack, store/, offers/, state
    checkpoints/    whole models, the last few
    pool/           checkpoints that swarms begin with, named by their hashes
    pictures/       of an image-folder, decoded; made again when it is gone
    control.sock    the local socket that the command line talks to
    daemon.lock     held while a daemon runs
    events.jsonl    what has happened, and events.1.jsonl before it
    daemon.log      what the daemon says; trainer.log: what the trainer says

Paths and modes live here and nothing else. The command line imports this file for every
command, so it imports nothing that is slow.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from p2pfusion.daemon.client import CONTROL_SOCKET, check_socket_path
from p2pfusion.errors import ConfigError, ResourceError

ENVIRONMENT_KEY = "P2PFUSION_HOME"
HOME_MODE = 0o700


@dataclass(frozen=True)
class Home:
    """Paths inside one home directory; creating nothing until asked."""

    root: Path

    @property
    def identity(self) -> Path:
        """The identity file."""
        return self.root / "identity.json"

    @property
    def key(self) -> Path:
        """The private key."""
        return self.root / "device.key"

    @property
    def invites(self) -> Path:
        """The invitations that this peer has made."""
        return self.root / "invites.json"

    @property
    def known(self) -> Path:
        """Whose key answered at which address."""
        return self.root / "known.json"

    @property
    def web(self) -> Path:
        """The token of the web page, and where it was served last."""
        return self.root / "web.json"

    @property
    def spent(self) -> Path:
        """What this peer's data has told so far, in whichever swarm."""
        return self.root / "privacy.json"

    @property
    def swarm(self) -> Path:
        """Directory of what belongs to the swarm: manifest, store, offers, state."""
        return self.root / "swarm"

    @property
    def checkpoints(self) -> Path:
        """Whole models that this peer keeps."""
        return self.root / "checkpoints"

    @property
    def pool(self) -> Path:
        """Checkpoints that swarms begin with."""
        return self.root / "pool"

    @property
    def pictures(self) -> Path:
        """Decoded pictures of a folder of them."""
        return self.root / "pictures"

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
