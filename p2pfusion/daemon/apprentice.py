"""Keeps one trainer process alive, set up, and busy with the right round.

The daemon asks for rounds; here is remembered what the trainer was told, so that one
that died is replaced and told the same. At most one round is being trained; a newer one
replaces one that still waits. Errors of the user's making (data that cannot be read, a
model that does not exist) are final. A trainer that dies is started again, at once the
first time, and after longer and longer pauses as long as no round is finished; rounds
that begin in a pause are refused, so nobody waits for them. Before there is a swarm,
one that dies again and again ends the daemon.

What a round has trained is given away before its accuracy is measured, and the next
round is asked for after that. A trainer that fails or dies over it loses that number
alone.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from p2pfusion.daemon.config import DataSettings, PeerSettings
from p2pfusion.daemon.home import Home
from p2pfusion.daemon.outcomes import (
    Fatal,
    Fitted,
    FoundOut,
    Measured,
    NotFoundOut,
    NotTrained,
    Outcome,
    TooLarge,
    Trained,
)
from p2pfusion.daemon.privacy import private_request
from p2pfusion.daemon.swarm_settings import SwarmSettings
from p2pfusion.daemon.trainer_answers import described, measured, trained, whole
from p2pfusion.daemon.trainer_link import TrainerLink
from p2pfusion.daemon.trainer_requests import describe_request, setup_request
from p2pfusion.errors import (
    ConfigError,
    DataError,
    IncompatibleError,
    OutOfMemoryError,
    TrainerError,
    reported,
)
from p2pfusion.limits import MAX_TRAINER_RESTARTS, TRAINER_STOP_S
from p2pfusion.protocol.events import StartTraining
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.segment import Split

Fields = Mapping[str, object]


TRAINER_PAUSE_S = 1.0
"""Before a trainer is started a third time without a round in between; doubled from
then on. The first death may be an accident, and costs no pause."""

MAX_TRAINER_PAUSE_S = 600.0
"""The longest such pause: memory that others took comes back within minutes or not."""

MEMORY_FAILURES = 2
"""Rounds in a row that a trainer's memory did not suffice for, before this peer trains
less: one may be the fault of another program."""

NEVER = float("inf")
STARTING = "the trainer is still starting"
FITTING = "finding out how much of the model fits into memory"
MEASURING = "measuring the accuracy"
FINAL = (ConfigError, DataError, IncompatibleError)
"""Of the user's making: there is no use in anything else."""

OUT_OF_MEMORY = "SIGKILL"
"""How the kernel ends a process when memory runs out."""


class Apprentice:
    """The trainer, as the daemon sees it."""

    def __init__(self, home: Home, peer: PeerSettings, data: DataSettings) -> None:
        self._log_path, self._kept = home.trainer_log, str(home.pictures)
        self._peer = peer
        self._data = data
        self._setup: Fields | None = None
        self._describe: Fields | None = None
        self._waiting: StartTraining | None = None
        self._training: StartTraining | None = None
        self._offered: Path | None = None
        self._measuring: int | None = None
        self._to_fit: Fields | None = None
        self._to_find_out: Fields | None = None
        self._finding_out = ""
        self._asked_at: set[str] = set()
        self._deaths = 0
        self._memory_failures = 0
        self.resting = ""
        """Why no trainer runs for a while, if so."""
        self._restart_at = NEVER
        self.state = "starting"
        self.samples: int | None = None
        self.progress: tuple[int, int] | None = None
        self._link = self._start()

    def _start(self) -> TrainerLink:
        threads = str(self._peer.cpu_threads)
        return TrainerLink(self._log_path, environment={"OMP_NUM_THREADS": threads})

    @property
    def pid(self) -> int:
        """Process id of the trainer."""
        return self._link.pid

    def descriptors(self) -> dict[int, int]:
        """What the loop waits on."""
        return self._link.descriptors()

    def describe(self, swarm: SwarmSettings) -> None:
        """Asks for a model's layout; the data tells what the rest leaves open."""
        asked = describe_request(swarm, self._peer, self._data)
        self._describe = {**asked, "kept": self._kept}
        self._link.send(self._describe)

    def set_up(
        self,
        manifest: Manifest,
        *,
        store: Path,
        offers: Path,
        owed: Path | None = None,
        spent: Path | None = None,
    ) -> None:
        """Tells the trainer what stays the same over the rounds.

        ``owed``: where it is kept what earlier contributions have lost, if they do;
        ``spent``: what they have told of this peer's data.
        """
        self._describe = None
        told = {
            **setup_request(manifest, self._peer, self._data),
            "kept": self._kept,
            "store": str(store),
            "offers": str(offers),
            "owed": str(owed) if owed else None,
            "privacy": private_request(self._peer.privacy, spent),
        }
        if told != self._setup:  # a founder's is told before there is a swarm
            self._setup = told
            self._link.send(told)

    def fit(self, splits: Sequence[Split], memory_bytes: int) -> None:
        """Asks which of these splits, ascending, is the last that fits, once the
        trainer is set up; nothing is trained before that is known."""
        told = [split.to_data() for split in splits]
        self._to_fit = {"do": "fit", "splits": told, "memory": memory_bytes}
        self._next()

    def train(self, wanted: StartTraining) -> list[Outcome]:
        """Asks for a round, as soon as the trainer is free; refused while it rests, and
        while it starts if nobody is to wait for that."""
        why = self.resting or (STARTING if wanted.if_ready and self._starts else "")
        if why:
            return [NotTrained(wanted.round_index, why)]
        self._waiting = wanted
        self._next()
        return []

    def find_out(self, split_fraction: str, question: Fields) -> None:
        """Asks what this peer has to announce at a split fraction, before it trains the
        round that waits; once. ``question``: what the trainer is told of it."""
        if split_fraction not in self._asked_at:
            self._asked_at.add(split_fraction)
            told = {"do": "announce", "split_fraction": split_fraction}
            self._to_find_out = {**told, **question}
            self._next()

    @property
    def _starts(self) -> bool:
        return self.samples is None or self._to_fit is not None

    def _next(self) -> None:
        is_measuring = self._measuring is not None
        if self.samples is None or self._training or self._finding_out or is_measuring:
            return
        if self._to_fit is not None:
            if self.state != FITTING:
                self.state = FITTING
                self._link.send(self._to_fit)
            return
        if self._to_find_out:
            request, self._to_find_out = self._to_find_out, None
            self._finding_out = str(request["split_fraction"])
            self.state, self.progress = "finding out what to announce", None
            self._link.send(request)
            return
        if self._waiting is None:
            return
        wanted = self._training = self._waiting
        self._waiting = None
        self.state, self.progress = "training", None
        self._link.send(
            {
                "do": "train",
                "round": wanted.round_index,
                "split": wanted.split.to_data(),
                "learning_rate": wanted.learning_rate,
                "since": str(self._offered) if wanted.goes_on else None,
            }
        )

    def ready(self) -> list[Outcome]:
        """What the trainer has done since the last call."""
        outcomes: list[Outcome] = []
        for message in self._link.ready():
            if "died" in message:
                outcomes += self._died(message)
            elif "failed" in message:
                outcomes += self._failed(message)
            elif "done" in message:
                outcomes += self._done(message)
            else:
                self.progress = (whole(message["step"]), whole(message["steps"]))
        if not any(isinstance(outcome, Trained) for outcome in outcomes):
            self._next()
        return outcomes

    def go_on(self) -> None:
        """What was trained last has been taken: trains the round that waits, if any."""
        self._next()

    def drop(self, round_index: int) -> None:
        """A round that waits to be trained is not wanted any more."""
        if self._waiting is not None and self._waiting.round_index == round_index:
            self._waiting = None

    def _done(self, message: Fields) -> list[Outcome]:
        self.state = "ready"
        if message["done"] == "describe":
            return [described(message)]
        if message["done"] == "setup":
            self.samples = whole(message["samples"])
            return []
        if message["done"] == "fit":
            self._to_fit = None
            return [Fitted(whole(message["chosen"]))]
        if message["done"] == "measure":
            self._measuring, self._memory_failures = None, 0
            return [measured(message)]
        if message["done"] == "announce":
            fraction, self._finding_out = self._finding_out, ""
            announced = base64.b64decode(str(message["announced"]))
            return [FoundOut(fraction, announced)]
        assert self._training is not None
        done = trained(message, self._training, self._offered)
        self._training, self._offered = None, done.offer
        self._deaths = 0
        if done.is_measured:
            self._measuring, self.state = done.round_index, MEASURING
        else:
            self._memory_failures = 0
        return [done]

    def _failed(self, message: Fields) -> list[Outcome]:
        fields = message["error"]
        assert isinstance(fields, dict)
        error = reported(fields)
        is_memory = isinstance(error, OutOfMemoryError)
        if message["failed"] == "measure":
            self.state = "ready"
            return self._not_measured(error.message, is_memory=is_memory)
        if message["failed"] == "announce":
            self._finding_out, self.state = "", "ready"
            return [NotFoundOut(error.message)]
        if message["failed"] == "fit" and not isinstance(error, FINAL):
            # A step went wrong that only was to be measured: the least is tried.
            self._to_fit, self.state = None, "ready"
            return [Fitted(0)]
        if message["failed"] != "train" or self._training is None:
            if is_memory and self._setup is not None:
                # What others use now may be free later: another one tries then.
                self._link.stop(0.0)
                return self._lost(error.message)
            self.state = f"failed: {error.message}"
            return [Fatal(error)]
        round_index, self._training = self._training.round_index, None
        self.state = "ready"
        outcomes: list[Outcome] = [NotTrained(round_index, error.message, error.name)]
        return outcomes + (self._too_large(error.message) if is_memory else [])

    def _died(self, message: Fields) -> list[Outcome]:
        """The process is gone."""
        why = f"the trainer died ({message['died']})"
        outcomes: list[Outcome] = []
        if self.state == FITTING:
            self._to_fit = None
            outcomes.append(Fitted(0))
        if self._finding_out:
            # What has killed it once would do so again, and no round be trained.
            self._finding_out = ""
            outcomes.append(NotFoundOut(why))
        is_memory = OUT_OF_MEMORY in why
        outcomes += self._not_measured(why, is_memory=is_memory)
        if self._training is not None:
            outcomes.append(NotTrained(self._training.round_index, why))
            if is_memory:
                outcomes += self._too_large(why)
        if self._setup is None and self._deaths >= MAX_TRAINER_RESTARTS:
            self.state = f"failed: {why}"
            log = message["log"]
            words = str(log[-1]) if isinstance(log, list) and log else "no last words"
            hint = f"{self._log_path} says: {words}"
            return [*outcomes, Fatal(TrainerError(why, hint=hint))]
        return outcomes + self._lost(why)

    def _not_measured(self, why: str, *, is_memory: bool) -> list[Outcome]:
        """If a round's accuracy is being measured: nothing comes of that."""
        if self._measuring is None:
            return []
        lacking, self._measuring = Measured(self._measuring, None, why), None
        return [lacking, *(self._too_large(why) if is_memory else [])]

    def _too_large(self, why: str) -> list[Outcome]:
        """Counts rounds in a row that memory did not suffice for."""
        self._memory_failures += 1
        if self._memory_failures < MEMORY_FAILURES:
            return []
        # What is asked for from now on is smaller: it is counted anew.
        self._memory_failures = 0
        return [TooLarge(why)]

    def _lost(self, why: str) -> list[Outcome]:
        """Another trainer is started: at once, or after a pause."""
        self._training, self.samples = None, None
        self._deaths += 1
        if self._deaths == 1 or self._setup is None:
            return self._begin_again()
        pause_s = min(TRAINER_PAUSE_S * 2 ** (self._deaths - 2), MAX_TRAINER_PAUSE_S)
        self._restart_at = time.monotonic() + pause_s
        self.resting = f"{why}, {self._deaths} times without a round in between"
        self.state = f"failed: {self.resting}; the next one starts in {pause_s:.0f} s"
        waiting, self._waiting = self._waiting, None
        return (
            [] if waiting is None else [NotTrained(waiting.round_index, self.resting)]
        )

    def _begin_again(self) -> list[Outcome]:
        """A new trainer is told what the last one knew."""
        self.resting, self._restart_at = "", NEVER
        try:
            self._link = self._start()
        except TrainerError as error:
            if self._setup is None:
                return [Fatal(error)]
            return self._lost(error.message)
        self.state = "restarting"
        for told in (self._describe, self._setup):
            if told is not None:
                self._link.send(told)
        return []

    def deadline(self) -> float:
        """When a pause ends."""
        return self._restart_at

    def check(self) -> list[Outcome]:
        """Starts a trainer whose pause is over."""
        return self._begin_again() if time.monotonic() >= self._restart_at else []

    def stop(self) -> None:
        """Ends the process."""
        self._link.stop(TRAINER_STOP_S)
