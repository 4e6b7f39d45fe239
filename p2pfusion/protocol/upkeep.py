"""After the last round: what somebody shall have, and lacks, is made up for.

In rounds whoever lacks something asks for it as the next one begins. After the last one
nothing begins any more, but something may still be lacking: others did not have it yet
when they were asked, somebody was away, or dies. So a peer that is in the last round
looks again, and asks again, a few times with growing pauses; and anew when a member is
gone, or there. Then it rests: where nobody has a value, nobody is asked for ever.

Who is gone need not be agreed upon: a copy too many costs its transfer, and nothing
else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfusion.protocol.events import Effect, FindLacking, FoundLacking
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.restoring import Restoring
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.timing import LONG_AGO, NEVER_S
from p2pfusion.split.copies import upkept
from p2pfusion.split.keeping import count_cells, held_by
from p2pfusion.split.plan import ExchangePlan
from p2pfusion.split.restoring import Said

TRIES = 6
"""So often others are asked in a row, with 1, 2, 4, ... of a probe's intervals between:
for half a minute in a fast network, for five in a slow one. What takes others longer
shows as a change: they come, or are gone."""

PATIENCE_S = 30.0
"""When nothing of what was asked for has come for so long, whoever is there and does
not give it is left for another: six repetitions of a request fit. A round would end."""

FACTS_AHEAD_EPOCHS = 2
"""What facts say counts so many epochs later, and no epoch follows the last round's."""


@dataclass(frozen=True)
class Swarm:
    """Who is left of a swarm that is done."""

    members: frozenset[str] = frozenset()
    """Who was in it at the end, or has come since, and was not put out."""
    living: frozenset[str] = frozenset()
    """Who of them is not silent for so long that it seems gone for good."""
    among: frozenset[str] = frozenset()
    """Who of these can be asked, and is in the last round."""
    fades: bool = field(default=False, compare=False)
    """Whether somebody is silent, and will be gone if that goes on."""


class Upkeep:
    """When this peer looks for what it lacks, and who shall have what."""

    def __init__(self, gossip: Gossip, restoring: Restoring) -> None:
        self._gossip = gossip
        self._restoring = restoring
        self._plan: ExchangePlan | None = None
        """Of the last round, while this peer is in it."""
        self._swarm = Swarm()
        self._said: Said | None = None
        self._looks_at = LONG_AGO
        self.due_at = NEVER_S
        """When it looks next, if nothing is under way; never before the last round."""
        self._tries = 0
        self._received: tuple[tuple[int, int], ...] = ()
        self._received_at = 0.0
        """When more of what was asked for came, or something else was asked for."""
        self.is_asked = False
        """Whether the own side was asked what is lacking, and has not said yet."""
        self.lacking = 0
        """How many cells were lacking when that was last looked at."""

    def is_at_rest(self, now: float) -> bool:
        """Whether there is nothing to do, or nobody to ask, as long as nobody else is
        gone or there. Not before the last round."""
        waits = self.due_at != NEVER_S or self.is_asked or self._restoring.is_busy
        if self._plan is None or waits:
            return False
        swarm = self._left(self._plan, now)
        return swarm == self._swarm and not swarm.fades

    def deadline(self) -> float:
        """When ``look`` has something to do. Who comes or goes is seen when there is a
        probe to send, or to answer."""
        if self.due_at == NEVER_S or self.is_asked or self._restoring.is_busy:
            return NEVER_S
        return self.due_at

    def look(self, round_: Round | None, now: float) -> list[Effect]:
        """Asks the own side what is lacking, when it is time to."""
        manifest = self._gossip.manifest
        if manifest is None or round_ is None or round_.number < manifest.rounds:
            return []
        effects, interval_s = list[Effect](), self._gossip.detector.timing.interval_s
        if now >= self._looks_at:
            self._looks_at = now + interval_s
            effects += self._leave_idle(round_, now)
            swarm = self._left(round_.plan, now)
            if round_.plan is not self._plan or swarm != self._swarm:
                self._plan, self._swarm, self._said = round_.plan, swarm, None
                self._tries, self.due_at = 0, now + interval_s
        if now < self.deadline():
            return effects
        self.due_at = NEVER_S
        if self._gossip.me not in self._swarm.members:
            return effects
        self.is_asked, homes = True, self.said(round_.plan).homes
        trained = tuple(version > 0 for version in homes.version)
        cells = held_by(homes, trained, self._gossip.me)
        return [*effects, FindLacking(round_.number, cells)]

    def _leave_idle(self, round_: Round, now: float) -> list[Effect]:
        """Asks others, where nothing comes of what was asked for."""
        received = self._restoring.received
        if received != self._received:
            self._received, self._received_at = received, now
        if not received or now < self._received_at + PATIENCE_S:
            return []
        online = set(self._gossip.giving(now))
        return self._restoring.give_up(round_, online=online, now=now)

    def found(self, found: FoundLacking, now: float) -> bool:
        """The answer: what is lacking. Whether others are to be asked for it."""
        self.is_asked, self.lacking = False, count_cells(found.cells)
        if not self.lacking or self._tries >= TRIES:
            return False
        interval_s = self._gossip.detector.timing.interval_s
        self.due_at = now + interval_s * 2**self._tries
        self._tries += 1
        return True

    def said(self, plan: ExchangePlan) -> Said:
        """Who shall have what, and who can be asked; by the plan alone, unless it is
        that of the last round."""
        manifest = self._gossip.manifest
        if plan is not self._plan or manifest is None:
            return Said.by(plan)
        if self._said is None:
            swarm = self._swarm
            homes = upkept(
                plan.homes_after().with_peers(swarm.members),
                living=swarm.living,
                ranges=[grid.cells for grid in plan.grids],
                seed=manifest.seed,
                round_index=plan.round_index,
                replication=manifest.replication,
            )
            self._said = Said(homes, swarm.members, swarm.among)
        return self._said

    def _left(self, plan: ExchangePlan, now: float) -> Swarm:
        """Who is left. In a swarm of many most are heard of by others' words only."""
        gossip, detector = self._gossip, self._gossip.detector
        assert gossip.manifest is not None
        last = gossip.manifest.rounds
        epoch = gossip.manifest.epoch(last) + FACTS_AHEAD_EPOCHS
        there = {
            peer
            for peer in detector.contacts
            if gossip.claims.round_of(peer) == last or not detector.listens_to(peer)
        }
        names = {member.peer for member in gossip.facts.roster(epoch)}
        members = names & {*plan.peers, *there, gossip.me}
        wait_s = detector.timing.silence_s + detector.patience_s
        silent = detector.silent & members
        gone = {peer for peer in silent if now - detector.last_sign(peer) >= wait_s}
        living = members - gone - gossip.quarantine.peers
        return Swarm(
            frozenset(members),
            frozenset(living),
            frozenset(living.intersection(there, gossip.giving(now))),
            fades=gone != silent,
        )
