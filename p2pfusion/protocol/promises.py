"""What offers have promised of contributions, and what came.

An offer names, signed, one hash over all that its author gives to the reducers; each
reducer is shown that what it gets is a part of that (``merkle.py``). So nobody can give
one thing and say afterwards that it was another, nor another number of samples.

An offer and the stream that it is about come in any order. Their author may have been
started again between the two, and honestly offer something else: what is of different
incarnations is not compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol.merkle import holds, leaf
from p2pfusion.protocol.messages import StreamStart
from p2pfusion.protocol.statements import OfferFact
from p2pfusion.protocol.stream import StreamKey
from p2pfusion.split.hops import CONTRIBUTION


@dataclass(slots=True)
class Delivery:
    """A contribution to this peer: what its head said, and what came."""

    incarnation: int
    samples: int
    base_round: int
    digest: bytes | None = None


class Promises:
    """Of the rounds at hand, at one reducer."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._offers: dict[tuple[int, str], tuple[OfferFact, bytes]] = {}
        self._deliveries: dict[tuple[int, str], Delivery] = {}

    def offered(self, peer: str, said: OfferFact, proof: bytes) -> None:
        """A peer says what it gives; ``RemoteProtocolError`` if it gave another."""
        key = (said.offer.round_index, peer)
        self._offers[key] = (said, proof)
        self._compare(key)

    def begun(self, stream: StreamKey, start: StreamStart, incarnation: int) -> None:
        """A stream's head is here; a repeated one changes nothing.

        ``incarnation``: the newest of its sender that is known. Nothing was promised to
        backups.
        """
        if not _is_promised(stream):
            return
        key = (stream.round_index, stream.source)
        known = self._deliveries.get(key)
        if known is None or known.incarnation != incarnation:
            self._deliveries[key] = Delivery(
                incarnation, start.samples, start.base_round
            )

    def came(self, stream: StreamKey, digest: bytes) -> None:
        """It is here whole; ``RemoteProtocolError`` if another was promised."""
        key = (stream.round_index, stream.source)
        delivery = self._deliveries.get(key)
        if delivery is not None and _is_promised(stream):
            delivery.digest = digest
            self._compare(key)

    def _compare(self, key: tuple[int, str]) -> None:
        found, delivery = self._offers.get(key), self._deliveries.get(key)
        if found is None or delivery is None or delivery.digest is None:
            return
        (said, proof), offer = found, found[0].offer
        if said.incarnation != delivery.incarnation:
            return
        if (offer.samples, offer.base_round) != (delivery.samples, delivery.base_round):
            text = "a contribution of other samples, or another round, than its offer"
            raise RemoteProtocolError(text, offence="digest")
        if not holds(offer.contents, leaf(self._me, delivery.digest), proof):
            text = "a contribution of other values than its offer names"
            raise RemoteProtocolError(text, offence="digest")

    def lose(self, peer: str) -> None:
        """What a peer has begun to send does not count any more."""
        for key in [key for key in self._deliveries if key[1] == peer]:
            del self._deliveries[key]

    def forget(self, before: int) -> None:
        """Rounds that are over."""
        for table in (self._offers, self._deliveries):
            for key in [key for key in table if key[0] < before]:
                del table[key]


def _is_promised(stream: StreamKey) -> bool:
    return stream.hop == CONTRIBUTION and not stream.instead_of
