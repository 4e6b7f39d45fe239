"""Machines in miniature: a network namespace per peer, and a bridge between them.

What a system sends inside one of its machines, over loopback or local sockets, is not
traffic; what crosses the bridge is. It is counted by the kernel, in the same way for
everybody: bytes of Ethernet frames that peers sent, repeated ones and acknowledgements
among them (a frame that the kernel has yet to cut counts as one, with one header).

Beside them the processor time of all processes is counted, which other work on the
machine changes much less than it changes how long something takes.

The whole script runs in namespaces of its own, so it needs no rights, and no process is
left when it ends: the kernel kills all that it started.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MARK = "P2PFUSION_RIVALS_INSIDE"
SAMPLE_S = 0.05
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
LOOK_S = 0.02
UNSHARE = (
    *("unshare", "--map-root-user", "--net", "--mount", "--pid", "--fork"),
    *("--mount-proc", "--kill-child"),
)


def enter() -> None:
    """Goes on in namespaces of its own: the script begins once more, there."""
    if MARK not in os.environ:
        lacks = [
            name for name in ("unshare", "nsenter", "ip") if not shutil.which(name)
        ]
        if lacks:
            sys.exit(f"this needs Linux, and {', '.join(lacks)}")
        command = [*UNSHARE, sys.executable, *sys.argv]
        os.execvpe(UNSHARE[0], command, {**os.environ, MARK: "1"})


def address(rank: int) -> str:
    """Where the machine of this rank is."""
    return f"10.77.0.{rank + 1}"


def ip(*words: str) -> None:
    """The command of this name; ends the benchmark if it fails."""
    subprocess.run(["ip", *words], check=True)


def build(machines: int) -> None:
    """So many machines, each connected to the bridge."""
    # Names of namespaces are files there, which must not be those of the real machine.
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    ip("link", "set", "lo", "up")
    ip("link", "add", "bridge", "type", "bridge")
    ip("link", "set", "bridge", "up")
    for rank in range(machines):
        name, end = f"p{rank}", f"v{rank}"
        ip("netns", "add", name)
        ip(*("link", "add", end, "type", "veth", "peer", "eth0", "netns", name))
        ip("link", "set", end, "master", "bridge", "up")
        ip("-n", name, "addr", "add", f"{address(rank)}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")


def on(rank: int, command: Sequence[str]) -> list[str]:
    """The command, on the machine of this rank."""
    return ["nsenter", f"--net=/run/netns/p{rank}", "--", *command]


def sent_bytes() -> int:
    """What all machines together have sent to others so far."""
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    rows = (line.partition(":") for line in lines)
    return sum(int(row.split()[0]) for end, _, row in rows if end.strip()[0] == "v")


def ticks_by_process() -> dict[int, int]:
    """Processor time of every process but this one, in ticks of the kernel's clock."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # Behind the name, which may have blanks: user time, then system time.
            fields = path.read_text().rpartition(")")[2].split()
            found[int(path.parent.name)] = int(fields[11]) + int(fields[12])
    found.pop(os.getpid(), None)
    return found


@dataclass
class Meter:
    """Sent bytes and processor time, sampled while a run goes on."""

    times: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)

    def sent_bytes(self, start: float, end: float) -> int:
        """What was sent between two instants, to the last sample before each."""
        return self._between(self.counts, start, end)

    def processor_s(self, start: float, end: float) -> float:
        """Processor time of all processes between two instants."""
        return self._between(self.ticks, start, end) / TICKS_PER_S

    def _between(self, counts: Sequence[int], start: float, end: float) -> int:
        first, last = (bisect.bisect_right(self.times, at) for at in (start, end))
        return counts[max(0, last - 1)] - counts[max(0, first - 1)]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Samples inside."""
        over = threading.Event()

        def sample() -> None:
            used: dict[int, int] = {}  # with those that have ended
            while not over.is_set():
                used |= ticks_by_process()
                self.ticks.append(sum(used.values()))
                self.counts.append(sent_bytes())
                self.times.append(time.time())
                over.wait(SAMPLE_S)

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@dataclass(frozen=True)
class Program:
    """What runs on one machine."""

    rank: int
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ends: bool = True
    """Whether it ends by itself, or is ended when all others have."""

    def start(self) -> subprocess.Popen[bytes]:
        """Starts it; what it says goes to the log."""
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                on(self.rank, self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.log.parent,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )


def run(programs: Sequence[Program], limit_s: float) -> str:
    """Runs programs until those that end have ended; why that failed, or nothing."""
    processes = [program.start() for program in programs]
    waited = [p for p, q in zip(processes, programs, strict=True) if q.ends]
    end = time.monotonic() + limit_s
    try:
        while any(process.poll() is None for process in waited):
            if any(process.poll() for process in processes):
                break
            if time.monotonic() > end:
                return f"it had not ended after {limit_s:.0f} s"
            time.sleep(LOOK_S)
        for process, program in zip(processes, programs, strict=True):
            if process.poll():
                said = program.log.read_text(errors="replace").strip().splitlines()
                return f"exit code {process.returncode}: {(said or ['nothing'])[-1]}"
        return ""
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
