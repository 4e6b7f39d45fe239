"""What a daemon may take of its machine while it is attacked, and how much it takes.

The ceilings are those of ``docs/security.md``, computed from the bounds that they
follow from.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import psutil

from p2pfusion import limits
from p2pfusion.daemon.web.server import LIMITS as WEB_LIMITS
from p2pfusion.transport import bounds
from tests.end_to_end.swarm import Daemon

KIB, MIB = 1 << 10, 1 << 20

CONTROL_CONNECTION_BYTES = 32 * KIB
DATA_CONNECTION_BYTES = 8 * KIB
HANDSHAKE_BYTES = 64 * KIB
"""What a stranger's connection may cost, and one that waits to know if it is let in.
ZeroMQ's buffers are the most of it, twice 8 KiB; the kernel's memory does not count."""

STRANGERS_BYTES = (
    limits.MAX_CONNECTIONS * (CONTROL_CONNECTION_BYTES + DATA_CONNECTION_BYTES)
    + limits.MAX_PARKED_HANDSHAKES * HANDSHAKE_BYTES
)
"""All strangers together: 96 MiB."""

BUFFERS_BYTES = limits.DATA_BUFFERS * (limits.CHUNK_BYTES + 64 * KIB)
"""Receive buffers of the data plane, for all members together: 68 MiB."""

CIRCUITS_BYTES = bounds.MAX_CIRCUITS * 2 * bounds.SPLICE_BYTES
"""What circuits of others hold: 32 MiB."""

MEMBER_BYTES = (
    bounds.CONTROL_SEND_QUEUE_MESSAGES * limits.MAX_CONTROL_FRAME_BYTES
    + bounds.CONTROL_RECEIVE_QUEUE_MESSAGES * limits.MAX_CONTROL_FRAME_BYTES
    + limits.MAX_UNDELIVERED_BYTES
    + bounds.DATA_SEND_QUEUE_MESSAGES * 64 * KIB
)
"""What one member can make a daemon keep on its behalf: messages that it does not read
or that are not read yet, one without an end, and heads of streams: 28 MiB."""

FILES_PER_MEMBER = 8
OTHER_FILES = 64 + limits.MAX_LOCAL_CLIENTS + int(str(WEB_LIMITS["connection_limit"]))

THREADS = 32
"""The loop, three of ZeroMQ, look-ups of names, and those of the outlets."""

LOGS_BYTES = (
    (limits.KEPT_LOGS + 1) * limits.MAX_LOG_BYTES
    + 2 * limits.MAX_TRAINER_LOG_BYTES
    + 2 * limits.MAX_EVENTS_FILE_BYTES
)
"""What others can have a daemon write beside the facts: 52 MiB."""

FACT_BYTES = limits.MAX_RECORD_BYTES + limits.MAX_CHAIN_BYTES
FACTS_BYTES = limits.MAX_ROSTER * (
    2 * FACT_BYTES + limits.MAX_ACCUSERS * limits.MAX_STATEMENT_BYTES
)
"""... and the facts of the largest swarm, of which each has said its most: 91 MiB."""


def most_growth_bytes(others: int) -> int:
    """Resident memory beyond what a daemon has with so many other members in peace."""
    members = others * MEMBER_BYTES
    return STRANGERS_BYTES + BUFFERS_BYTES + CIRCUITS_BYTES + members


def most_files(others: int) -> int:
    """Open descriptors."""
    connections = 2 * limits.MAX_CONNECTIONS + limits.MAX_ACCEPTS_PER_POLL
    passages = 2 * bounds.MAX_CIRCUITS + others * bounds.MAX_STANDING_PER_PEER
    return connections + passages + others * FILES_PER_MEMBER + OTHER_FILES


@dataclass(frozen=True)
class Usage:
    """What a daemon takes at one moment."""

    memory_bytes: int
    files: int
    threads: int
    disk_bytes: int
    processor_s: float


def usage(daemon: Daemon) -> Usage:
    """Of the daemon alone, without its trainer."""
    process = psutil.Process(daemon.pid)
    with process.oneshot():
        times = process.cpu_times()
        return Usage(
            int(process.memory_info().rss),
            process.num_fds(),
            process.num_threads(),
            disk_bytes(daemon),
            times.user + times.system,
        )


def disk_bytes(daemon: Daemon) -> int:
    """All that is in a home."""
    found = 0
    for path in daemon.home.rglob("*"):
        with suppress(FileNotFoundError):  # a temporary file, in its place by now
            if path.is_file():
                found += path.stat().st_size
    return found


def most(one: Usage, other: Usage) -> Usage:
    """The larger of each."""
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return Usage(*(max(pair) for pair in pairs))
