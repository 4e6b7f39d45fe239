"""Exports: the whole model, assembled from the swarm into one file.

The file begins as what the own store has seen, with initial values where nobody
trained; the streams of every other home are then written over it. It appears under its
name when all is there, or not at all, with a JSON file that says what it is. Checking
and syncing it is left to a thread: rounds go on. One export at a time.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from p2pfusion.daemon import answers
from p2pfusion.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    P2PFusionError,
    ResourceError,
)
from p2pfusion.protocol.events import Assembled, ExportRequested
from p2pfusion.split.homes import Homes
from p2pfusion.split.keeping import Cells
from p2pfusion.split.restoring import Versions
from p2pfusion.store import CheckpointWriter, copy_model, write_checkpoint
from p2pfusion.store.behind import Behind
from p2pfusion.store.beside import beside_path, read_beside
from p2pfusion.store.companion import companion_path, write_companion

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

LOOK_S = 0.05
"""How often it is looked whether a finished file is on disk."""

ATTEMPTS = 5
"""A round that ends while its ranges are on their way makes an export start again."""

PROGRESS_INTERVAL_S = 0.5
"""Between two words to whoever waits: a person reads no faster."""


class Asker(Protocol):
    """Who asked for an export, and is told once what came of it."""

    def progress(self, event: Mapping[str, object]) -> None:
        """How far it is."""

    def reply(self, data: object) -> None:
        """It is there."""

    def fail(self, error: P2PFusionError) -> None:
        """It is not."""


@dataclass
class Export:
    """The whole model on its way into a file."""

    request: Asker
    path: Path
    number: int
    writer: CheckpointWriter
    closing: ExitStack
    versions: Versions
    """Of what this peer had when it began with that."""
    received_before: int
    attempts: int = 1
    told_at: float = 0.0


class Exports:
    """The export that is under way, if any."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._export: Export | None = None
        self._closing: tuple[Export, dict[str, object]] | None = None
        self._behind = Behind()
        self._begun = 0

    @property
    def writer(self) -> CheckpointWriter | None:
        """Where the streams of an export go."""
        return self._export.writer if self._export else None

    @property
    def is_busy(self) -> bool:
        """Whether one is under way."""
        return self._export is not None or self._closing is not None

    def start(self, request: Asker, path: Path) -> None:
        """Begins with what this peer has, and asks the others for the rest."""
        payloads, manifest = self._node.payloads, self._node.peer.manifest
        if payloads is None or manifest is None:
            raise NotFoundError("this peer has no swarm yet, hence no model")
        if self.is_busy:
            raise ConflictError("an export is under way already", hint="wait for it")
        with _disk_errors(path), ExitStack() as closing:
            _check_place(path)
            round_ = self._node.peer.round
            metadata = answers.export_metadata(manifest, round_.number if round_ else 0)
            beside = read_beside(beside_path(self._node.state.store))
            writer = closing.enter_context(
                write_checkpoint(path, manifest.layout, metadata, beside)
            )
            versions = payloads.store.all_versions()
            copy_model(payloads.store, writer)
            kept = closing.pop_all()
        received = self._received_bytes()
        self._export = Export(request, path, 0, writer, kept, versions, received)
        self._ask(self._export)

    def _ask(self, export: Export) -> None:
        self._begun += 1
        export.number = self._begun
        lacks, round_ = Cells(), self._node.peer.round
        if round_ is not None:
            pairs = zip(export.versions, round_.plan.homes.version, strict=True)
            lacks = tuple(own < newest for own, newest in pairs)
        self._node.handle(ExportRequested(export.number, lacks))

    def _received_bytes(self) -> int:
        return self._node.transport.traffic.received_bytes()

    def deadline(self) -> float:
        """When to look again."""
        return self._node.now() + LOOK_S if self._closing else math.inf

    def check(self, now: float) -> None:
        """Tells whoever waits how far it is, and that it is done."""
        if self._closing is not None:
            self._look()
        self._tell_progress(now)

    def _tell_progress(self, now: float) -> None:
        """Says now and then how much has come, and how much there is."""
        export = self._export
        if export is None or now < export.told_at + PROGRESS_INTERVAL_S:
            return
        export.told_at = now
        done = self._received_bytes() - export.received_before
        total = done + self._node.peer.exchange.exports.left_bytes
        export.request.progress({"done_bytes": done, "total_bytes": total})

    def assembled(self, effect: Assembled) -> None:
        """All that could be had of the model is in the file."""
        export = self._export
        if export is None or export.number != effect.number:
            return
        if effect.missing and export.attempts < ATTEMPTS:
            export.attempts += 1
            self._ask(export)
            return
        self._export = None
        try:
            self._finish(export, effect.missing)
        except P2PFusionError as error:
            export.request.fail(error)

    def _finish(self, export: Export, missing: tuple[str, ...]) -> None:
        node = self._node
        if missing:
            names = ", ".join(node.name_of(peer) for peer in missing)
            error = ResourceError(
                f"the newest ranges that live at {names} could not be had",
                hint="try again when they are back; status shows who is online",
            )
            _drop(export, error)
            raise error
        manifest, round_ = node.peer.manifest, node.peer.round
        assert manifest is not None
        layout, number = manifest.layout, node.peer.gossip.round_index
        homes = round_.plan.homes if round_ else Homes.initial(layout)
        facts = answers.export_facts(manifest, number, homes)
        told: dict[str, object] = {
            "path": str(export.path),
            "manifest": str(companion_path(export.path)),
            "round": number,
            "parameters": layout.size,
            "ever_trained_fraction": facts["ever_trained_fraction"],
            "pulled_bytes": self._received_bytes() - export.received_before,
            "peers": len(answers.online(node)),
        }
        self._closing = (export, told)
        self._behind.begin(lambda: _close(export, facts))

    def _look(self) -> None:
        """Whether the file is there by now."""
        assert self._closing is not None
        export, told = self._closing
        try:
            self._behind.look()
        except P2PFusionError as error:
            self._closing = None
            export.request.fail(error)
            return
        if not self._behind.is_busy:
            self._closing = None
            size_bytes = export.path.stat().st_size
            export.request.reply({**told, "bytes": size_bytes})

    def abandon(self) -> None:
        """The daemon ends: an export that is under way leaves no file behind; one that
        has all it needs is finished."""
        if self._closing is not None:
            self._behind.join()
            self._look()
        export, self._export = self._export, None
        if export is not None:
            error = ResourceError(
                "the daemon was stopped before the model was complete",
                hint="start it again and repeat the export",
            )
            _drop(export, error)
            export.request.fail(error)


def _close(export: Export, facts: Mapping[str, object]) -> None:
    """The file gets its checksum and its name, and the other one is written."""
    with _disk_errors(export.path):
        with export.closing:
            companion_path(export.path).unlink(missing_ok=True)
        write_companion(export.path, facts)


def _drop(export: Export, error: ResourceError) -> None:
    """Removes the unfinished file; another that was there before stays."""
    with contextlib.suppress(ResourceError):
        export.closing.__exit__(ResourceError, error, None)


def _check_place(path: Path) -> None:
    if not path.is_absolute() or not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is no directory that this daemon can see")
    if path.is_dir():
        raise ConfigError(f"{path} is a directory: name a file in it")


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceError(
            f"cannot write {path}: {reason}", hint="choose another place"
        ) from None
