"""How news of membership travels.

Up to ``MAX_FLOODED`` members everybody tells everybody else once; in larger swarms
``rumours.py`` has it. Whoever is missed learns it by comparing: probes carry a digest
of all facts; of two peers that differ one sends digests of the parts, the other one the
names of its facts in the parts that differ. Then the first one knows what either lacks.
The facts merge by union: nothing needs an order or a single delivery.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pfusion.limits import DIGEST_BUCKETS, FAN_OUT, MAX_FLOODED
from p2pfusion.protocol.batches import in_frames
from p2pfusion.protocol.events import Effect, SaveFacts, Send
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.messages import Digests, Facts, Known, Wanted
from p2pfusion.protocol.picking import pick
from p2pfusion.protocol.rumours import Rumours, listing, marked, packed, unpacked
from p2pfusion.protocol.timing import DEFAULT_TIMING, LONG_AGO, NEVER_S

EXCHANGE_PAUSE_S = 1.0
"""Between two comparisons with one peer."""

CALM_INTERVALS = 0.6
"""In a large swarm two compare their facts when these have differed, and nothing new
was heard, for so much of a probe's interval: news that is on its way would be asked for
twice."""

PATIENCE_INTERVALS = 2.0
"""... and after so much of one at the latest."""

SAVE_PAUSE_S = 1.0
"""News of others is saved so often at most: whatever is lost comes again. In a large
swarm, where each time more is written, accordingly less often."""

BUCKET_BYTES = 8
"""Of each part's digest so much travels."""


class Spread:
    """Everybody's facts at one peer, and what it tells others of them."""

    def __init__(self, me: str, facts: FactSet) -> None:
        self.me = me
        self.facts = facts
        self.timing = DEFAULT_TIMING
        self.rumours = Rumours()
        self._others: list[str] = []
        self._members: list[str] = []
        """The list of all who were not put out, from which the one above was made."""
        self._told = 0
        self._asked_at: dict[str, float] = {}
        self._asked_of: dict[str, set[int]] = {}
        """Parts of which a peer may send us its list, once."""
        self._answered_at: dict[str, float] = {}
        self._asked_any_at = LONG_AGO
        self._differs_since: dict[str, float] = {}
        self.save_at = NEVER_S
        """When there is something to save."""
        self._saved_at = LONG_AGO

    # --- Who -------------------------------------------------------------------------

    def others(self) -> list[str]:
        """Every other member's id, sorted."""
        if self.facts.present is not self._members:
            self._members = self.facts.present
            self._others = [peer for peer in self._members if peer != self.me]
        return self._others

    def is_member(self, peer: str) -> bool:
        """Whether a peer belongs to the swarm, and was not put out."""
        facts = self.facts
        if facts.revocations and peer in facts.revoked:
            return False
        return peer in facts.records

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

    def tell(
        self, news: Facts, *, but: str = "", now: float | None = None
    ) -> list[Effect]:
        """What the last merging has brought, to those whom this peer tells."""
        self.rumours.learned(self.facts.added if self.is_large else (), now)
        if self.is_large:
            return []
        told = self.told(but=but)
        return [Send(peer, message) for message in in_frames(news) for peer in told]

    def tick(self, now: float) -> list[Effect]:
        """Tells and saves what it is time for."""
        effects = self.save_due(now)
        for message in self.rumours.due(self.facts, self.timing, now):
            effects += [self._show(peer, message) for peer in self.told()]
        return effects

    # --- Comparing -------------------------------------------------------------------

    def digests(self) -> Digests:
        """What our facts hash to, part by part."""
        return Digests(b"".join(self.facts.buckets()))

    def agreed(self, peer: str) -> None:
        """A peer has the very same facts."""
        self._differs_since.pop(peer, None)

    def compare(self, peer: str, now: float) -> list[Effect]:
        """Asks a peer whose facts differ to compare; not too often."""
        if now - self._asked_at.get(peer, LONG_AGO) < EXCHANGE_PAUSE_S:
            return []
        if self.is_large and not self._has_waited(peer, now):
            return []
        self._differs_since.pop(peer, None)
        self._asked_at[peer] = self._asked_any_at = now
        self._asked_of[peer] = set(range(DIGEST_BUCKETS))
        return [Send(peer, self.digests())]

    def _has_waited(self, peer: str, now: float) -> bool:
        """Whether a peer's facts differ although nothing new comes, or for long."""
        since = self._differs_since.setdefault(peer, now)
        interval_s = self.timing.interval_s
        calm_s = max(EXCHANGE_PAUSE_S, CALM_INTERVALS * interval_s)
        is_calm = now - self.rumours.heard_at >= calm_s
        wait_s = calm_s if is_calm else PATIENCE_INTERVALS * interval_s
        return now - max(since, self._asked_any_at) >= wait_s

    def compared(self, peer: str, theirs: Digests, now: float) -> list[Effect]:
        """A peer's digests: it gets the names of our facts where they differ."""
        if now - self._answered_at.get(peer, LONG_AGO) < EXCHANGE_PAUSE_S:
            return []
        self._answered_at[peer] = now
        differing = [
            index
            for index, bucket in enumerate(self.facts.buckets())
            if not theirs.buckets.startswith(bucket, index * BUCKET_BYTES)
        ]
        lists = listing(self.facts, differing)
        return [self._show(peer, message) for message in lists]

    def _show(self, peer: str, message: Known) -> Send:
        self.rumours.shown(peer)
        return Send(peer, message)

    def known(self, peer: str, theirs: Known, now: float) -> list[Effect]:
        """A peer has these facts: it gets what it lacks, and is asked for the rest."""
        names = unpacked(theirs.ids)
        open_parts = self._asked_of.get(peer, set())
        answered = open_parts.intersection(marked(theirs.parts))
        open_parts -= answered
        lacking = self.facts.besides(sorted(answered), set(names))
        effects: list[Effect] = [Send(peer, facts) for facts in in_frames(lacking)]
        wanted = self.rumours.wanted(names, self.facts, self.timing, now)
        return effects + [Send(peer, Wanted(some)) for some in packed(wanted)]

    def wanted(self, peer: str, theirs: Wanted) -> list[Effect]:
        """A peer asks for facts that it was told of."""
        if not self.rumours.may_ask(peer):
            return []
        facts = self.facts.named(dict.fromkeys(unpacked(theirs.ids)))
        return [Send(peer, message) for message in in_frames(facts)]

    # --- Keeping ---------------------------------------------------------------------

    def saved(self, now: float | None = None) -> SaveFacts:
        """All facts, for the next start."""
        self.save_at = NEVER_S
        if now is not None:
            self._saved_at = now
        return SaveFacts(tuple(self.facts.messages()))

    def learned(self, now: float) -> None:
        """There is news of others to be saved, at the next occasion."""
        if self.save_at == NEVER_S:
            larger = max(1.0, len(self.facts.records) / MAX_FLOODED)
            self.save_at = max(now, self._saved_at + larger * SAVE_PAUSE_S)

    def save_due(self, now: float) -> list[Effect]:
        """Saves what was learned, if it is time."""
        return [] if now < self.save_at else [self.saved(now)]
