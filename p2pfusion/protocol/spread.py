"""How news of membership travels.

Up to ``MAX_FLOODED`` members everybody tells everybody else once; in larger swarms
each tells a few, picked by hashing. Whoever is missed learns it by comparing: probes
carry a digest of all facts, and two peers that differ exchange digests of the parts,
then the parts that differ. The facts merge by union: no message needs an answer, an
order or a single delivery.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pfusion.limits import FAN_OUT, MAX_FLOODED
from p2pfusion.protocol.batches import in_frames
from p2pfusion.protocol.events import Effect, SaveFacts, Send
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.messages import Digests, Facts
from p2pfusion.protocol.picking import pick

EXCHANGE_PAUSE_S = 1.0
"""Between two comparisons with one peer; in a large swarm between any two."""

SAVE_PAUSE_S = 1.0
"""News of others is saved so often at most: whatever is lost comes again."""

BUCKET_BYTES = 8
"""Of each part's digest so much travels."""

LONG_AGO = float("-inf")


class Spread:
    """Everybody's facts at one peer, and what it tells others of them."""

    def __init__(self, me: str, facts: FactSet) -> None:
        self.me = me
        self.facts = facts
        self._others: list[str] = []
        self._known: frozenset[str] = frozenset()
        self._members: list[str] = []
        """The list of all who were not put out, from which the two above were made."""
        self._told = 0
        self._asked_at: dict[str, float] = {}
        self._asked_any_at = LONG_AGO
        self._answered_at: dict[str, float] = {}
        self._save_at: float | None = None
        self._saved_at = LONG_AGO

    # --- Who -------------------------------------------------------------------------

    def others(self) -> list[str]:
        """Every other member's id, sorted."""
        if self.facts.present is not self._members:
            self._look()
        return self._others

    def is_member(self, peer: str) -> bool:
        """Whether a peer belongs to the swarm, and was not put out."""
        if self.facts.present is not self._members:
            self._look()
        return peer in self._known

    def _look(self) -> None:
        self._members = self.facts.present
        self._others = [peer for peer in self._members if peer != self.me]
        self._known = frozenset(self._members)

    @property
    def is_large(self) -> bool:
        """Whether not everybody can tell everybody."""
        return len(self.facts.records) > MAX_FLOODED

    def told(self, *, but: str = "") -> Sequence[str]:
        """Whom this peer tells a piece of news."""
        others = self.others()
        if not self.is_large:
            return [peer for peer in others if peer != but]
        self._told += 1
        salt = f"{self.me} {self._told}"
        return [peer for peer in pick(others, FAN_OUT, salt) if peer != but]

    def tell(self, news: Facts, *, but: str = "") -> list[Effect]:
        """The news to those whom this peer tells."""
        effects: list[Effect] = []
        for message in in_frames(news):
            effects += [Send(peer, message) for peer in self.told(but=but)]
        return effects

    # --- Comparing -------------------------------------------------------------------

    def digests(self, *, is_answer: bool = False) -> Digests:
        """What our facts hash to, part by part."""
        return Digests(b"".join(self.facts.buckets()), is_answer)

    def compare(self, peer: str, now: float) -> list[Effect]:
        """Asks a peer whose facts differ to compare; not too often."""
        last = self._asked_any_at if self.is_large else LONG_AGO
        last = max(last, self._asked_at.get(peer, LONG_AGO))
        if now - last < EXCHANGE_PAUSE_S:
            return []
        self._asked_at[peer] = self._asked_any_at = now
        return [Send(peer, self.digests())]

    def compared(self, peer: str, theirs: Digests, now: float) -> list[Effect]:
        """A peer's digests: it gets what differs and, unless it answers, ours."""
        if not theirs.is_answer:
            if now - self._answered_at.get(peer, LONG_AGO) < EXCHANGE_PAUSE_S:
                return []
            self._answered_at[peer] = now
        differing = [
            index
            for index, bucket in enumerate(self.facts.buckets())
            if not theirs.buckets.startswith(bucket, index * BUCKET_BYTES)
        ]
        if not differing:
            return []
        effects: list[Effect] = [
            Send(peer, message)
            for message in in_frames(self.facts.in_buckets(differing))
        ]
        if not theirs.is_answer:
            effects.append(Send(peer, self.digests(is_answer=True)))
        return effects

    # --- Keeping ---------------------------------------------------------------------

    def saved(self, now: float | None = None) -> SaveFacts:
        """All facts, for the next start."""
        self._save_at = None
        if now is not None:
            self._saved_at = now
        return SaveFacts(tuple(self.facts.messages()))

    def learned(self, now: float) -> None:
        """There is news of others to be saved, at the next occasion."""
        if self._save_at is None:
            self._save_at = max(now, self._saved_at + SAVE_PAUSE_S)

    def save_due(self, now: float) -> list[Effect]:
        """Saves what was learned, if it is time."""
        if self._save_at is None or now < self._save_at:
            return []
        return [self.saved(now)]

    @property
    def deadline(self) -> float:
        """When there is something to save."""
        return float("inf") if self._save_at is None else self._save_at
