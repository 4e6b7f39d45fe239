"""Our own swarm in the same place: one daemon per machine, joined by ticket, encrypted.

What is measured is what daemons tell of themselves: when rounds were sealed, from the
events that they keep, and what rounds consisted of, from ``p2pfusion rounds``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from network import address, on

from p2pfusion.cli.toml_text import toml_text
from p2pfusion.daemon.client import LocalClient

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, str(ROOT / "cli.py")]
PATIENCE_S = 300.0
LOOK_S = 0.01
PORT = 41_000

Table = dict[str, object]


@dataclass
class Daemon:
    """One machine's daemon."""

    rank: int
    home: Path
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def said(self) -> Path:
        """What it writes to its terminal."""
        return self.home / "said"

    def start(self, tables: Mapping[str, Table], ticket: str = "") -> None:
        """Starts it with a profile that listens on its machine."""
        self.home.mkdir(mode=0o700)
        peer = {**tables["peer"], "listen": f"{address(self.rank)}:{PORT}"}
        profile = self.home / "profile.toml"
        profile.write_text(toml_text({**tables, "peer": peer}))
        command = [*PROGRAM, "start", str(profile)]
        with open(self.said, "wb") as said:
            self.process = subprocess.Popen(
                on(self.rank, command + (["--join", ticket] if ticket else [])),
                env={**os.environ, "P2PFUSION_HOME": str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def ready(self) -> None:
        """Waits until it answers; ends the benchmark if it does not."""
        while "READY" not in self.said.read_text():
            if self.process.poll() is not None:
                sys.exit(f"no daemon: {self.said.read_text()}")
            time.sleep(LOOK_S)

    def ask(self, command: str, **arguments: object) -> Table:
        """The answer's data."""
        client = LocalClient(self.home)
        found = client.call(command, timeout_s=PATIENCE_S, **arguments)
        assert isinstance(found, dict)
        return found

    def wait(self, condition: str) -> None:
        """Until it is so: ``joined``, ``done``."""
        self.ask("wait", **{"for": condition, "limit_s": PATIENCE_S})

    def rounds(self) -> list[dict[str, dict[str, float]]]:
        """All rounds, as it remembers them."""
        found = self.ask("rounds", count=1_000)["rounds"]
        assert isinstance(found, list)
        return found

    def sealed(self) -> list[float]:
        """When it sealed its rounds, by the machine's clock."""
        lines = (self.home / "events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        ats = [each["at"] for each in events if each["kind"] == "round-sealed"]
        return [datetime.fromisoformat(at).timestamp() for at in ats]

    def checkpoint(self, number: int) -> Path:
        """The whole model after so many rounds; the last one comes after the end."""
        path = self.home / "checkpoints" / f"round-{number:06}.safetensors"
        end = time.monotonic() + PATIENCE_S
        while not path.exists() and time.monotonic() < end:
            time.sleep(LOOK_S)
        return path


@contextlib.contextmanager
def swarm(directory: Path, profiles: list[dict[str, Table]]) -> Iterator[list[Daemon]]:
    """A swarm of daemons, founder first; all have ended afterwards."""
    directory.mkdir()
    daemons = [Daemon(rank, directory / str(rank)) for rank in range(len(profiles))]
    started: list[Daemon] = []
    try:
        founder, *others = daemons
        founder.start(profiles[0])
        started.append(founder)
        founder.ready()
        founder.wait("joined")
        ticket = str(founder.ask("invite-create", uses=len(others))["ticket"])
        for daemon, tables in zip(others, profiles[1:], strict=True):
            daemon.start(tables, ticket)
            started.append(daemon)
        for daemon in others:
            daemon.ready()
        yield daemons
    finally:
        for daemon in started:
            daemon.process.terminate()
        for daemon in started:
            daemon.process.wait()
