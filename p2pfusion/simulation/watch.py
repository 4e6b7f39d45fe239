"""What the peers of an experiment find out about each other, and what follows from it.

In a swarm every peer judges for itself, by what it has reduced. Here there is one
account for all: what everybody's reductions have measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from p2pfusion.fusion.agreement import Agreement
from p2pfusion.fusion.repeating import LastSaid
from p2pfusion.fusion.weighing import Opinions
from p2pfusion.methods import Member
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.simulation.desks import Desks


@dataclass
class Watch:
    """Whom the others have found out, round by round."""

    acts: bool
    """Whether who is found out has no part in later rounds."""
    agreement: Agreement = field(default_factory=Agreement)
    opinions: defaultdict[str, Opinions] = field(
        default_factory=lambda: defaultdict(Opinions)
    )
    """What each knows of reducers that contradict each other."""
    last_said: Mapping[str, LastSaid] = field(default_factory=dict)
    """What each remembers that contributors to its sums have said."""
    suspected: dict[str, int] = field(default_factory=dict)
    """In which round each was found out first."""
    refused: dict[str, int] = field(default_factory=dict)
    """How many rounds each has sent what nobody takes."""

    @classmethod
    def over(cls, manifest: Manifest, roster: Sequence[Member], *, acts: bool) -> Self:
        """The members of a swarm; what they remember is drawn from its seed."""
        last_said = {
            member.peer: LastSaid.of(manifest.layout, [manifest.seed, number])
            for number, member in enumerate(roster)
        }
        return cls(acts, last_said=last_said)

    @property
    def put_out(self) -> frozenset[str]:
        """Who has no part any more."""
        return frozenset(self.suspected) if self.acts else frozenset()

    def note(self, round_index: int, desks: Desks) -> None:
        """After a round."""
        for deviations in desks.deviations:
            for peer, deviation in deviations.items():
                self.agreement.note(peer, deviation)
        for peer in desks.refused:
            self.refused[peer] = self.refused.get(peer, 0) + 1
        found = {*self.agreement.suspects(), *desks.refused, *desks.caught}
        for peer in sorted(found):
            self.suspected.setdefault(peer, round_index)

    def to_data(self) -> dict[str, object]:
        """For the result of an experiment."""
        return {
            "suspected": self.suspected,
            "quarantined": sorted(self.put_out),
            "refused": self.refused,
            "scores": self.agreement.scores(),
        }
