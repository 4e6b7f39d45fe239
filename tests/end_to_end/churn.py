"""The churn run: real daemons, and what happens to machines that belong to people.

Six daemons train the digits. Two are killed in the middle of a round, one of them comes
back, a newcomer joins by ticket, another is frozen for a while. Whoever runs it decides
what to make of the outcome: ``test_churn.py`` asserts, ``benchmarks/churn.py`` prints.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from p2pfusion.errors import ResourceError
from tests.end_to_end.absences import Absence, Row
from tests.end_to_end.inspection import number_of_round
from tests.end_to_end.programs import Program
from tests.end_to_end.swarm import QUICK, Daemon, Swarm, share

PEERS = 6
PATIENCE_S = 300.0
"""For what takes many rounds: one machine does the work of seven."""

STOPPED_S = 20.0
"""How long one is frozen: a closed lid, much longer than any suspicion."""

ROUNDS_WITHOUT = 5
"""Rounds that the others do, at least, while it is: a full epoch."""

EPOCH = 5
"""Rounds in each: members come and go between them."""

SETTINGS: dict[str, object] = {
    **QUICK,
    "rounds_per_epoch": EPOCH,
    "name": "churn",
    "network": "local",
    "model_arguments": {"hidden": [128, 128]},
    "batch": 16,
    "rounds": 160,
    "local_epochs": 6,
    # So that a machine that is busy otherwise makes nobody late.
    "deadline_min_s": 20.0,
    "deadline_max_s": 60.0,
}


@dataclass
class Outcome:
    """What came of one run."""

    seed: int
    next_fused_s: float
    """From the kill until every survivor had fused the next round."""
    first_fused_s: float
    """... and until the first of them had."""
    accuracy: float
    """Of the assembled model, on digits that nobody trained on."""
    rounds: dict[str, list[Row]]
    """What every daemon that was there at the end says of its rounds."""
    absences: list[Absence]
    seconds: float
    told: list[str] = field(default_factory=list)
    """What happened, in order."""


class Run:
    """One swarm and its accidents."""

    def __init__(self, swarm: Swarm, seed: int, rounds: int) -> None:
        self._swarm = swarm
        self._chance = random.Random(seed)
        self._settings = {**SETTINGS, "seed": seed, "rounds": rounds}
        self._running: list[Daemon] = []
        self._told: list[str] = []
        self._started_at = time.monotonic()
        self.absences: dict[str, Absence] = {}

    def _tell(self, text: str) -> None:
        passed = time.monotonic() - self._started_at
        self._told.append(f"{passed:6.1f} s  {text}")
        print(self._told[-1], file=sys.stderr, flush=True)

    # --- The script ------------------------------------------------------------------

    def play(self, seed: int, folder: Path) -> Outcome:
        """From the first daemon to the assembled model."""
        self._running = self._start()
        founder = self._running[0]
        self._tell("all have joined and done two rounds")
        ticket = founder.ticket()
        first, gone, stopped = self._victims(founder)
        first_s, last_s = self._kill([first, gone])
        self._start_again(first)
        joiner = self._join(ticket)
        self._until_it_contributes([first, joiner])
        self._freeze(stopped)
        for daemon in self._running:
            daemon.wait("done", PATIENCE_S)
        self._tell("all are done")
        return Outcome(
            seed=seed,
            next_fused_s=last_s,
            first_fused_s=first_s,
            accuracy=self._accuracy(folder / "model.safetensors"),
            rounds={_name(d): [*d.rounds()] for d in self._running},
            absences=list(self.absences.values()),
            seconds=time.monotonic() - self._started_at,
            told=self._told,
        )

    def _accuracy(self, path: Path) -> float:
        """Of the model as one of them assembles it; 0 if it cannot."""
        chosen = self._chance.choice(self._running)
        try:
            chosen.ask("export", path=str(path))
        except ResourceError as error:
            self._tell(f"{_name(chosen)} cannot export: {error}")
            return 0.0
        program = Program(chosen.home, self._swarm.mark)
        judged = program.run("evaluate", str(path), "--data", "digits", "--json")
        return float(str(judged.data["accuracy"]))

    def _start(self) -> list[Daemon]:
        made = [
            self._swarm.add(
                data=share(number, PEERS + 1, 0.1),
                swarm={**self._settings, "min_peers": PEERS} if not number else None,
            )
            for number in range(PEERS)
        ]
        founder, *others = made
        founder.start()
        ticket = founder.ticket(uses=len(others))
        for daemon in others:
            daemon.launch("--join", ticket)
        for daemon in others:
            daemon.ready()
        for daemon in made:
            daemon.wait("round=2", PATIENCE_S)
        return made

    def _victims(self, founder: Daemon) -> tuple[Daemon, Daemon, Daemon]:
        """Who is killed and comes back, who is killed, and who is frozen.

        The founder may be killed, but comes back: it alone can let a newcomer in.
        """
        first, gone, stopped = self._chance.sample(self._running, 3)
        if founder is gone:
            first, gone = gone, first
        return first, gone, stopped

    # --- What happens ----------------------------------------------------------------

    def _kill(self, victims: list[Daemon]) -> tuple[float, float]:
        """Kills in the middle of a round.

        How long the first and the last survivor took to the next fused round.
        """
        left = [d for d in self._running if d not in victims]
        victims[0].until(lambda: _phase(victims[0]) == "train")
        earliest = min(map(number_of_round, left))
        killed_at = time.monotonic()
        for daemon in victims:
            daemon.kill()
        now = {_name(d): number_of_round(d) for d in left}
        latest = max(now.values())
        self._running = left
        for daemon in victims:
            # Whoever completed this round without its survivors was one ahead, at most.
            name = _name(daemon)
            self.absences[name] = Absence(name, earliest, latest + 2)
        names = " and ".join(map(_name, victims))
        self._tell(f"killed {names} in round {latest}")
        took = sorted(
            at - killed_at
            for at in _moments(left, {name: n + 1 for name, n in now.items()})
        )
        self._tell(f"next fused round after {took[0]:.2f} to {took[-1]:.2f} s")
        return took[0], took[-1]

    def _start_again(self, daemon: Daemon) -> None:
        earliest = min(map(number_of_round, self._running))
        # At the same address, which stands in the founder's tickets.
        daemon.start("--listen", daemon.address)
        self._back(daemon, earliest)
        self._running.append(daemon)

    def _back(self, daemon: Daemon, number: int) -> None:
        name = _name(daemon)
        away = self.absences[name]
        self.absences[name] = Absence(name, away.missed_from, away.gone_from, number)
        self._tell(f"{name} is back; the others are in round {number}")

    def _join(self, ticket: str) -> Daemon:
        # Who has just come back may be in no round yet.
        number = min(n for n in map(number_of_round, self._running) if n >= 0)
        joiner = self._swarm.add(data=share(PEERS, PEERS + 1, 0.1))
        joiner.start("--join", ticket)
        joiner.wait("joined", PATIENCE_S)
        self._running.append(joiner)
        name = _name(joiner)
        # Nobody misses it before it is a member; its trainer begins when it has joined.
        self.absences[name] = Absence(name, 0, 0, number)
        self._tell(f"{name} has joined in round {number}")
        return joiner

    def _until_it_contributes(self, daemons: Iterable[Daemon]) -> None:
        for daemon in daemons:
            name = _name(daemon)
            daemon.until(lambda d=daemon, n=name: _contributed(d, n), PATIENCE_S)
            number = number_of_round(daemon)
            self._tell(f"{name} contributes by round {number}")

    def _freeze(self, daemon: Daemon) -> None:
        """Stops a daemon and its trainer, as a closed lid does."""
        left = [d for d in self._running if d is not daemon]
        earliest = min(map(number_of_round, left))
        processes = [daemon.pid, daemon.trainer.pid]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        stopped_at = time.monotonic()
        latest = max(map(number_of_round, left))
        name = _name(daemon)
        self.absences[name] = Absence(name, earliest, latest + 2)
        self._tell(f"stopped {name} in round {latest}")
        for other in left:
            _wait_or_done(other, latest + ROUNDS_WITHOUT)
        left[0].let_pass(stopped_at + STOPPED_S - time.monotonic())
        back = min(map(number_of_round, left))
        for process in reversed(processes):
            os.kill(process, signal.SIGCONT)
        self._back(daemon, back)


def _wait_or_done(daemon: Daemon, number: int) -> None:
    rounds = int(str(daemon.ask("status")["swarm"]["rounds"]))  # type: ignore[index]
    daemon.wait(f"round={min(number, rounds)}", PATIENCE_S)


def _name(daemon: Daemon) -> str:
    return f"p{daemon.home.name}"


def _phase(daemon: Daemon) -> object:
    found = daemon.ask("status")["round"]
    assert isinstance(found, dict)
    return found["phase"]


def _contributed(daemon: Daemon, name: str) -> bool:
    """Whether a daemon has sealed a round with its own values."""
    return any(name in str(row["contributors"]) for row in daemon.rounds())


def _moments(daemons: list[Daemon], numbers: dict[str, int]) -> Iterator[float]:
    """When each daemon is in its round of these."""

    def arrived(daemon: Daemon) -> float:
        _wait_or_done(daemon, numbers[_name(daemon)])
        return time.monotonic()

    with ThreadPoolExecutor(len(daemons)) as pool:
        yield from pool.map(arrived, daemons)


def churn(swarm: Swarm, *, seed: int, folder: Path, rounds: int = 0) -> Outcome:
    """Plays the script with one seed; what is left running, ``swarms`` ends."""
    count = rounds or int(str(SETTINGS["rounds"]))
    return Run(swarm, seed, count).play(seed, folder)
