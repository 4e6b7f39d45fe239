"""Who seems to be gone: accusing, answering accusations, and coming back.

A peer that was silent for long enough, by any way, is accused by those who observe it,
if they can reach a quorum themselves. When most of them have done so it is out of the
roster, from an epoch on that lies ahead. Whoever is accused and reads it in time says
that it is there, and keeps its rank; who comes too late joins anew.

Who has slept, or was cut off, first listens for a while: what it knows of the epoch may
be old, and an answer that reaches back would undo rosters that others have used.
"""

from __future__ import annotations

from p2pfusion.protocol.events import Effect, Report
from p2pfusion.protocol.evidence import FOR_GOOD
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.messages import NEVER, Facts
from p2pfusion.protocol.quorum import has_quorum
from p2pfusion.protocol.statements import AccusationFact, sign_accusation
from p2pfusion.protocol.timing import LONG_AGO

LISTENING_INTERVALS = 2
"""So many probe intervals of quorum before a peer judges by what it knows: each other
peer has said by then in which round it is."""


class Suspicion:
    """What one peer thinks of the silent, and says to those who think it silent."""

    def __init__(self, gossip: Gossip) -> None:
        self._gossip = gossip
        self._unsure_at: float | None = None
        self._looked_at = LONG_AGO
        self._asymmetric: set[str] = set()

    def woke(self, now: float) -> None:
        """This process did not run for a while, or has just begun."""
        self._unsure_at = now

    def tick(self, now: float) -> list[Effect]:
        """Accuses, answers and joins anew, as it is time for."""
        gossip = self._gossip
        if gossip.manifest is None or gossip.me in gossip.facts.revoked:
            return []
        if not gossip.facts.start:
            return []
        self._look(now)
        return [*self._note_asymmetric(now), *self._accuse(now), *self.answer(now)]

    # --- The own standing ------------------------------------------------------------

    def has_quorum(self, now: float) -> bool:
        """Whether this peer can reach most of the roster."""
        gossip = self._gossip
        reached = {*gossip.detector.online(now), gossip.me}
        roster = gossip.facts.roster(gossip.epoch(now))
        return has_quorum(reached, roster, gossip.facts.lost)

    def _look(self, now: float) -> None:
        """Notes whether this peer is cut off, once per interval."""
        detector = self._gossip.detector
        if now - self._looked_at < detector.timing.interval_s:
            return
        self._looked_at = now
        if not self.has_quorum(now):
            self._unsure_at = now

    def is_sure(self, now: float) -> bool:
        """Whether the epoch that this peer observes can be relied on."""
        if self._unsure_at is None:
            return True
        interval_s = self._gossip.detector.timing.interval_s
        return now - self._unsure_at >= LISTENING_INTERVALS * interval_s

    # --- Accusing --------------------------------------------------------------------

    def _accuse(self, now: float) -> list[Effect]:
        gossip, detector = self._gossip, self._gossip.detector
        wait_s = detector.timing.silence_s + detector.patience_s
        convicted = gossip.facts.convicted.keys() - {gossip.me}
        silent = {p for p in detector.silent if now - detector.last_sign(p) >= wait_s}
        suspects = sorted(silent | convicted)
        if not suspects or not self.is_sure(now):
            return []
        from_epoch = gossip.epoch(now) + 2
        suspects = [peer for peer in suspects if self._may_accuse(peer, from_epoch)]
        if not suspects or not self.has_quorum(now):
            return []
        coming = {member.peer for member in gossip.facts.roster(from_epoch)}
        said = tuple(
            AccusationFact(
                gossip.me,
                peer,
                FOR_GOOD if peer in convicted else gossip.facts.records[peer].age,
                from_epoch,
            )
            for peer in suspects
            if peer in coming
        )
        if not said:
            return []
        signed = (sign_accusation(gossip.swarm_id, x, gossip.signer) for x in said)
        return gossip.publish(Facts(accusations=tuple(signed)))

    def _may_accuse(self, peer: str, from_epoch: int) -> bool:
        """Whether a word from this epoch on would count, and is needed."""
        facts, me = self._gossip.facts, self._gossip.me
        deciding = from_epoch - 1
        if facts.is_gone(peer, deciding) or me in facts.accusers(peer):
            return False
        return me in facts.observers(peer, deciding)

    def _note_asymmetric(self, now: float) -> list[Effect]:
        detector = self._gossip.detector
        if not detector.silent and not self._asymmetric:
            return []
        now_so = {p for p in detector.silent if detector.is_asymmetric(p, now)}
        new, self._asymmetric = now_so - self._asymmetric, now_so
        return [Report("asymmetric", {"peer": peer}) for peer in sorted(new)]

    # --- Being accused ---------------------------------------------------------------

    def answer(self, now: float) -> list[Effect]:
        """Says that this peer is there, if others say that it is not."""
        gossip, facts, record = self._gossip, self._gossip.facts, self._gossip.record
        if record.leave_epoch != NEVER or gossip.me not in facts.records:
            return []
        joined = facts.join_epoch(record)
        if joined is None:
            return []
        accused = facts.accusers(gossip.me)
        if not accused and gossip.me not in facts.lost:
            return []
        if gossip.me in facts.revoked or not self.is_sure(now):
            return []
        epoch = gossip.epoch(now)
        if joined <= epoch and not self._is_in(epoch):
            return gossip.rejoin(now)
        if any(since > epoch for since in accused.values()):
            return gossip.refute(now)
        return []

    def _is_in(self, epoch: int) -> bool:
        me = self._gossip.me
        return any(member.peer == me for member in self._gossip.facts.roster(epoch))
