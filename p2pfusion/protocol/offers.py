"""The offers of others: told from repetitions, and from what others were told.

Each offer is shown to one other member, drawn anew every round, by everybody who gets
it. Whoever is drawn compares it with what it was told itself: an author that has told
two peers different things is convicted by its own signatures (``evidence.py``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol.events import Came, Effect, Report, Send
from p2pfusion.protocol.evidence import contradict, evidence_of
from p2pfusion.protocol.exchange import Exchange
from p2pfusion.protocol.messages import Facts, Offer, Signed, SignedOffer
from p2pfusion.protocol.statements import (
    KEPT_OFFERS,
    OfferFact,
    author,
    read_offer,
)
from p2pfusion.security import ReplayWindow, Scheme

NOTHING: Mapping[str, tuple[OfferFact, Signed]] = MappingProxyType({})

KEPT_BEHIND = 1
KEPT_AHEAD = 2
"""Offers of so many rounds before and after the present one are compared."""


class Offers:
    """What one peer does with every offer that it gets."""

    def __init__(self, exchange: Exchange, told: Callable[[str, Offer], None]) -> None:
        """``told`` hears of each new offer that its author has sent itself."""
        self._exchange = exchange
        self._gossip = exchange.gossip
        self._told = told
        self._replays: dict[str, tuple[int, ReplayWindow]] = {}
        self._seen: dict[int, dict[str, tuple[OfferFact, Signed]]] = {}
        """By round and author, the offer that others are compared with."""
        self._circle: tuple[Sequence[str], list[str]] = ([], [])
        """The others, and the circle that was made of them and this peer."""
        self._next: tuple[Sequence[str], int, list[str]] = ([], -1, [])
        """The others, a round, and the next two on the circle in that round."""

    def received(self, peer: str, message: SignedOffer, now: float) -> list[Effect]:
        """An offer, from its author or shown by somebody else."""
        gossip = self._gossip
        signed, swarm = message.statement, gossip.swarm_id
        said, by = _read(signed.payload, signed.signature, gossip.scheme, swarm)
        if by == peer:
            return self._told_by_author(peer, said, message, now)
        known = self._seen.get(said.offer.round_index, NOTHING).get(by)
        if known is not None and (known[1] is signed or known[1] == signed):
            return []  # as nearly always: others were told the same
        # Whoever shows it may know of somebody, or of a start, of which we do not.
        is_known = by != gossip.me and gossip.is_member(by)
        if not is_known or self._is_foreign(by, said):
            return []
        is_near = self._is_near(said.offer.round_index)
        return self._compare(by, said, signed) if is_near else []

    def _is_foreign(self, by: str, said: OfferFact) -> bool:
        """Whether it is of another session than its author's record."""
        record = self._gossip.facts.records[by]
        is_same = said.incarnation == record.incarnation
        return is_same and not record.exchange_key.startswith(said.session)

    def _told_by_author(
        self, peer: str, said: OfferFact, message: SignedOffer, now: float
    ) -> list[Effect]:
        if self._is_foreign(peer, said):
            raise RemoteProtocolError("an offer of another session than its author's")
        gossip, exchange, offer = self._gossip, self._exchange, said.offer
        is_near = self._is_near(offer.round_index)
        effects = self._compare(peer, said, message.statement) if is_near else []
        if not self._is_news(peer, said):
            return effects
        if offer.round_index > gossip.detector.watch(peer, now).round_index:
            gossip.detector.in_round(peer, offer.round_index, now)
        round_ = exchange.offered(peer, offer, now)
        self._told(peer, offer)
        effects += self._show(peer, offer, message)
        if round_ is not None and offer.digest != round_.plan.digest:
            effects += gossip.spread.compare(peer, now)
        if is_near:
            offered = exchange.promises.offered
            effects += self._kept(peer, offered, peer, said, message.proof)
        return effects

    def came(self, came: Came) -> list[Effect]:
        """A contribution is here whole: it may be another than its offer says."""
        peer, promises = came.stream.source, self._exchange.promises
        return self._kept(peer, promises.came, came.stream, came.digest)

    def _kept(
        self, peer: str, compare: Callable[..., None], *said: object
    ) -> list[Effect]:
        """What follows if a promise was broken. Nothing of the peer is under way that
        would have to be given up: that it is whole has shown it."""
        try:
            compare(*said)
        except RemoteProtocolError as error:
            report = Report("protocol-error", {"peer": peer, "reason": str(error)})
            noted = self._gossip.quarantine.note(peer, error.offence, str(error))
            return [report, *noted]
        return []

    def _is_news(self, peer: str, said: OfferFact) -> bool:
        """Whether a statement is not a repetition of an earlier one."""
        known = self._replays.get(peer)
        if known is None or said.incarnation > known[0]:
            known = self._replays[peer] = (said.incarnation, ReplayWindow())
        incarnation, window = known
        return said.incarnation == incarnation and window.accept(said.sequence)

    # --- Comparing with others -------------------------------------------------------

    def _is_near(self, round_index: int) -> bool:
        ahead = round_index - self._gossip.round_index
        return -KEPT_BEHIND <= ahead <= KEPT_AHEAD

    def _compare(self, by: str, said: OfferFact, statement: Signed) -> list[Effect]:
        """Keeps an offer of a near round, or finds that it contradicts the one that is
        kept."""
        number, gossip = said.offer.round_index, self._gossip
        seen = self._seen.get(number)
        if seen is None:
            self._forget(gossip.round_index - KEPT_BEHIND)
            seen = self._seen[number] = {}
        known = seen.get(by)
        if known is None:
            seen[by] = (said, statement)
            return []
        before, signed = known
        if contradict(before, said):
            found = evidence_of(signed, statement)
            return gossip.publish(Facts(evidence=(found,)))
        if said.offer.samples and (said.incarnation, said.sequence) > (
            before.incarnation,
            before.sequence,
        ):
            seen[by] = (said, statement)
        return []

    def _forget(self, before: int) -> None:
        for number in [number for number in self._seen if number < before]:
            del self._seen[number]

    def _show(self, by: str, said: Offer, message: SignedOffer) -> list[Effect]:
        """To the next one on a circle of all, which is another in each round: where two
        were told different things, somebody stands between them."""
        one, other = self._next_ones(said.round_index)
        following = other if one == by else one
        if following == self._gossip.me:
            return []
        # The proof is about what this peer gets, and nobody else's matter.
        shown = SignedOffer(message.statement) if message.proof else message
        return [Send(following, shown)]

    def _next_ones(self, round_index: int) -> list[str]:
        """The next two on the circle of a round, which may be this peer itself."""
        gossip, others = self._gossip, self._gossip.spread.others()
        of, number, found = self._next
        if of is not others or number != round_index:
            assert gossip.manifest is not None
            circle = self._all_around()
            at, count = circle.index(gossip.me), len(circle)
            step = _step(gossip.manifest.seed, round_index, count)
            found = [circle[(at + many * step) % count] for many in (1, 2)]
            self._next = others, round_index, found
        return found

    def _all_around(self) -> list[str]:
        """All members in order, this peer included."""
        others = self._gossip.others()
        if others is not self._circle[0]:
            self._circle = (others, sorted((*others, self._gossip.me)))
        return self._circle[1]


@lru_cache(maxsize=KEPT_OFFERS)
def _read(
    payload: bytes, signature: bytes, scheme: Scheme, swarm: str
) -> tuple[OfferFact, str]:
    """What an offer says, and whose it is."""
    signed = Signed(payload, signature)
    key = author(signed)
    said = read_offer(signed, scheme, swarm=swarm, key=key)
    return said, scheme.peer_id(key)


@lru_cache
def _step(seed: int, round_index: int, count: int) -> int:
    """How far the next one is on the circle: by steps of so much all come round."""
    text = f"p2pfusion witness {seed} {round_index}"
    drawn = hashlib.sha256(text.encode()).digest()
    step = 1 + int.from_bytes(drawn[:8], "big") % max(1, count - 1)
    while math.gcd(step, count) != 1:
        step += 1
    return step
