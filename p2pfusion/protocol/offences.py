"""What each peer was caught at by this one, and whether that is enough.

Every offence has a *kind*, and every kind a weight. The weights of one peer add up,
and fade with every round that passes. Whoever reaches ``ENOUGH`` is *out* until
``PARDON`` is left, or the user pardons it. A kind counts once a round, so a peer that
breaks one rule a thousand times in a moment is no worse than one that does it once.

Pure bookkeeping, local to this peer: nobody else is told, and nobody can add to it.
What is proven to everybody stands in ``evidence.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from p2pfusion.errors import LocalProtocolError

WEIGHTS = {
    "values": 5.0,
    "stream": 5.0,
    "digest": 10.0,
    "evidence": 10.0,
    "bytes": 2.0,
    "reducing": 5.0,
    "outlying": 2.5,
    "rules": 0.25,
}
"""What an offence of each kind weighs:

* ``values``: numbers that are not finite;
* ``stream``: a stream of another length or form than the plan says, or of no samples;
* ``digest``: other bytes or samples than its own signed offer names;
* ``evidence``: a proof against somebody that proves nothing;
* ``bytes``: what is no message;
* ``reducing``: as a reducer, other values than several others make of the same;
* ``outlying``: values far from those of others, or the same as before, again and
  again;
* ``rules``: anything else that no rule allows. Alone it is never enough, because an
  honest peer may do so when a swarm is as large as it may be.

The first five no honest peer can do with this version of the protocol. Of the first two
the second within 14 rounds is enough: one may be a broken machine's bad moment.
"""

ENOUGH = 8.0
"""So much, and a peer is out."""

PARDON = ENOUGH / 2
"""What is left of it when it is back."""

MOST = 2 * ENOUGH
"""No peer has more: whoever is out and does no more is back after two half-lives."""

HALF_LIFE_ROUNDS = 20
"""Half of it has faded after so many rounds."""


@dataclass(frozen=True)
class Charge:
    """All that one peer was caught at."""

    peer: str
    score: float
    """As it was in the round ``round_index``, the last one in which it rose."""
    round_index: int
    kind: str
    """Of the last offence."""
    detail: str
    is_out: bool = False
    since_round: int = 0
    """From when on it is out."""

    def score_in(self, round_index: int) -> float:
        """What is left of the score in a later round."""
        passed = max(0, round_index - self.round_index)
        return float(self.score * 0.5 ** (passed / HALF_LIFE_ROUNDS))


class Offences:
    """The charges against all peers."""

    def __init__(self) -> None:
        self._charges: dict[str, Charge] = {}
        self._counted: set[tuple[str, str]] = set()
        """Peers and kinds that have counted in the present round."""
        self._round_index = 0
        self.out: frozenset[str] = frozenset()
        """Who is out."""

    def restore(self, charges: Iterable[Charge]) -> None:
        """What was known before this peer was started again."""
        self._charges = {charge.peer: charge for charge in charges}
        self._count_out()

    def _count_out(self) -> None:
        out = (peer for peer, charge in self._charges.items() if charge.is_out)
        self.out = frozenset(out)

    @property
    def charges(self) -> tuple[Charge, ...]:
        """All that is held against anybody, sorted by peer."""
        return tuple(self._charges[peer] for peer in sorted(self._charges))

    def of(self, peer: str) -> Charge | None:
        """What is held against a peer."""
        return self._charges.get(peer)

    def note(self, peer: str, kind: str, detail: str) -> bool:
        """A peer was caught at something; whether it is out now and was not before."""
        if kind not in WEIGHTS:
            raise LocalProtocolError(f"no offence is called {kind!r}")
        if (peer, kind) in self._counted:
            return False
        self._counted.add((peer, kind))
        number, known = self._round_index, self._charges.get(peer)
        before = 0.0 if known is None else known.score_in(number)
        score = min(MOST, before + WEIGHTS[kind])
        charge = Charge(peer, score, number, kind, detail)
        if known is not None and known.is_out:
            charge = replace(charge, is_out=True, since_round=known.since_round)
        is_new = score >= ENOUGH and not charge.is_out
        if is_new:
            charge = replace(charge, is_out=True, since_round=number)
        self._charges[peer] = charge
        self._count_out()
        return is_new

    def enter(self, round_index: int) -> list[str]:
        """A round begins; who is back, because enough has faded."""
        self._round_index = round_index
        self._counted.clear()
        back = []
        for peer, charge in list(self._charges.items()):
            left = charge.score_in(round_index)
            if charge.is_out and left <= PARDON:
                back.append(peer)
                self._charges[peer] = replace(charge, is_out=False)
            elif left < min(WEIGHTS.values()) / 2:
                del self._charges[peer]
        self._count_out()
        return sorted(back)

    def pardon(self, peer: str) -> bool:
        """The user forgives a peer everything; whether there was anything."""
        known = self._charges.pop(peer, None)
        self._count_out()
        return known is not None
