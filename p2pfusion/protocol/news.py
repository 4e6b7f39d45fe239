"""What news of membership means for people, and for who counts as there.

Facts merge silently; this is where a change in them becomes a report, once: somebody
is accused, says that it is there, is evicted, comes back, leaves, is declared lost.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pfusion.protocol.detector import Detector
from p2pfusion.protocol.events import Effect, Report
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.messages import NEVER, Facts, PeerRecord
from p2pfusion.protocol.statements import read_accusation, read_recovery


class News:
    """Compares the facts before and after."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._evicted: set[str] = set()
        self._is_due = False

    def told(
        self,
        facts: FactSet,
        new: Facts,
        before: Mapping[str, PeerRecord],
        *,
        at_once: bool = True,
    ) -> list[Effect]:
        """What is new; ``before``: the records of those whose record is. Not at once:
        who is evicted by it is told when somebody asks for ``evictions``."""
        effects: list[Effect] = []
        for membership in new.members:
            record = facts.record_of(membership)
            old = before.get(record.peer)
            if old is not None:
                effects += self._renewed(facts, record, old)
        for signed in new.accusations:
            said = read_accusation(signed, facts.scheme, swarm=facts.swarm)
            details = {"peer": said.peer, "by": said.by, "epoch": said.epoch}
            effects.append(Report("accused", details))
        for recovery in new.recoveries:
            lost = read_recovery(recovery.statement, facts.scheme, swarm=facts.swarm)
            out = {"peers": lost.peers, "by": lost.by, "epoch": lost.epoch}
            effects.append(Report("recovered", {**out, "reason": lost.reason}))
            for peer in lost.peers:
                self._detector.gone(peer)
        self._is_due = self._is_due or bool(new.accusations or self._evicted)
        return effects + (self.evictions(facts) if at_once else [])

    def _renewed(
        self, facts: FactSet, record: PeerRecord, old: PeerRecord
    ) -> list[Effect]:
        effects: list[Effect] = []
        if record.leave_epoch != NEVER and old.leave_epoch == NEVER:
            details = {"peer": record.peer, "epoch": record.leave_epoch}
            effects.append(Report("left", details))
            return effects
        self._detector.back(record.peer)
        if record.refutes_epoch not in (NEVER, old.refutes_epoch):
            effects.append(Report("refuted", {"peer": record.peer}))
        was_out = record.peer in self._evicted or old.leave_epoch != NEVER
        if record.join_epoch > old.join_epoch and was_out:
            details = {"peer": record.peer, "epoch": record.join_epoch}
            effects.append(Report("rejoined", details))
        return effects

    def evictions(self, facts: FactSet) -> list[Effect]:
        """Whom the accusations that are known now put out of the roster."""
        if not self._is_due:
            return []
        self._is_due = False
        evicted = facts.evicted
        new = sorted(evicted.keys() - self._evicted)
        self._evicted = set(evicted)
        for peer in new:
            self._detector.gone(peer)
        return [Report("evicted", {"peer": p, "epoch": evicted[p]}) for p in new]
