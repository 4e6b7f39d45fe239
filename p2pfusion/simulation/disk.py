"""What is left of a machine's files when its process or its power goes.

A file is replaced as a whole: written under another name, synced, renamed, as
``daemon/state.py`` does it. The daemon waits for that, so a file's content is durable
before anything else happens, unless the end comes in between: then there is the old
content or the new one, and never a mixture. The versions of the store's cells are
synced one by one, so some may be old and some new.
"""

from __future__ import annotations

import random
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from p2pfusion.protocol.admission import Invite
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import Facts
from p2pfusion.protocol.offences import Charge
from p2pfusion.protocol.timing import LONG_AGO
from p2pfusion.protocol.values import value
from p2pfusion.split.homes import Homes

Content = TypeVar("Content")
Versions = NDArray[np.int32]

SYNC_S = (0.001, 0.01)
"""An fsync takes between so much and so much: from a fast to a plain disk."""

KEPT_WRITES = 8
"""Newest writes of a file that are remembered: those of one event, generously."""


@value
class Write(Generic[Content]):
    """A content, and from when to when it was being written, in virtual seconds."""

    begun_at: float
    durable_at: float
    content: Content


class File(Generic[Content]):
    """One file."""

    def __init__(self, content: Content) -> None:
        self._writes = [Write(LONG_AGO, LONG_AGO, content)]

    @property
    def content(self) -> Content:
        """What a process reads."""
        return self._writes[-1].content

    def write(self, content: Content, begun_at: float, durable_at: float) -> None:
        """Replaces the content; durable only at the second instant."""
        self._writes.append(Write(begun_at, durable_at, content))
        del self._writes[:-KEPT_WRITES]

    def as_of(self, at: float) -> tuple[Content, Content | None]:
        """What was durable at an instant, and what was being written."""
        durable = [w.content for w in self._writes if w.durable_at <= at]
        begun = [w.content for w in self._writes if w.begun_at <= at < w.durable_at]
        return durable[-1], begun[-1] if begun else None

    def crash(self, at: float, *, keeps: bool) -> None:
        """The end comes; ``keeps`` says what becomes of a write that is under way."""
        durable, writing = self.as_of(at)
        content = writing if writing is not None and keeps else durable
        self._writes = [Write(LONG_AGO, LONG_AGO, content)]


@value
class Progress:
    """The first round that was not sealed, and its table of homes."""

    next_round: int
    homes: Homes


@value
class Cells:
    """A version for every cell of the model's grids, one signature after the other."""

    claimed: Versions
    """As the store's files say it."""
    content: Versions
    """Of the values that are really there."""

    @classmethod
    def empty(cls, count: int) -> Cells:
        """Nothing was ever stored."""
        return cls(np.zeros(count, np.int32), np.zeros(count, np.int32))

    def copy(self) -> Cells:
        """The same, to be changed."""
        return Cells(self.claimed.copy(), self.content.copy())


class Disk:
    """The files of one peer. Nothing but what is here survives a crash."""

    def __init__(self, chance: random.Random, cell_count: int) -> None:
        self._chance = chance
        self.sync_s = SYNC_S
        self.loss = 0.5
        """How probably a write that is under way at a crash is lost."""
        self.incarnation = 0
        self.manifest: File[Manifest | None] = File(None)
        self.facts: File[tuple[Facts, ...]] = File(())
        self.invites: File[tuple[Invite, ...]] = File(())
        self.offences: File[tuple[Charge, ...]] = File(())
        self.progress: File[Progress | None] = File(None)
        self.cells = File(Cells.empty(cell_count))

    def next_incarnation(self) -> int:
        """One more than ever before; durable before it is used."""
        self.incarnation += 1
        return self.incarnation

    def syncing_s(self) -> float:
        """How long the next fsync takes, in seconds."""
        return self._chance.uniform(*self.sync_s)

    def crash(self, at: float) -> None:
        """The end comes at this instant."""
        self.manifest.crash(at, keeps=self._is_kept())
        self.facts.crash(at, keeps=self._is_kept())
        self.invites.crash(at, keeps=self._is_kept())
        self.offences.crash(at, keeps=self._is_kept())
        self.progress.crash(at, keeps=self._is_kept())
        old, new = self.cells.as_of(at)
        if new is not None:
            # Each entry is an aligned word, and all values were safe before.
            kept = np.array([self._is_kept() for _ in old.claimed], np.bool_)
            old = Cells(
                np.where(kept, new.claimed, old.claimed),
                np.where(kept, new.content, old.content),
            )
        self.cells = File(old)

    def _is_kept(self) -> bool:
        return self._chance.random() >= self.loss
