"""Through whom two peers speak that can only dial out.

Every member that can be dialled, and says that it relays, is a candidate; for each pair
they have an order by lot (rendezvous hashing), so that the pairs spread evenly and both
ends begin with the same one. The first that answers is taken. It is given up for the
next when it falls silent, or when it answers and the peer behind it does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from p2pfusion.protocol.detector import Detector
from p2pfusion.protocol.messages import PeerRecord


@dataclass(frozen=True)
class Choice:
    """Who relays to a peer, and since when."""

    relay: str
    """"" while there is nobody."""
    since: float


def ranked(swarm: str, pair: tuple[str, str], candidates: Iterable[str]) -> list[str]:
    """The candidates in this pair's order, the same for both of its ends."""
    ends = " ".join(sorted(pair))

    def lot(candidate: str) -> bytes:
        text = f"relay {swarm} {ends} {candidate}"
        return hashlib.blake2b(text.encode(), digest_size=8).digest()

    return sorted(candidates, key=lambda each: (lot(each), each))


class Relays:
    """Whom this peer has chosen."""

    def __init__(self, me: str, detector: Detector) -> None:
        self._me = me
        self._detector = detector
        self._chosen: dict[str, Choice] = {}

    def through(self, peer: str) -> str:
        """Who relays to a peer; "" if nobody has to, or can."""
        choice = self._chosen.get(peer)
        return choice.relay if choice is not None else ""

    def is_stranded(self, peer: str) -> bool:
        """Whether somebody has to relay to a peer, and nobody can."""
        choice = self._chosen.get(peer)
        return choice is not None and not choice.relay

    def choose(
        self, peer: str, members: Iterable[PeerRecord], swarm: str, now: float
    ) -> str:
        """Who relays to this peer from now on; "" if nobody can."""
        ends = (self._me, peer)
        candidates = (
            record.peer
            for record in members
            if record.relays and not record.is_outward and record.peer not in ends
        )
        usable = [
            each
            for each in ranked(swarm, ends, candidates)
            if self._detector.may_answer(each, now)
        ]
        before = self._chosen.get(peer)
        if before is not None and before.relay in usable:
            if not self._is_given_up(peer, before, now):
                return before.relay
            following = usable.index(before.relay) + 1
            usable = usable[following:] + usable[:following]
        relay = usable[0] if usable else ""
        self._chosen[peer] = Choice(relay, now)
        return relay

    def _is_given_up(self, peer: str, choice: Choice, now: float) -> bool:
        """Whether the relay has had its time, and the peer is not heard."""
        is_silent = peer in self._detector.silent
        return is_silent and now - choice.since > self._detector.timing.silence_s

    def stale(self, now: float) -> list[str]:
        """To whom another way is to be looked for, sorted."""
        return sorted(
            peer
            for peer, choice in self._chosen.items()
            if not self._detector.may_answer(choice.relay, now)
        )

    def forget(self, peer: str) -> None:
        """The peer does not concern us any more, or can be dialled."""
        self._chosen.pop(peer, None)
