"""What admins say of others: who is put out, and who is lost.

A *revocation* puts one peer out for good. A *recovery* names those with whom nobody
reckons any more, so that the rest can go on; they may come back. What an admin says
who is put out itself is void, also if it was said before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from p2pfusion.protocol.memberships import Memberships, Standing
from p2pfusion.protocol.messages import PeerRecord, Recovery, Revocation
from p2pfusion.protocol.statements import (
    RecoveryFact,
    RevocationFact,
    read_recovery,
    read_revocation,
)
from p2pfusion.protocol.tally import Tally


@dataclass(frozen=True)
class Verdict:
    """A revocation, read and checked."""

    fact: RevocationFact
    depth: int
    """Admissions between the founder and whoever says so."""
    revocation: Revocation

    @property
    def place(self) -> tuple[str, str]:
        """Of two with the same one counts."""
        return (self.fact.by, self.fact.peer)

    @property
    def order(self) -> tuple[object, ...]:
        """Of two by one admin about one peer the smaller counts, so the earlier epoch:
        nobody comes back by a second one. No two different ones are equal."""
        said, signed = self.fact, self.revocation.statement
        what = (said.epoch, said.by, said.reason, self.depth)
        return (*what, self.revocation.credential, signed.payload, signed.signature)


@dataclass(frozen=True)
class Loss:
    """A recovery, read and checked."""

    fact: RecoveryFact
    depth: int
    recovery: Recovery

    @property
    def place(self) -> bytes:
        """Two with the same say the same, and one counts."""
        return self.recovery.statement.payload

    @property
    def order(self) -> tuple[object, ...]:
        """Of two that say the same the smaller counts. No two are equal."""
        signature = self.recovery.statement.signature
        return (self.depth, self.recovery.credential, signature)


class Decrees:
    """All that admins have said, and what follows from it."""

    def __init__(
        self,
        members: Memberships,
        tally: Tally,
        join_epoch: Callable[[PeerRecord], int | None],
    ) -> None:
        self._members = members
        self._tally = tally
        self._join_epoch = join_epoch
        self.revocations: dict[tuple[str, str], Verdict] = {}
        self.recoveries: dict[bytes, Loss] = {}
        self._known: set[Revocation | Recovery] = set()
        self._revoked: dict[str, RevocationFact] | None = {}
        self._lost: dict[str, RecoveryFact] | None = {}

    def read_revocation(self, revocation: Revocation) -> Verdict | None:
        """A revocation, checked; None if it is kept already."""
        if revocation in self._known:
            return None
        signed, members = revocation.statement, self._members
        fact = read_revocation(signed, members.scheme, swarm=members.swarm)
        shown = revocation.credential
        depth = members.admin_depth(fact.key, shown, "a revocation")
        return Verdict(fact, depth, revocation)

    def read_recovery(self, recovery: Recovery) -> Loss | None:
        """A recovery, checked; None if it is kept already."""
        if recovery in self._known:
            return None
        signed, members = recovery.statement, self._members
        fact = read_recovery(signed, members.scheme, swarm=members.swarm)
        depth = members.admin_depth(fact.key, recovery.credential, "a recovery")
        return Loss(fact, depth, recovery)

    def keep_verdict(self, verdict: Verdict) -> bool:
        """Takes a revocation up; False if another by the same admin counts."""
        known = self.revocations.get(verdict.place)
        about = verdict.fact.peer.encode()
        if known is not None:
            if known.order <= verdict.order:
                return False
            self._known.discard(known.revocation)
            self._tally.remove("revocation", about, known.revocation)
        self.revocations[verdict.place] = verdict
        self._known.add(verdict.revocation)
        self._tally.add("revocation", about, verdict.revocation)
        self._revoked = self._lost = None
        return True

    def keep_loss(self, loss: Loss) -> bool:
        """Takes a recovery up; False if it is known, shown with another chain."""
        known = self.recoveries.get(loss.place)
        if known is not None:
            if known.order <= loss.order:
                return False
            self._known.discard(known.recovery)
            self._tally.remove("recovery", loss.place, known.recovery)
        self.recoveries[loss.place] = loss
        self._known.add(loss.recovery)
        self._tally.add("recovery", loss.place, loss.recovery)
        self._lost = None
        return True

    def members_changed(self, *, admissions: bool) -> None:
        """There are new records; or new chains of admissions, too."""
        if admissions and self.revocations:
            self._revoked = None
        if self.recoveries:
            self._lost = None

    @property
    def revoked(self) -> dict[str, RevocationFact]:
        """Who is out, and by whose word."""
        if self._revoked is None:
            self._revoked = self._put_out()
        return self._revoked

    def _put_out(self) -> dict[str, RevocationFact]:
        """An admin puts out members, and admins farther from the founder than itself.

        Taken in order of that distance, no two words can contradict each other. Whom a
        revoked admin has admitted goes with it.
        """
        out: dict[str, RevocationFact] = {}
        for verdict in sorted(
            self.revocations.values(), key=lambda v: (v.depth, v.order)
        ):
            fact = verdict.fact
            allowed = self._may(verdict, self._members.standings.get(fact.peer))
            if allowed and fact.by not in out and fact.peer not in out:
                out[fact.peer] = fact
                for peer in self._members.admitted_through(fact.peer):
                    out.setdefault(peer, fact)
        return out

    def _may(self, verdict: Verdict, its: Standing | None) -> bool:
        return its is None or its.depth > verdict.depth or its.role != "admin"

    @property
    def lost(self) -> dict[str, RecoveryFact]:
        """Who is lost, and by whose word: of several the one that counts first."""
        if self._lost is None:
            said = (each.fact for each in self.recoveries.values())
            self._lost = self._fold_losses(f for f in said if f.by not in self.revoked)
        return self._lost

    def _fold_losses(self, said: Iterable[RecoveryFact]) -> dict[str, RecoveryFact]:
        lost: dict[str, RecoveryFact] = {}
        for fact in sorted(said, key=lambda f: (f.epoch, f.by, f.reason, f.peers)):
            for peer in fact.peers:
                record = self._members.records.get(peer)
                joined = 0 if record is None else self._join_epoch(record) or 0
                if record is not None and joined <= fact.epoch:
                    lost.setdefault(peer, fact)
        return lost
