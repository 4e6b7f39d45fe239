"""Machines in miniature: a network namespace per peer, and a bridge between them.

What a system sends inside one of its machines, over loopback or local sockets, is not
traffic; what crosses the bridge is. It is counted by the kernel, in the same way for
everybody: bytes of Ethernet frames that peers sent, repeated ones and acknowledgements
among them (a frame that the kernel has yet to cut counts as one, with one header).

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
SAMPLE_S = 0.02
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


@dataclass
class Meter:
    """Sent bytes, sampled while a run goes on."""

    times: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def at(self, when: float) -> int:
        """Bytes of this run that had been sent then, to the last sample before it."""
        place = bisect.bisect_right(self.times, when)
        return self.counts[max(0, place - 1)] - self.counts[0]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Samples inside."""
        over = threading.Event()

        def sample() -> None:
            while not over.is_set():
                self.times.append(time.time())
                self.counts.append(sent_bytes())
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
