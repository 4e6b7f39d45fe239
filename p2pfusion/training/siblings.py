"""The other processes of a trainer that has several, one for each graphics card.

The first one has the daemon's channel. It starts the others, which run the same program
with a channel to the first, and passes on what concerns them all: each sets itself up
and trains the same rounds, and the first one alone evaluates and gives away
(``replicas.py``).

They live and die together. The others leave when the first one is gone, however it
went. When one of the others is gone, or has failed where the rest have not, the first
one tells the daemon why in one line and leaves, because somebody may wait for a part of
a gradient that nobody computes any more; the daemon starts all of them anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

import torch

from p2pfusion.errors import (
    NonFiniteError,
    OutOfMemoryError,
    P2PFusionError,
    TrainerError,
    reported,
)
from p2pfusion.training.replicas import Replica, join, part_ways
from p2pfusion.training.request import Fields, failure, known

GRACE_S = 5.0
"""What connects processes breaks a moment before the system says who has ended."""

END_S = 10.0
"""How long one may take to leave when it has nothing left to do."""


class Siblings:
    """Processes number 1 to the last; number 0 is this one."""

    def __init__(self, devices: Sequence[torch.device], send: Callable[[Fields], None]):
        """One for each device but the first. ``send``: to the daemon."""
        self._devices, self._send = devices, send
        self._doing = ""
        self._is_over = False
        self._telling = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="p2pfusion-")
        # Its writing end is here alone: it closes with this process.
        lifeline, self._lifeline = os.pipe()
        self._others = [_Sibling(lifeline) for _ in devices[1:]]
        os.close(lifeline)
        for number, other in enumerate(self._others, 1):
            listen = threading.Thread(target=self._listen, args=(number, other))
            listen.daemon = True
            listen.start()

    @contextlib.contextmanager
    def joining(self, setup: Mapping[str, object]) -> Iterator[Replica]:
        """While this lasts, they set themselves up as this process does."""
        # What is kept between rounds is the first one's.
        told = {**setup, "outer_momentum": 0.0, "owed": None}
        meeting = Path(self._folder.name) / "meeting"
        with self.doing({**told, "meeting": str(meeting)}):
            yield join(0, self._devices, meeting)

    @contextlib.contextmanager
    def doing(self, request: Mapping[str, object]) -> Iterator[None]:
        """While this lasts, they do what this process does."""
        self._doing = str(request["do"])
        for rank, other in enumerate(self._others, 1):
            with contextlib.suppress(ConnectionError):  # it is gone: who listens, acts
                other.send({**request, "rank": rank})
        try:
            yield
        except NonFiniteError:
            self._answers()  # all of them have found the same
            raise
        except ConnectionError:
            raise  # the daemon is gone
        except Exception as error:
            if not known(error):
                # Perhaps another's end has broken it: who listens tells that.
                threading.Event().wait(GRACE_S)
            self._fail(error)
        for answer in self._answers():
            if "failed" in answer:
                raise reported(answer["error"])  # type: ignore[arg-type]

    def _answers(self) -> list[Fields]:
        answers = [other.answers.get() for other in self._others]
        self._doing = ""
        return answers

    def end(self) -> None:
        """They leave."""
        self._is_over = True
        os.close(self._lifeline)
        for other in self._others:
            other.end()
        part_ways()
        self._folder.cleanup()

    def _listen(self, number: int, other: _Sibling) -> None:
        for line in other.reader:
            told = json.loads(line)
            error = told.get("error")
            if error is not None and error["name"] != NonFiniteError.name:
                self._fail(reported(error))
            if "event" not in told:  # how far it is: as far as this process
                other.answers.put(told)
        code = other.process.wait()
        if not self._is_over:
            self._fail(self._ended(number, code))

    def _ended(self, number: int, code: int) -> P2PFusionError:
        which = (
            f"process {number} of {len(self._devices)} that train together, on "
            f"{self._devices[number]},"
        )
        if code == -signal.SIGKILL:
            return OutOfMemoryError(
                f"{which} was killed by SIGKILL, as the system does when memory is out",
                hint="lower the split fraction or the batch size",
            )
        how = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
        return TrainerError(f"{which} has ended: {how}", hint="see: p2pfusion logs")

    def _fail(self, error: Exception) -> NoReturn:
        """Tells why nobody goes on, and leaves; the others follow."""
        with self._telling:  # for good: whoever finds a cause next has nothing to add
            fields = failure(self._doing, error)
            if known(error):  # others have told theirs
                print(error, file=sys.stderr)
            try:
                if self._doing:
                    self._send(fields)
            finally:
                self._folder.cleanup()
                os._exit(1)


class _Sibling:
    """One of the others, and this process' end of its channel."""

    def __init__(self, lifeline: int) -> None:
        channel, theirs = socket.socketpair()
        importable = [path for path in sys.path if path]
        with theirs:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "p2pfusion.training"),
                    *(str(theirs.fileno()), str(lifeline)),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), lifeline),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(importable)},
            )
        self._channel = channel
        self.reader: BinaryIO = channel.makefile("rb")
        self.answers: queue.SimpleQueue[Fields] = queue.SimpleQueue()

    def send(self, request: Mapping[str, object]) -> None:
        """One line."""
        self._channel.sendall(json.dumps(request).encode() + b"\n")

    def end(self) -> None:
        """It leaves, if need be by force."""
        with contextlib.suppress(OSError):  # it has left already
            self._channel.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Following:
    """Ends this process when the first one is gone, even if it computes or waits."""

    def __init__(self, lifeline: int) -> None:
        """Begins at once. ``lifeline``: a pipe that the first one holds open."""
        self._waiting = threading.Thread(
            target=self._wait, args=(lifeline,), daemon=True
        )
        self._waiting.start()

    def _wait(self, lifeline: int) -> NoReturn:
        os.read(lifeline, 1)
        os._exit(0)

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """Around what the others do as well: when one of them is gone all fail, and
        are gone before they have told that."""
        try:
            yield
        except Exception as error:
            if not known(error):
                self._waiting.join(2 * GRACE_S)
            raise
