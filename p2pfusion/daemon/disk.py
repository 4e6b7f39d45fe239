"""Everything that this peer keeps while it runs, and what to do when the disk is full.

A file that cannot be written keeps its old, valid content; what should have replaced it
waits here, newest first tried again every few seconds and whenever a round begins.
Values that could not be stored count as never arrived. As long as anything waits, or
there is no room for the next round's values, this peer trains nothing and says so, so
that nobody waits for it; it serves what it has. It leaves that state by itself.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfusion.daemon.health import Trouble
from p2pfusion.errors import DiskFullError
from p2pfusion.protocol import events
from p2pfusion.split.segment import Split
from p2pfusion.store.behind import Behind
from p2pfusion.store.files import FLOAT_BYTES

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

TROUBLE = "disk-full"
COPIES = 4
"""A round needs room for its split four times: offer, two journals that take turns, and
its own place."""

DISK_RETRY_S = 5.0
"""Between two tries to write what a full disk has refused."""

DISK_SPARE_BYTES = 1 << 20
"""Room for the small files of a round (facts, progress, versions) beside its values."""

NEVER = float("inf")

log = logging.getLogger("p2pfusion")

Write = Callable[[], None]


class Disk:
    """What is written, and what waits to be."""

    def __init__(self, node: Node, directory: Path) -> None:
        self._node = node
        self._directory = directory
        self._waiting: dict[str, Write] = {}
        self._later: list[Write] = []
        self._needed_bytes = 0
        self._retry_at = NEVER
        self._behind = Behind()
        self._sealing: Write = lambda: None
        """What writes the last round that was sealed."""

    @property
    def is_full(self) -> bool:
        """Whether something could not be written, or cannot be."""
        return self._retry_at < NEVER

    def deadline(self) -> float:
        """When to try again."""
        return self._retry_at

    # --- What is kept ----------------------------------------------------------------

    def save_facts(self, effect: events.SaveFacts) -> None:
        """The membership facts have changed.

        Without a store this peer begins anew when it is started again: it keeps none.
        """
        if self._node.payloads is not None:
            self._keep("facts", lambda: self._node.state.save_facts(effect.facts))

    def save_offences(self, effect: events.SaveOffences) -> None:
        """Somebody was caught at something, or was pardoned."""
        if self._node.payloads is not None:
            self._keep(
                "offences", lambda: self._node.state.save_offences(effect.charges)
            )

    def save_invites(self, effect: events.SaveInvites) -> None:
        """The invitations have changed."""
        self._keep("invitations", lambda: self._node.entrance.keep(effect.invites))

    def seal(self, effect: events.Seal) -> None:
        """A round is done: its values first, then the progress that speaks of them.

        Nobody waits for the latter: a crash before it is there does a round again that
        was sealed already, as one between the two always did.
        """

        def save() -> None:
            self._node.state.save_progress(effect.next_round, effect.homes)

        def write() -> None:
            assert self._node.payloads is not None
            self._node.payloads.store.flush()
            self._behind.begin(save)
            if self.is_full:
                self._behind.wait()

        self._sealing = write
        assert self._node.payloads is not None
        with self.refusing():
            self._node.payloads.conclude(effect.next_round - 1)
        self._keep("progress", write)

    def settle(self) -> None:
        """The end: waits for the progress of the last round."""
        with self.refusing(small=True):
            self._behind.wait()

    def place(self) -> None:
        """Values that came after the last round was sealed."""
        payloads = self._node.payloads
        assert payloads is not None
        self._keep("values", payloads.store.flush)

    def _keep(self, what: str, write: Write) -> None:
        self._waiting.pop(what, None)
        self._waiting[what] = write
        with self.refusing(small=True):
            write()
            del self._waiting[what]

    @contextlib.contextmanager
    def refusing(self, *, small: bool = False) -> Iterator[None]:
        """What is written inside may find the disk full: then it was not written.

        Values of a round, or something ``small``.
        """
        try:
            yield
        except DiskFullError as error:
            self.fill(error.message, 0 if small else self._round_bytes())

    def when_there_is_room(self, action: Write) -> None:
        """Does this as soon as the disk is not full."""
        self._later.append(action)
        if not self.is_full:
            self._do_later()

    def _do_later(self) -> None:
        actions, self._later = self._later, []
        for action in actions:
            action()

    def _round_bytes(self) -> int:
        peer = self._node.peer
        split = peer.round.splits.get(peer.gossip.me) if peer.round else None
        if split is None or peer.manifest is None:
            return 0
        return COPIES * split.size(peer.manifest.layout) * FLOAT_BYTES

    # --- Full ------------------------------------------------------------------------

    def fill(self, why: str, size_bytes: int) -> None:
        """There was no room for so much."""
        if not self.is_full:
            log.error("disk full: %s", why)
        self._needed_bytes = max(self._needed_bytes, size_bytes)
        self._retry_at = self._node.now() + DISK_RETRY_S
        text = f"{self.reason()}; this peer serves what it has and trains nothing"
        hint = "free some space: it goes on by itself"
        self._node.troubles[TROUBLE] = Trouble("error", text, hint)

    def reason(self) -> str:
        """Why nothing is trained, with how much is lacking."""
        needed, free = self._needed_bytes + DISK_SPARE_BYTES, self._free_bytes()
        return (
            f"disk full: {_mib(needed)} needed and {_mib(free)} free for "
            f"{self._directory}"
        )

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._directory).free

    def has_room(self, split: Split) -> bool:
        """Whether a round of this split can be trained and stored."""
        assert self._node.payloads is not None
        size_bytes = split.size(self._node.payloads.store.layout) * FLOAT_BYTES
        if not self.is_full and self._free_bytes() < size_bytes + DISK_SPARE_BYTES:
            self.fill("no room for an offer", COPIES * size_bytes)
        return not self.is_full

    def offer_refused(self, why: str) -> None:
        """The trainer found no room for what it trained."""
        self.fill(why, self._round_bytes())

    def check(self, now: float) -> None:
        """Tries again, if it is time to; notices if the progress found no room."""
        if self._behind.is_busy:
            self._look()
        if now >= self._retry_at:
            self.retry()

    def _look(self) -> None:
        with self.refusing(small=True):
            try:
                self._behind.look()
            except DiskFullError:
                self._waiting["progress"] = self._sealing
                raise

    def retry(self) -> None:
        """Tries to write what waits; nothing if the disk is not full."""
        if not self.is_full:
            return
        for what, write in list(self._waiting.items()):
            self._keep(what, write)
        lacking = self._free_bytes() < self._needed_bytes + DISK_SPARE_BYTES
        if self._waiting or lacking:
            self.fill("still", 0)
            return
        self._needed_bytes, self._retry_at = 0, NEVER
        self._node.troubles.pop(TROUBLE, None)
        log.info("there is room on the disk again")
        self._do_later()


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB"
