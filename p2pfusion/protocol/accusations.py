"""What members say of each other when they hear nothing: one word each about each.

Of two accusations by one member of one other, that of the newer record counts, then
the one from the earlier epoch. Those that a record has answered are kept, too: which
they are depends on records that may still come. Of the accusers of one member, those
nearest to it on the circle are kept, because its observers are among them; so there is
a bound, and it is the same whatever came first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from p2pfusion.limits import MAX_ACCUSERS
from p2pfusion.protocol.evidence import FOR_GOOD
from p2pfusion.protocol.messages import PeerRecord, Signed
from p2pfusion.protocol.observers import distance, place
from p2pfusion.protocol.renewal import refutes
from p2pfusion.protocol.statements import AccusationFact
from p2pfusion.protocol.tally import Tally

KIND = "accusation"


@dataclass(frozen=True)
class Accusation:
    """An accusation, read and checked."""

    fact: AccusationFact
    signed: Signed

    @property
    def order(self) -> tuple[object, ...]:
        """Of two by one peer about one peer the larger counts. Only equal bytes are
        equal."""
        fact, signed = self.fact, self.signed
        return (fact.age, -fact.epoch, signed.payload, signed.signature)


class Accusations:
    """All that are known, by the accused and by the accuser."""

    def __init__(self, swarm: str, tally: Tally) -> None:
        self._swarm = swarm
        self._tally = tally
        self._known: set[Signed] = set()
        self.about: dict[str, dict[str, Accusation]] = {}

    def knows(self, signed: Signed) -> bool:
        """Whether these very bytes are kept."""
        return signed in self._known

    def keep(self, new: Accusation) -> bool:
        """Takes an accusation up; False if another one counts, or nearer accusers."""
        fact = new.fact
        kept = self.about.setdefault(fact.peer, {})
        before = kept.get(fact.by)
        if before is not None:
            if before.order >= new.order:
                return False
            self._drop(before)
        elif len(kept) >= MAX_ACCUSERS:
            farthest = max(kept, key=lambda by: self._nearness(by, fact.peer))
            if self._nearness(farthest, fact.peer) < self._nearness(fact.by, fact.peer):
                return False
            self._drop(kept[farthest])
        kept[fact.by] = new
        self._known.add(new.signed)
        self._tally.add(KIND, fact.peer.encode(), new.signed)
        return True

    def _drop(self, old: Accusation) -> None:
        del self.about[old.fact.peer][old.fact.by]
        self._known.discard(old.signed)
        self._tally.remove(KIND, old.fact.peer.encode(), old.signed)

    def _nearness(self, by: str, peer: str) -> tuple[int, str]:
        return distance(place(self._swarm, by), place(self._swarm, peer)), by

    def against(
        self, record: PeerRecord, join_epoch: int, *, is_convicted: bool = False
    ) -> dict[str, int]:
        """Who accuses a peer of this record, and from which epoch each word counts.

        Words about a former stay, or about a record that nobody has seen, do not; but
        those for good do, against whom evidence convicts.
        """
        return {
            by: said.fact.epoch
            for by, said in self._about(record.peer).items()
            if (is_convicted and said.fact.age == FOR_GOOD)
            or (
                join_epoch <= said.fact.epoch
                and said.fact.age <= record.age
                and not refutes(record, said.fact.age, said.fact.epoch)
            )
        }

    def _about(self, peer: str) -> Mapping[str, Accusation]:
        return self.about.get(peer, {})

    def about_all(self, peers: Iterable[str]) -> tuple[Signed, ...]:
        """The accusations of these, as they travel."""
        return tuple(
            said.signed
            for peer in peers
            for _, said in sorted(self._about(peer).items())
        )

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._known)
