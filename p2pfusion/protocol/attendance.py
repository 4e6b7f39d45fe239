"""Who takes part in a round, and until when those who have not offered are waited for.

Everybody who trains in a round says when its values are ready. The wait for those who
have not said so counts from the moment at which the own values and those of half of the
others are ready; ``lateness.py`` says how long it is.
"""

from __future__ import annotations

from p2pfusion.protocol.lateness import Pace
from p2pfusion.protocol.messages import Offer
from p2pfusion.protocol.stragglers import Offered
from p2pfusion.protocol.stream import StreamKey
from p2pfusion.protocol.timing import LONG_AGO, NEVER_S
from p2pfusion.protocol.transfer import Pull
from p2pfusion.split.plan import Hop

GRACE_S = 2.0
"""A reducer may need so long after its own deadline to divide and to begin to send."""

AMPLE = 2.0
"""Fused values are waited for twice as long as such have taken: streams differ in
length, and who was given up has taken longer than anybody knows."""


class Attendance:
    """The offers of one round at one peer, and the instants that follow from them."""

    def __init__(
        self,
        pace: Pace,
        expected: set[str],
        trains: bool,
        started_at: float,
        *,
        me: str,
        number: int,
    ) -> None:
        """``expected``: the others that train in this round, the one of that number."""
        self.offers: dict[str, tuple[float, Offer]] = {}
        self.offered_at: float | None = None
        self.expected = expected
        self.lost: set[str] = set()
        self.otherwise: set[str] = set()
        """Who has said that it has made another plan of this round."""
        self.elsewhere: set[str] = set()
        self.seeds_asked_at: dict[str, float] = {}
        """When the seeds of each masked sum were asked for."""
        self.stragglers = pace.stragglers.in_round(number)
        """Nobody waits for these, this peer perhaps among them."""
        self._in_vain: set[str] = set()
        """Whose contributions were given up."""
        self._me = me
        self._number = number
        self._pace = pace
        self._trains = trains
        self._started_at = started_at
        self._base: tuple[float | None] | None = None
        self._half_and_most: tuple[float | None, float | None] | None = None
        """Both follow from the offers, and are looked for when these have changed."""
        self.patient_until = NEVER_S if trains else LONG_AGO
        """Until then certainly nothing is given up: who trains counts from its own
        offer, or later."""

    def own(self, now: float, *, trained: bool) -> None:
        """The own values are ready, or it is known that there will be none."""
        self.offered_at = now
        self._base = None
        wait_s = 0.0 if self.stragglers else self._pace.lateness.minimum_s
        self.patient_until = now + wait_s
        if trained:
            for at, seen in self.offers.values():
                if seen.samples:
                    self._pace.lateness.note(at - now)

    def offered(self, peer: str, offer: Offer, now: float) -> None:
        """A peer announced its values, once; a stranger to this round has none."""
        if peer in self.offers or peer not in self.expected:
            return
        self.offers[peer] = (now, offer)
        _, most_at = self._half_and_most or (None, None)
        if most_at is None or now < most_at:  # else most of all were there before it
            self._base = self._half_and_most = None
        if self.offered_at is not None and offer.samples:
            self._pace.lateness.note(now - self.offered_at)

    def lose(self, peer: str) -> bool:
        """A peer is gone; whether it belonged to those that are waited for."""
        if peer not in self.expected:
            return False
        self.lost.add(peer)
        self._base = self._half_and_most = None
        return True

    def shut_out(self, peer: str) -> None:
        """Nobody waits for a peer, and what it has offered does not count."""
        self.expected = self.expected - {peer}
        self.offers.pop(peer, None)
        self._base = self._half_and_most = None

    def pass_over(self, elsewhere: set[str]) -> None:
        """These peers are in other rounds: nobody waits for their offers in this."""
        self.elsewhere = elsewhere - self.offers.keys()
        self._base = self._half_and_most = None

    def slept(self, seconds: float) -> None:
        """This process did not run for so long: nobody is judged by that time."""
        self._started_at += seconds
        if self.offered_at is not None:
            self.offered_at += seconds
        self.patient_until += seconds
        self.offers = {p: (at + seconds, o) for p, (at, o) in self.offers.items()}
        for name in self.seeds_asked_at:
            self.seeds_asked_at[name] += seconds
        self._base = self._half_and_most = None

    def plans_otherwise(self, peer: str) -> None:
        """A peer that trains in this round has refused something for another plan."""
        if peer in self.expected:
            self.otherwise.add(peer)

    def is_minority(self, digest: bytes, me: str) -> bool:
        """Whether more peers are known to have made one other plan of this round than
        the plan of this digest, which is ours; of equal halves the one with the first
        name counts.

        Offers say which plan. Whoever has only refused ours counts for one other: it
        may not have trained yet, and those who are ahead of it do not wait.
        """
        planned: dict[bytes, set[str]] = {digest: {me}}
        for peer, (_, offer) in self.offers.items():
            planned.setdefault(offer.digest, set()).add(peer)
        unknown = self.otherwise - self.offers.keys()
        if unknown:
            others = [each for each in planned if each != digest]
            most = max(others, key=lambda each: len(planned[each]), default=b"")
            planned.setdefault(most, set()).update(unknown)
        largest = max(map(len, planned.values()))
        halves = [each for each in planned if len(planned[each]) == largest]
        return digest != min(halves, key=lambda each: min(planned[each]))

    # --- Instants --------------------------------------------------------------------

    def base(self) -> float | None:
        """From when on the wait counts: we have offered, and so has half of the others.

        A peer that was held up in the previous round is thus not given up by one that
        was not. One that does not train goes by the pace of those in its round alone.
        """
        if self._base is None:
            self._base = (self._found_base(),)
        return self._base[0]

    def _found_base(self) -> float | None:
        if self._trains and self.offered_at is None:
            return None
        half_at, _ = self._ready_at()
        if half_at is None and self._others():
            return None
        instants = [at for at in (half_at, self.offered_at) if at is not None]
        return max(instants, default=self._started_at)

    def _ready_at(self) -> tuple[float | None, float | None]:
        """When half of the others had offered, and when so many of them that they are
        most of all, with this peer; None if they have not, or are none."""
        if self._half_and_most is None:
            others = self._others()
            offers = self.offers.items()
            times = sorted(at for peer, (at, _) in offers if peer in others)
            half, most = (len(others) + 1) // 2, len(others) // 2 + 1
            self._half_and_most = (
                times[half - 1] if 0 < half <= len(times) else None,
                times[most - 1] if most <= len(times) else None,
            )
        return self._half_and_most

    def _all_at(self) -> float | None:
        """When the last of those who are waited for had offered; None while one has
        not."""
        awaited = self._others() - self.stragglers
        if not awaited <= self.offers.keys():
            return None
        own = [] if self.offered_at is None else [self.offered_at]
        return max([*(self.offers[peer][0] for peer in awaited), *own], default=None)

    def _others(self) -> set[str]:
        """Of the others that train in this round those who are there."""
        return self.expected - self.lost - self.elsewhere

    def given_up_at(self) -> float | None:
        """When the others went on without this peer's offer, if it did not come.

        As far as one can tell from here: they wait as long as we would, and for a
        straggler only for the others. None while half of them have not offered yet.
        """
        if self._me in self.stragglers and (all_at := self._all_at()) is not None:
            return all_at
        if len(self.offers) <= len(self.expected) // 2 and not self.lost:
            return None  # as nearly always when this is asked
        _, most_at = self._ready_at()
        return None if most_at is None else most_at + self._own_wait_s()

    def _own_wait_s(self) -> float:
        """How long the others wait for this peer."""
        lateness = self._pace.lateness
        if lateness.measured() is not None:
            return lateness.wait_s()
        # Who has never been in time knows only how far the others are apart.
        others = self._others()
        times = [at for peer, (at, _) in self.offers.items() if peer in others]
        return max(lateness.minimum_s, max(times) - min(times))

    def due(self, pull: Pull) -> float | None:
        """When a stream of this round is given up; None while nothing says when."""
        if pull.stream.hop == Hop.SEEDS:
            asked_at = self.seeds_asked_at[pull.stream.instead_of]
            return asked_at + self._pace.lateness.wait_s() + GRACE_S
        base = self.base()
        if base is None:
            if self.offered_at is None:
                return None
            return self.offered_at + self._pace.lateness.maximum_s
        stream, lateness = pull.stream, self._pace.lateness
        if pull.opened:
            return base + lateness.maximum_s + GRACE_S
        wait = lateness.wait_s()
        offered = self.offers.get(stream.source)
        if stream.hop == Hop.CONTRIBUTION:
            if offered:
                return base + lateness.maximum_s
            all_at = self._all_at() if stream.source in self.stragglers else None
            return base + wait if all_at is None else min(all_at, base + wait)
        # A reducer waits for the others, counted from its own offer, before it divides.
        start = base
        if offered:  # else it has nothing to fuse yet, and is waited for like any other
            start = max(base, offered[0])
            wait = max(wait, self._pace.fusing.wait_s())
        if not stream.instead_of:
            return start + wait + GRACE_S
        # A backup waits for the silent one, too, until it acts on its silence.
        return start + 2 * (wait + GRACE_S) + self._pace.settling_s

    def why(self, pull: Pull) -> str:
        """In words, why a stream is given up that is due."""
        source, lateness = pull.stream.source, self._pace.lateness
        if pull.opened:
            return "transfer not finished in time"
        if source in self.offers:
            return "offered, but sent nothing"
        if source in self.stragglers:
            times = self._pace.stragglers.times_late(source)
            return f"slow: too late for {times} rounds in a row, not waited for"
        return f"slow: no offer within {lateness.wait_s():.1f} s"

    # --- What came of it -------------------------------------------------------------

    def sealed(self, offer: Offer | None) -> None:
        """The round is over: notes who was too late for it. ``offer``: the own one."""
        if not self._trains or self.offered_at is None:
            return
        others, stragglers = self._others(), self._pace.stragglers
        half_at, most_at = self._ready_at()
        if half_at is not None:
            seen: dict[str, Offered] = dict.fromkeys(self._in_vain & others)
            seen |= {p: self.offers[p] for p in others & self.offers.keys()}
            wait_s = self._pace.lateness.wait_s()
            stragglers.sealed(self._number, half_at, wait_s, seen, own=False)
        if most_at is not None:
            own = {self._me: (self.offered_at, offer)}
            wait_s = self._own_wait_s()
            stragglers.sealed(self._number, most_at, wait_s, own, own=True)

    # --- What fused values took ------------------------------------------------------

    def fused(self, stream: StreamKey, now: float) -> None:
        """All that this reducer has fused for us is here."""
        self._note_fusing(stream, now)

    def given_up(self, pull: Pull, now: float) -> None:
        """It was waited for in vain: not even the first byte has come."""
        if pull.stream.hop == Hop.CONTRIBUTION:
            self._in_vain.add(pull.stream.source)
        if pull.stream.hop == Hop.FUSED and not pull.opened:
            self._note_fusing(pull.stream, now)

    def _note_fusing(self, stream: StreamKey, now: float) -> None:
        base, offered = self.base(), self.offers.get(stream.source)
        if base is not None and offered is not None and not stream.instead_of:
            self._pace.fusing.note(AMPLE * (now - max(base, offered[0])))
