"""News in a large swarm: told by name to a few, and sent to whoever asks for it.

A record has hundreds of bytes and its name has eight, so everybody may hear a name some
times, and gets what it names once. News is collected for a moment and told together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from p2pfusion.limits import (
    DIGEST_BUCKETS,
    FACT_ID_BYTES,
    MAX_FACTS_ASKED_FOR,
    MAX_NAMED_FACTS,
    MAX_UNTOLD_FACTS,
)
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.messages import Known
from p2pfusion.protocol.timing import LONG_AGO, NEVER_S, Timing

TELLING_INTERVALS = 0.1
"""News is collected for so much of a probe's interval. Who says two things of itself in
a row, as newcomers do, is heard with the second only."""

PATIENCE_INTERVALS = 0.4
"""What was asked for and has not come after so much of one is asked for again."""

MAX_OPEN_ANSWERS = 16
"""Lists of names that one other peer was sent and has not asked from yet."""


class Rumours:
    """What one peer has to tell, was asked for and has asked for."""

    def __init__(self) -> None:
        self._fresh: dict[bytes, None] = {}
        self.tell_at = NEVER_S
        """When there is something to tell; the past, for news since the last look."""
        self._asked_at: dict[bytes, float] = {}
        self._shown: dict[str, int] = {}
        self.heard_at = LONG_AGO
        """When something new was last heard."""

    # --- Telling ---------------------------------------------------------------------

    def learned(self, names: Iterable[bytes], now: float | None) -> None:
        """Facts of these names are new here. ``now`` is None for the own ones: the time
        until they are told then counts from the next look."""
        for name in names:
            self._fresh[name] = None
            self._asked_at.pop(name, None)
        if self._fresh and self.tell_at == NEVER_S:
            self.tell_at = LONG_AGO
        while len(self._fresh) > MAX_UNTOLD_FACTS:
            del self._fresh[next(iter(self._fresh))]
        if now is not None:
            self.heard_at = now

    def due(self, facts: FactSet, timing: Timing, now: float) -> list[Known]:
        """What is to be told now."""
        if self.tell_at == LONG_AGO:
            self.tell_at = now + TELLING_INTERVALS * timing.interval_s
        if now < self.tell_at:
            return []
        names = [name for name in self._fresh if facts.has(name)]
        self._fresh.clear()
        self.tell_at = NEVER_S
        return [Known(b"", some) for some in packed(names)]

    # --- Asking and being asked ------------------------------------------------------

    def wanted(
        self, names: Iterable[bytes], facts: FactSet, timing: Timing, now: float
    ) -> list[bytes]:
        """What to ask somebody for who knows these: each fact of one peer at a time."""
        before = now - PATIENCE_INTERVALS * timing.interval_s
        asked_at, wanted = self._asked_at, list[bytes]()
        for name in names:
            if facts.knew(name) or asked_at.get(name, LONG_AGO) > before:
                continue
            if len(asked_at) >= MAX_FACTS_ASKED_FOR:
                self._give_up(before)
            if len(asked_at) >= MAX_FACTS_ASKED_FOR:
                break
            asked_at[name] = now
            wanted.append(name)
        return wanted

    def _give_up(self, before: float) -> None:
        """Forgets what was asked for long ago."""
        old = [name for name, at in self._asked_at.items() if at <= before]
        for name in old:
            del self._asked_at[name]

    def shown(self, peer: str) -> None:
        """A peer is told names, and may ask for what they name."""
        self._shown[peer] = min(self._shown.get(peer, 0) + 1, MAX_OPEN_ANSWERS)

    def may_ask(self, peer: str) -> bool:
        """Whether a peer may ask, once for each list of names that it was sent."""
        left = self._shown.get(peer, 0)
        if left:
            self._shown[peer] = left - 1
        return left > 0


def packed(names: Iterable[bytes]) -> Iterator[bytes]:
    """The names in pieces that a message may have."""
    joined, most = b"".join(names), MAX_NAMED_FACTS * FACT_ID_BYTES
    for start in range(0, len(joined), most):
        yield joined[start : start + most]


def unpacked(joined: bytes) -> list[bytes]:
    """The names in such a piece."""
    ends = range(0, len(joined), FACT_ID_BYTES)
    return [joined[start : start + FACT_ID_BYTES] for start in ends]


def listing(facts: FactSet, buckets: Iterable[int]) -> Iterator[Known]:
    """All that is known in some buckets, in messages of whole buckets.

    One that is too full for a message is told as news is, so the other side gets all of
    it, and sends what is lacking here when it is asked for its own list.
    """
    parts, names = 0, list[bytes]()
    for at in buckets:
        here = facts.names(at)
        if len(here) > MAX_NAMED_FACTS:
            yield from (Known(b"", some) for some in packed(here))
            continue
        if len(names) + len(here) > MAX_NAMED_FACTS:
            yield Known(_bits(parts), b"".join(names))
            parts, names = 0, []
        parts |= 1 << at
        names += here
    if parts:
        yield Known(_bits(parts), b"".join(names))


def _bits(parts: int) -> bytes:
    return parts.to_bytes(DIGEST_BUCKETS // 8, "big")


def marked(parts: bytes) -> list[int]:
    """The buckets that are marked in a list of names."""
    bits = int.from_bytes(parts, "big")
    return [at for at in range(DIGEST_BUCKETS) if bits >> at & 1]
