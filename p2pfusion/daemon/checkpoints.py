"""Whole models that a peer keeps in its home: the last few, made now and then.

Made like an export, from the swarm, under a temporary name, synced, renamed; so one
under its own name was complete. Whether it still is, its checksum says. Older ones go
only after a newer one is there.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfusion.daemon.health import Trouble
from p2pfusion.errors import DiskFullError, P2PFusionError, VerificationError
from p2pfusion.protocol.events import Report
from p2pfusion.store.checksum import read_header, verify
from p2pfusion.store.companion import companion_path

if TYPE_CHECKING:
    from p2pfusion.daemon.exports import Asker
    from p2pfusion.daemon.node import Node

SUFFIX = ".safetensors"
OURS = "round-"
"""How the names begin of those that are made here; others are never removed."""
TROUBLE = "checkpoint"

Data = dict[str, object]

log = logging.getLogger("p2pfusion")


class Checkpoints:
    """Makes checkpoints of one home, and forgets old ones."""

    def __init__(self, node: Node, directory: Path) -> None:
        """``directory``: where they go unless the profile says something else."""
        stated = node.profile.peer.checkpoint_directory
        self._node = node
        self._directory = Path(stated) if stated else directory
        self._is_due = False

    def report(self, report: Report) -> None:
        """A round was sealed, or the last one: the time may have come for another."""
        every = self._node.profile.peer.checkpoint_every
        if not every or report.kind not in ("round-sealed", "done"):
            return
        number = report.details.get("round")
        is_due = isinstance(number, int) and (number + 1) % every == 0
        self._is_due |= report.kind == "done" or is_due
        self.check()

    def check(self) -> None:
        """Makes one that is due, as soon as no other export is under way; what has
        become due meanwhile is one of the newest round."""
        if not self._is_due or self._node.commands.exports.is_busy:
            return
        self._is_due = False
        asker = _Nobody(self._node)
        try:
            self.create(asker)
        except P2PFusionError as error:
            asker.fail(error)

    def create(self, asker: Asker) -> None:
        """Assembles the whole model from the swarm into the next checkpoint."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"cannot write {self._directory}: {error.strerror}"
            raise DiskFullError(text) from None
        number = max(0, self._node.peer.gossip.round_index)
        path = self._directory / f"{OURS}{number:06}{SUFFIX}"
        self._node.commands.exports.start(_Keeping(asker, self), path)

    def forget_old(self) -> None:
        """Removes all but the newest few."""
        kept = self._node.profile.peer.checkpoints_kept
        for path in _files(self._directory, f"{OURS}*{SUFFIX}")[kept:]:
            with contextlib.suppress(OSError):
                companion_path(path).unlink(missing_ok=True)
                path.unlink()


class _Keeping:
    """Whoever asked for a checkpoint: older ones go before the answer."""

    def __init__(self, asker: Asker, checkpoints: Checkpoints) -> None:
        self._asker = asker
        self._checkpoints = checkpoints

    def progress(self, event: Mapping[str, object]) -> None:
        self._asker.progress(event)

    def reply(self, data: object) -> None:
        self._checkpoints.forget_old()
        self._asker.reply(data)

    def fail(self, error: P2PFusionError) -> None:
        self._asker.fail(error)


class _Nobody:
    """Asks for a checkpoint because it is time for one."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def progress(self, event: Mapping[str, object]) -> None:
        """Nobody looks."""

    def reply(self, data: object) -> None:
        self._node.troubles.pop(TROUBLE, None)
        log.info("checkpoint written: %s", data)

    def fail(self, error: P2PFusionError) -> None:
        text = f"the last checkpoint could not be made: {error.message}"
        hint = error.hint or "the next one is tried when it is due"
        self._node.troubles[TROUBLE] = Trouble("warn", text, hint)
        log.warning("%s", text)


def listed(directory: Path, *, verified: bool) -> list[Data]:
    """The checkpoints in a directory, newest first; ``verified``: read each whole."""
    return [_row(path, verified) for path in _files(directory)]


def _files(directory: Path, pattern: str = f"*{SUFFIX}") -> list[Path]:
    """Newest first. What was not finished has another name."""
    found = [p for p in directory.glob(pattern) if not p.name.startswith(".")]
    return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))[::-1]


def _row(path: Path, verified: bool) -> Data:
    found = path.stat()
    number: int | None = None
    with contextlib.suppress(VerificationError, ValueError):
        number = int(read_header(path).get("p2pfusion_round", "?"))
    when = datetime.fromtimestamp(int(found.st_mtime), UTC)
    return {
        "id": path.name.removesuffix(SUFFIX),
        "round": number,
        "bytes": found.st_size,
        "when": when.isoformat().replace("+00:00", "Z"),
        "verified": verify(path) if verified else None,
        "path": str(path),
    }
