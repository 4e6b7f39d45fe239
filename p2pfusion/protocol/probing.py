"""Probes: pings, greetings of who does not answer, and asking others to look.

Each interval every observed peer that is online gets a ping, every other one a
greeting, in case it is back and knows nobody. For one that has not answered a few
others are asked to probe it (SWIM's indirect probe): what they see keeps it from being
accused where only the link between us is cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pfusion.limits import MAX_RELAYED_PROBES
from p2pfusion.protocol.detector import Detector
from p2pfusion.protocol.messages import ProbeFor, Seen
from p2pfusion.protocol.picking import pick

HELPERS = 3
"""Others that are asked to probe a peer: that all of them are cut off, too, is rare."""

REMEMBERED_PROBES = 4096
"""Probes whose answers are timed: those of some seconds in the largest swarm."""


class Probing:
    """When probes are due, which are unanswered, and which are made for others."""

    def __init__(self, me: str, detector: Detector) -> None:
        self.me = me
        self.detector = detector
        self.next_at = 0.0
        """When the next probes are due; silence is noticed then, too."""
        self._nonce = 0
        self._sent_at: dict[int, float] = {}
        self._pinged_at: dict[str, float] = {}
        """When the oldest ping since its last sign went to a peer."""
        self._failed: set[str] = set()
        """Peers whose present silence has counted against the own health."""
        self._asked_at: dict[str, float] = {}
        self._asked: dict[int, str] = {}
        self._for_others: dict[tuple[str, str], tuple[int, float]] = {}

    # --- Time ------------------------------------------------------------------------

    def awake(self, now: float) -> float:
        """Called first of all; how long this process has slept before, if it did.

        It should have had a turn at ``next_at``. Who comes much later was held up, and
        takes what it did not hear meanwhile as a sign of nothing. It has slept if that
        was more than half a silence: before, as two probes fit a silence, nobody can
        have missed it, and it has missed no decision. Busy machines do that all day.
        """
        timing, late = self.detector.timing, now - self.next_at
        if not self.next_at or late <= timing.interval_s:
            return 0.0
        self.next_at = now
        self.detector.slept(late)
        self.detector.health.worse()
        self._pinged_at.clear()
        return late if late > timing.silence_s / 2 else 0.0

    def due(self, now: float) -> bool:
        """Whether it is time to probe; if so, the next time is set."""
        if now < self.next_at:
            return False
        detector = self.detector
        self.next_at = now + detector.health.interval_s(detector.timing)
        return True

    # --- Own probes ------------------------------------------------------------------

    def ping(self, peer: str, now: float) -> int:
        """A ping goes to a peer now; its number."""
        self._pinged_at.setdefault(peer, now)
        return self._number(now)

    def _number(self, now: float) -> int:
        self._nonce += 1
        self._sent_at[self._nonce] = now
        self._sent_at.pop(self._nonce - REMEMBERED_PROBES, None)
        self._asked.pop(self._nonce - REMEMBERED_PROBES, None)
        return self._nonce

    def unanswered(self, peer: str, now: float) -> bool:
        """Whether a ping has brought no sign of the peer until the next was due."""
        pinged_at = self._pinged_at.get(peer)
        if pinged_at is None:
            return False
        heard_at = self.detector.contacts[peer].heard_at
        if heard_at is not None and heard_at >= pinged_at:
            del self._pinged_at[peer]
            self._failed.discard(peer)
            return False
        if peer not in self._failed:
            self._failed.add(peer)
            self.detector.health.worse()
        return True

    def answered(self, peer: str, nonce: int, now: float) -> list[tuple[str, Seen]]:
        """A ping came back: time it, and tell those for whom it was sent."""
        sent_at = self._sent_at.pop(nonce, None)
        if sent_at is not None:
            self.detector.watch(peer, now).rtt_s = now - sent_at
            self.detector.health.better()
        told = [key for key in self._for_others if key[0] == peer]
        return [(key[1], Seen(self._for_others.pop(key)[0], peer)) for key in told]

    def forget(self, peer: str) -> None:
        """The peer does not concern us any more."""
        self._pinged_at.pop(peer, None)
        self._asked_at.pop(peer, None)
        self._failed.discard(peer)

    # --- By way of others ------------------------------------------------------------

    def ask_others(
        self, peer: str, online: Sequence[str], now: float
    ) -> list[tuple[str, ProbeFor]]:
        """Who is asked to probe a peer that does not answer us: a few, now and then."""
        asked_at = self._asked_at.get(peer)
        silence_s = self.detector.timing.silence_s
        if asked_at is not None and now - asked_at < silence_s:
            return []
        self._asked_at[peer] = now
        nonce = self._number(now)
        self._asked[nonce] = peer
        del self._sent_at[nonce]  # an answer of another kind than a ping's
        salt = f"{self.me} {peer} {nonce}"
        helpers = pick([each for each in online if each != peer], HELPERS, salt)
        return [(helper, ProbeFor(nonce, peer)) for helper in helpers]

    def asked_by(self, asker: str, probe: ProbeFor, now: float) -> int | None:
        """Somebody wants to know of a peer; the number of the ping to send to it."""
        if len(self._for_others) >= MAX_RELAYED_PROBES:
            return None
        self._for_others[probe.peer, asker] = (probe.nonce, now)
        return self._number(now)

    def seen(self, seen: Seen, now: float) -> None:
        """Somebody that was asked has an answer from a peer."""
        if self._asked.get(seen.nonce) == seen.peer:
            self.detector.seen(seen.peer, now)

    def drop_old(self, now: float) -> None:
        """What others asked for and did not come is not waited for any longer."""
        old = now - self.detector.timing.silence_s
        for key, (_, at) in list(self._for_others.items()):
            if at < old:
                del self._for_others[key]
