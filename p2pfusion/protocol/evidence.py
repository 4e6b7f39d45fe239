"""Proof that a peer has lied: two offers for one round, both signed by it.

A peer makes one offer in a round, for all: whoever signs a second one that differs has
told different peers different things. Both bear its signature, so anybody can check it,
and nobody can make it up. It is kept, and passed on, like every fact.

Who is started again may offer other values in the same round, and so may two daemons
that run with copies of one home. An offer therefore names the incarnation of its author
and its *session*: the beginning of the exchange key, which every start draws anew. Two
offers contradict each other only where both are the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol.messages import NEVER, Age, Evidence, Signed
from p2pfusion.protocol.statements import OfferFact, author, read_offer
from p2pfusion.protocol.tally import Tally
from p2pfusion.security import Scheme

KIND = "evidence"

FOR_GOOD: Age = (NEVER, NEVER)
"""In place of a record's age, in the accusation of whom evidence convicts: no record
answers it."""


@dataclass(frozen=True)
class Conviction:
    """Evidence, read and checked."""

    peer: str
    round_index: int
    evidence: Evidence

    @property
    def order(self) -> tuple[bytes, ...]:
        """Of several about one peer the smallest counts."""
        first, second = self.evidence.first, self.evidence.second
        return (first.payload, second.payload, first.signature, second.signature)


def contradict(one: OfferFact, other: OfferFact) -> bool:
    """Whether no honest peer makes both of these. That one has nothing to give (any
    more) contradicts nothing."""
    same = (one.incarnation, one.session, one.offer.round_index) == (
        other.incarnation,
        other.session,
        other.offer.round_index,
    )
    return (
        same
        and bool(one.offer.samples and other.offer.samples)
        and (one.offer != other.offer)
    )


def evidence_of(one: Signed, other: Signed) -> Evidence:
    """Two offers that contradict each other, as they travel."""
    return Evidence(*sorted((one, other), key=lambda each: each.payload))


class Convictions:
    """All that is proven, one for each peer."""

    def __init__(self, scheme: Scheme, swarm: str, tally: Tally) -> None:
        self._scheme = scheme
        self._swarm = swarm
        self._tally = tally
        self.of: dict[str, Conviction] = {}
        """By whom it convicts."""

    def read(self, evidence: Evidence) -> Conviction | None:
        """Evidence, checked; None if it is kept already.

        ``RemoteProtocolError`` if it proves nothing: no honest peer passes it on.
        """
        if any(known.evidence == evidence for known in self.of.values()):
            return None
        try:
            one, other = (
                read_offer(each, self._scheme, swarm=self._swarm, key=author(each))
                for each in (evidence.first, evidence.second)
            )
        except RemoteProtocolError as error:
            raise _void(str(error)) from None
        if author(evidence.first) != author(evidence.second):
            raise _void("its offers are by two peers")
        if evidence.first.payload >= evidence.second.payload:
            raise _void("its offers are out of order")
        if not contradict(one, other):
            raise _void("its offers do not contradict each other")
        peer = self._scheme.peer_id(author(evidence.first))
        return Conviction(peer, one.offer.round_index, evidence)

    def keep(self, new: Conviction, known: Collection[str]) -> bool:
        """Takes evidence up; False if it is about somebody unknown, or other evidence
        counts."""
        before = self.of.get(new.peer)
        if new.peer not in known or (before and before.order <= new.order):
            return False
        about = new.peer.encode()
        if before is not None:
            self._tally.remove(KIND, about, before.evidence)
        self.of[new.peer] = new
        self._tally.add(KIND, about, new.evidence)
        return True

    def all(self) -> tuple[Evidence, ...]:
        """All evidence, in an order that follows from it."""
        return tuple(self.of[peer].evidence for peer in sorted(self.of))


def _void(why: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"evidence that proves nothing: {why}", offence=KIND)
