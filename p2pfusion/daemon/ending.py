"""How a daemon ends: at once, or after its round (*draining*), or with an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfusion.errors import P2PFusionError
from p2pfusion.protocol.events import Drain
from p2pfusion.protocol.standing import Standing

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

DRAIN_S = 10.0
"""How long a daemon that is asked politely may take to finish its round: less than
service managers wait before they kill."""

NOTHING_BEGUN = (Standing.NO_SWARM, Standing.WAITING)
"""Standings in which nobody has asked this peer for anything."""


class Ending:
    """Whether the loop is to end, when, and with what."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.is_now = False
        """The loop ends after this turn."""
        self.error: P2PFusionError | None = None
        """What makes going on pointless."""
        self.drains_until: float | None = None
        """While it drains: when it stops at the latest."""
        self._asked_s: float | None = None
        self._is_drained = False

    def stop(self) -> None:
        """Ends the loop after this turn."""
        self.is_now = True

    def fail(self, error: P2PFusionError) -> None:
        """Ends the loop after this turn with this error."""
        self.error = error
        self.stop()

    def ask(self, limit_s: float = DRAIN_S) -> None:
        """Asks politely; asked again, it stops at once. Safe in a signal handler."""
        if self._asked_s is None and limit_s > 0:
            self._asked_s = limit_s
        else:
            self.stop()

    def check(self) -> None:
        """Begins to drain if that was asked for, and stops when it took too long."""
        node = self._node
        if self._asked_s is not None and self.drains_until is None:
            self.drains_until = node.now() + self._asked_s
            if node.peer.standing in NOTHING_BEGUN:
                self.stop()
                return
            node.service.stopping()
            node.chronicle.note("draining", {"limit_s": f"{self._asked_s:g}"})
            node.handle(Drain())
        if self.drains_until is None:
            return
        is_known = node.history.measured_now is None
        has_left = self._is_drained and is_known and node.streams.outbox.is_empty
        if has_left or node.now() >= self.drains_until:
            self.stop()

    def reported(self, kind: str) -> None:
        """The protocol reported something: perhaps that nothing is left to do."""
        if kind == "drained":
            self._is_drained = True

    def deadline(self) -> float:
        """When ``check`` has something to do."""
        return float("inf") if self.drains_until is None else self.drains_until
