"""A swarm of real daemons on this machine: started, watched, killed, always ended.

Every peer is a process of its own with a home of its own, in a session of its own, so
that Ctrl-C reaches only the program that owns the swarm. Leaving the ``with`` block
ends all of them, whatever happened inside, and removes their homes. An interrupt that
arrives while a process is being started waits until the process is on the list.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from p2pfusion.cli import launch
from p2pfusion.cli.connection import FOUND_TIMEOUT_S, ask
from p2pfusion.cli.output import Data
from p2pfusion.cli.toml_text import toml_text
from p2pfusion.daemon.home import Home
from p2pfusion.errors import NotRunningError, P2PFusionError

TICKET_LIFE_S = 3_600.0
"""All join within seconds; who comes back later is a member by then."""

STOP_TIMEOUT_S = 6.0
"""Between the request to stop and SIGTERM; a trainer in mid-step needs a moment."""

TERMINATE_TIMEOUT_S = 3.0
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Turns the first of the signals that end a program into ``KeyboardInterrupt``.

    Only the first: an impatient second one must not interrupt the clearing up.
    """

    def __init__(self) -> None:
        self._waiting = False
        self._raised = False
        self._held = 0

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Inside, an ending signal raises ``KeyboardInterrupt``."""
        before = {number: signal.signal(number, self._on) for number in ENDING_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside, it waits; afterwards it raises, if it came."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._waiting:
            self._raise_once()

    def _on(self, number: int, frame: FrameType | None) -> None:
        self._waiting = True
        self._raise_once()

    def _raise_once(self) -> None:
        if not self._held and not self._raised:
            self._raised = True
            raise KeyboardInterrupt


@dataclass
class LocalPeer:
    """One daemon of the swarm."""

    name: str
    home: Home
    profile: Path
    process: subprocess.Popen[bytes]
    status: Data = field(default_factory=dict)
    """What it last said of itself."""
    earlier_sent_bytes: int = 0
    """Sent before it was killed; a new process counts from 0."""

    @property
    def sent_bytes(self) -> int:
        """All that this peer has sent in this swarm."""
        return self.earlier_sent_bytes + whole(self.status, "traffic", "sent_bytes")


class LocalSwarm:
    """Daemons by rank; the first is the founder, all others join it by ticket."""

    def __init__(self, interrupts: Interrupts, logs: Path) -> None:
        """``logs``: where the daemons' logs are copied to if something goes wrong."""
        self._interrupts = interrupts
        self._logs = logs
        self._root = Path()
        self._ticket = ""
        self.peers: list[LocalPeer] = []

    def __enter__(self) -> LocalSwarm:
        self._root = Path(tempfile.mkdtemp(prefix="p2pfusion-demo-"))
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        with contextlib.suppress(KeyboardInterrupt), self._interrupts.held():
            self._end_all()
            if isinstance(error, P2PFusionError):
                self._keep_logs(error)
            shutil.rmtree(self._root, ignore_errors=True)

    def _keep_logs(self, error: P2PFusionError) -> None:
        """Copies what the daemons wrote to where the user can read it afterwards."""
        for peer in self.peers:
            for log in (peer.home.log, peer.home.trainer_log):
                if log.exists() and log.stat().st_size:
                    shutil.copy(log, self._logs / f"{peer.name}-{log.name}")
        error.hint = f"the daemons' logs are in {self._logs}"

    def start(self, profiles: Mapping[str, Mapping[str, Mapping[str, object]]]) -> None:
        """Starts a daemon per profile (by name, as TOML tables), founder first."""
        (first, tables), *others = profiles.items()
        self._launch_new(first, tables).ready()
        if others:
            self._ticket = self._invite(len(others))
        for launched in [self._launch_new(*other) for other in others]:
            launched.ready()

    def _invite(self, count: int) -> str:
        """A ticket for so many peers; waits until the founder has a swarm."""
        founder = self.peers[0].home
        wait: Data = {"for": "joined", "limit_s": FOUND_TIMEOUT_S}
        try:
            ask(founder, "wait", wait, timeout_s=None)
        except NotRunningError:
            self.peers[0].process.wait()
            self.refresh()  # says why it ended
            raise
        wanted: Data = {"uses": count, "life_s": TICKET_LIFE_S, "role": "member"}
        return str(ask(founder, "invite-create", wanted).get("ticket"))

    def kill(self, peer: LocalPeer) -> None:
        """Ends it without any warning, as a power failure would."""
        peer.earlier_sent_bytes = peer.sent_bytes
        peer.status = {}
        _signal(peer.process, signal.SIGKILL)
        peer.process.wait()

    @property
    def is_encrypted(self) -> bool:
        """Whether every daemon that has answered says so, and one has."""
        told = [p.status["security"] for p in self.peers if "security" in p.status]
        encrypted = [isinstance(s, dict) and s.get("encrypted") is True for s in told]
        return bool(encrypted) and all(encrypted)

    def restart(self, peer: LocalPeer) -> None:
        """Starts it again in the same home."""
        self._launch(peer.home, peer.profile, peer).ready()

    def refresh(self) -> None:
        """Asks every daemon for its status; raises if one has ended on its own."""
        for peer in self.peers:
            code = peer.process.poll()
            if code is not None:
                log = " | ".join(launch.last_lines(peer.home.log)) or "nothing"
                raise P2PFusionError(
                    f"the daemon of {peer.name} ended by itself (exit code {code}); "
                    f"the end of its log: {log}"
                )
            with contextlib.suppress(P2PFusionError):
                peer.status = ask(peer.home, "status")

    def _launch_new(
        self, name: str, tables: Mapping[str, Mapping[str, object]]
    ) -> launch.Launched:
        home = Home(self._root / str(len(self.peers)))
        home.create()
        profile = home.root / "profile.toml"
        text = toml_text({**tables, "peer": {**tables["peer"], "name": name}})
        profile.write_text(text, encoding="utf-8")
        return self._launch(home, profile, None)

    def _launch(
        self, home: Home, profile: Path, peer: LocalPeer | None
    ) -> launch.Launched:
        arguments = [str(profile)]
        if self._ticket:
            arguments += ["--join", self._ticket]
        with self._interrupts.held():
            launched = launch.start_in_background(home, arguments)
            if peer is None:
                name = f"peer-{len(self.peers)}"
                self.peers.append(LocalPeer(name, home, profile, launched.process))
            else:
                peer.process = launched.process
        return launched

    def _end_all(self) -> None:
        """Asks politely, then not, and waits for each: nothing may be left."""
        for peer in self.peers:
            with contextlib.suppress(P2PFusionError, OSError):
                ask(peer.home, "stop", timeout_s=1.0)
        processes = [peer.process for peer in self.peers]
        for number, timeout_s in (
            (None, STOP_TIMEOUT_S),
            (signal.SIGTERM, TERMINATE_TIMEOUT_S),
            (signal.SIGKILL, None),
        ):
            for process in processes:
                if number is not None and process.poll() is None:
                    _signal(process, number)
            if _all_ended(processes, timeout_s):
                return


def whole(status: Mapping[str, object], part: str, key: str) -> int:
    """A whole number of a status; 0 while it is unknown."""
    table = status.get(part)
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, int) else 0


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To its whole session: a daemon leads its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _all_ended(
    processes: Sequence[subprocess.Popen[bytes]], timeout_s: float | None
) -> bool:
    """Whether all ended; the time is shared among them."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    for process in processes:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            process.wait(left)
        except subprocess.TimeoutExpired:
            return False
    return True
