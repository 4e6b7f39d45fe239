"""Swarms of real daemons on loopback: started, asked, killed, and always ended.

Every daemon is `p2pfusion start` in a process of its own, with a home of its own. What
must be waited for is waited for by the daemon (`wait`), never by the clock.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil

from p2pfusion.cli.toml_text import toml_text
from p2pfusion.daemon.client import LocalClient
from p2pfusion.daemon.home import Home
from p2pfusion.daemon.identity import write_private
from p2pfusion.errors import NotRunningError, WaitTimeoutError
from p2pfusion.methods import Member, PlanContext, build_method
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.security import DeviceKey
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan, plan_round
from p2pfusion.split.segment import Split
from p2pfusion.store import read_checkpoint
from tests.end_to_end.programs import MARK, PROGRAM, ROOT, end_marked, marked

PATIENCE_S = 240.0
"""Only a failure waits so long; where much else runs, everything takes longer."""
MOST_DAEMONS = 16
LOOK_AGAIN_S = 0.02
LAST_WORDS = 4_000
NEVER = "round=1000000"
"""A round that no swarm here comes to."""

Data = dict[str, object]
Tables = Mapping[str, Mapping[str, object]]

DIRICHLET = {"rule": "dirichlet", "alpha": 0.5}
QUICK = {
    "name": "test",
    "model": "mlp",
    "model_arguments": {"hidden": [32, 32]},
    "rounds": 3,
    "learning_rate": 0.1,
    "deadline_min_s": 20.0,
    "deadline_max_s": 120.0,
}
"""A swarm whose rounds take a tenth of a second each. Nobody is given up for being
slow: that the machine is busy otherwise changes no result."""


@dataclass
class Daemon:
    """One peer: its home, its profile, and its process while it runs."""

    home: Path
    profile: Path
    mark: str
    process: subprocess.Popen[str] | None = None
    address: str = ""
    program: Sequence[str] = tuple(PROGRAM)
    client: LocalClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = LocalClient(self.home)

    @property
    def peer(self) -> str:
        """The peer's id."""
        return str(json.loads((self.home / "identity.json").read_text())["peer"])

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        assert self.process is not None
        return self.process.pid

    def launch(self, *options: str) -> None:
        """Starts the process, without waiting for READY."""
        self.home.mkdir(exist_ok=True)
        with open(self.home / "stderr", "a") as errors:
            self.process = subprocess.Popen(
                [*self.program, "start", str(self.profile), *options],
                cwd=ROOT,
                env={**os.environ, "P2PFUSION_HOME": str(self.home), MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def ready(self) -> None:
        """Waits for the line READY; fails with the daemon's words if none comes."""
        assert self.process is not None and self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("READY"), self.errors()
        self.address = line.split()[line.split().index("address") + 1]

    def start(self, *options: str) -> None:
        """Starts the process and waits for READY."""
        self.launch(*options)
        self.ready()

    def ended(self) -> tuple[int, str]:
        """Waits for the end: exit code, and the last line on standard error."""
        assert self.process is not None
        code = self.process.wait(PATIENCE_S)
        lines = self.errors().splitlines()
        return code, lines[-1] if lines else ""

    def errors(self) -> str:
        """Everything on standard error so far."""
        return (self.home / "stderr").read_text()

    def ticket(self, **arguments: object) -> str:
        """A ticket into this daemon's swarm, once there is one."""
        self.wait("joined")
        return str(self.ask("invite-create", **arguments)["ticket"])

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """As a power failure would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def ask(self, command: str, **arguments: object) -> Data:
        """The data that the daemon answers with."""
        return self._call(command, PATIENCE_S, arguments)

    def wait(self, condition: str, limit_s: float = PATIENCE_S) -> Data:
        """Waits for ``joined``, ``peers=K``, ``round=T`` or ``done``."""
        data = {"for": condition, "limit_s": limit_s}
        return self._call("wait", limit_s + 5, data)

    def _call(
        self, command: str, timeout_s: float, arguments: Mapping[str, object]
    ) -> Data:
        try:
            found = self.client.call(command, timeout_s=timeout_s, **arguments)
        except NotRunningError as error:
            # Its home is gone when the test has failed, and its last words with it.
            said = self.errors()[-LAST_WORDS:]
            raise AssertionError(f"{error}; it said:\n{said}") from error
        assert isinstance(found, dict)
        return found

    def until(self, reached: Callable[[], bool], limit_s: float = PATIENCE_S) -> None:
        """Asks until something is so, for what ``wait`` does not know."""
        deadline = time.monotonic() + limit_s
        while not reached():
            assert time.monotonic() < deadline, "it never happened"
            self.let_pass(LOOK_AGAIN_S)

    def let_pass(self, seconds: float) -> None:
        """Lets time pass, by a wait of the daemon for what will not come."""
        with contextlib.suppress(WaitTimeoutError):
            self.wait(NEVER, max(0.0, seconds))

    def rounds(self) -> list[Data]:
        """All sealed rounds of this run."""
        found = self.ask("rounds", count=1000)["rounds"]
        assert isinstance(found, list)
        return found

    @property
    def trainer(self) -> psutil.Process:
        """The trainer's process."""
        (child,) = psutil.Process(self.pid).children()
        return child


class Swarm:
    """Daemons by rank: their ids sort as they were added."""

    def __init__(self, root: Path, mark: str) -> None:
        self.root = root
        self.mark = mark
        self.daemons: list[Daemon] = []
        drawn = (DeviceKey.generate() for _ in range(MOST_DAEMONS))
        self._keys = sorted(drawn, key=lambda key: key.peer)

    def add(
        self,
        *,
        peer: Mapping[str, object] | None = None,
        data: Mapping[str, object] | None = None,
        swarm: Mapping[str, object] | None = None,
    ) -> Daemon:
        """A peer that does not run yet."""
        number = len(self.daemons)
        home = self.root / str(number)
        home.mkdir(mode=0o700)
        key = self._keys[number]
        write_private(Home(home).key, key.to_pem())
        identity = {"peer": key.peer, "name": f"p{number}"}
        (home / "identity.json").write_text(json.dumps(identity))
        tables: dict[str, Mapping[str, object]] = {"peer": peer or {}}
        if data is not None:
            tables["data"] = data
        if swarm is not None:
            tables["swarm"] = swarm
        profile = self.root / f"{number}.toml"
        profile.write_text(toml_text(tables))
        daemon = Daemon(home, profile, self.mark)
        self.daemons.append(daemon)
        return daemon

    def start(
        self,
        count: int,
        *,
        peer: Mapping[str, object] | None = None,
        validation: float = 0.0,
        **swarm: object,
    ) -> list[Daemon]:
        """A founder and others that join it, each with its share of the digits."""
        settings = {**QUICK, "min_peers": count, **swarm}
        made = [
            self.add(
                peer=peer,
                data=share(number, count, validation),
                swarm=settings if number == 0 else None,
            )
            for number in range(count)
        ]
        gather(made)
        return made


def gather(made: Sequence[Daemon]) -> None:
    """Starts daemons: the first founds a swarm, the others join it by ticket."""
    founder, *others = made
    founder.start()
    if others:
        ticket = founder.ticket(uses=len(others))
    for daemon in others:
        daemon.launch("--join", ticket)
    for daemon in others:
        daemon.ready()


def share(number: int, count: int, validation: float = 0.0) -> Data:
    """One of so many shares of the digits."""
    partition = {**DIRICHLET, "share": f"{number}/{count}"}
    return {"kind": "digits", "partition": partition, "validation": validation}


def manifest_of(plan: Data) -> Manifest:
    """The swarm's manifest, out of the answer to the command ``plan``."""
    return Manifest.from_bytes(base64.b64decode(str(plan["manifest"])))


def planned(daemon: Daemon) -> Iterator[tuple[ExchangePlan, dict[str, Split]]]:
    """Every round's plan and splits, from what the command ``plan`` tells."""
    data = daemon.ask("plan")
    manifest = manifest_of(data)
    roster = data["roster"]
    assert isinstance(roster, list)
    members = tuple(Member(m["peer"], Fraction(m["split_fraction"])) for m in roster)
    method = build_method(manifest.method, manifest.method_arguments)
    context = PlanContext(manifest.seed, manifest.rounds, manifest.layout, members)
    splits = [
        {m.peer: method.split(context, t, rank) for rank, m in enumerate(members)}
        for t in range(manifest.rounds + 1)
    ]
    homes = Homes.initial(manifest.layout)
    for number, (now, then) in enumerate(itertools.pairwise(splits)):
        plan = plan_round(
            manifest.layout,
            seed=manifest.seed,
            round_index=number,
            current=now,
            following=then,
            homes=homes,
            replication=manifest.replication,
            among_holders=manifest.sends_changes,
        )
        homes = plan.homes_after()
        yield plan, now


def exported(daemon: Daemon, path: Path) -> dict[str, np.ndarray]:
    """The whole model, as a daemon assembles it."""
    daemon.ask("export", path=str(path))
    values, _ = read_checkpoint(path)
    return values


@contextlib.contextmanager
def swarms() -> Iterator[Swarm]:
    """A place for a swarm; nothing of it is left afterwards, however it ended."""
    # A short path, because the daemons' local sockets lie below it.
    with tempfile.TemporaryDirectory(prefix="t-") as root:
        swarm = Swarm(Path(root), mark=root)
        try:
            yield swarm
        finally:
            stop(swarm)


def stop(swarm: Swarm) -> None:
    """Ends all daemons politely; a process that is left is an error, and ended too."""
    running = [d for d in swarm.daemons if d.process and d.process.poll() is None]
    for daemon in running:
        daemon.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
        daemon.process.send_signal(signal.SIGINT)  # type: ignore[union-attr]
    try:
        for daemon in running:
            daemon.process.wait(PATIENCE_S)  # type: ignore[union-attr]
        # A trainer in the middle of a step notices a moment later that it is alone.
        left = psutil.wait_procs(marked(swarm.mark), timeout=PATIENCE_S)[1]
        assert not left, f"processes are left: {left}"
    finally:
        end_marked(swarm.mark)
        for daemon in swarm.daemons:
            if daemon.process is not None and daemon.process.stdout is not None:
                daemon.process.stdout.close()
