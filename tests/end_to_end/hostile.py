"""A member that is the program itself, but for one part of it, which lies.

    python -m tests.end_to_end.hostile LIE start PROFILE --join TICKET

It is honest in the first rounds, so that the others have begun to rely on it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfusion.cli import main as program
from p2pfusion.daemon.payloads import Payloads
from p2pfusion.daemon.sinks import Floats
from p2pfusion.protocol.events import Effect, Send, StreamKey
from p2pfusion.protocol.messages import Offer
from p2pfusion.protocol.offering import NO_PROOFS, Offering
from p2pfusion.protocol.stream import stream_segments
from p2pfusion.simulation.attacks import ATTACKS
from p2pfusion.split.plan import Hop
from p2pfusion.split.segment import Split

FIRST_LIE = 2
"""The round in which it begins."""


def _lies_in(stream: StreamKey) -> bool:
    return stream.hop == Hop.CONTRIBUTION and stream.round_index >= FIRST_LIE


def _contribute(change: Callable[[Floats], Floats]) -> None:
    """Every contribution is changed, before its offer says what it is."""
    honest = Payloads.contribution

    def lying(self: Payloads, stream: StreamKey) -> tuple[memoryview, bytes]:
        buffer, absent = honest(self, stream)
        if not _lies_in(stream):
            return buffer, absent
        values = change(np.frombuffer(buffer, np.float32))
        return values.view(np.uint8).data, absent

    Payloads.contribution = lying  # type: ignore[method-assign]


def not_finite() -> None:
    """One value of every contribution is no number; its offer says so, too."""

    def change(values: Floats) -> Floats:
        changed = values.copy()
        changed[changed.size // 2] = np.nan
        return changed

    _contribute(change)


def turned() -> None:
    """Every change is sent with another sign, as its offer says."""
    _contribute(np.negative)


def too_long() -> None:
    """Every contribution is of one value more than the plan has coordinates for."""
    honest = Payloads.start

    def lying(
        self: Payloads, peer: str, pull: int, stream: StreamKey
    ) -> tuple[int, bytes]:
        size, absent = honest(self, peer, pull, stream)
        return size + 4 * _lies_in(stream), absent

    Payloads.start = lying  # type: ignore[method-assign]


def unlike_its_offer() -> None:
    """What it sends is, with another sign, what its offer has promised."""
    honest = Payloads.start

    def lying(
        self: Payloads, peer: str, pull: int, stream: StreamKey
    ) -> tuple[int, bytes]:
        told = honest(self, peer, pull, stream)
        if _lies_in(stream):
            values = -np.frombuffer(self._served[peer, pull], np.float32)
            self._served[peer, pull] = values.view(np.uint8).data
        return told

    Payloads.start = lying  # type: ignore[method-assign]


def two_offers() -> None:
    """It tells every other peer something else of what it offers."""
    honest = Offering.announce

    def lying(
        self: Offering, offer: Offer, proofs: Mapping[str, bytes] = NO_PROOFS
    ) -> list[Effect]:
        told: list[Effect] = []
        for number, peer in enumerate(self._gossip.others()):
            lie = number if offer.round_index >= FIRST_LIE else 0
            changed = replace(offer, norm=offer.norm + lie)
            effects = honest(self, changed, proofs)
            told += [e for e in effects if isinstance(e, Send) and e.peer == peer]
        return told

    Offering.announce = lying  # type: ignore[method-assign]


def repeating() -> None:
    """What it offered last before it began, it offers in place of all that it trains;
    it holds the same in every round."""
    honest, last = Payloads.offered, list[bytes]()

    def lying(
        self: Payloads,
        round_index: int,
        path: Path,
        split: Split,
        since: Path | None = None,
    ) -> None:
        if round_index < FIRST_LIE:
            last[:] = [path.read_bytes()]
        elif last:
            path.write_bytes(last[0])
        honest(self, round_index, path, split, since)

    Payloads.offered = lying  # type: ignore[method-assign]


def reducing() -> None:
    """It trains honestly, and turns around, tenfold, what it has fused of others."""
    honest, turn = Payloads.fused, ATTACKS["reducer"].fused
    assert turn is not None

    def lying(self: Payloads, stream: StreamKey) -> tuple[Floats, NDArray[np.bool_]]:
        values, absent = honest(self, stream)
        if stream.round_index < FIRST_LIE:
            return values, absent
        plan = self._rounds[stream.round_index].plan
        old = self.store.read_flat(stream_segments(plan, stream))
        return turn(old, values), absent

    Payloads.fused = lying  # type: ignore[method-assign]


LIES: dict[str, Callable[[], None]] = {
    "not-finite": not_finite,
    "turned": turned,
    "too-long": too_long,
    "unlike-its-offer": unlike_its_offer,
    "two-offers": two_offers,
    "reducing": reducing,
    "repeating": repeating,
}

if __name__ == "__main__":
    LIES[sys.argv[1]]()
    sys.exit(program.main(sys.argv[2:]))
