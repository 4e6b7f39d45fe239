"""Which round a peer is in, and how it gets from one to the next.

A peer is *waiting* until the swarm has started, or until its join epoch is near; it is
*catching up* while it fetches the table of homes and enters a round that the others
train; it is *running* while it trains every round, and *done* after the last.

The split that a round's plan gives a peer for the next round is the one that it trains
there, whatever facts arrive in between: membership changes only ever enter through the
following splits. Peers whose facts differed for a moment therefore disagree about one
round's plan at most; one that finds itself in the minority catches up like a newcomer.
"""

from __future__ import annotations

import math
from collections import Counter
from enum import StrEnum

from p2pfusion.errors import LayoutError
from p2pfusion.methods import build_method
from p2pfusion.methods.base import Method, PlanContext
from p2pfusion.protocol.events import (
    Effect,
    EnterRound,
    Report,
    Resume,
    Seal,
    StartTraining,
    TrainingFailed,
    TrainingFinished,
)
from p2pfusion.protocol.exchange import Exchange
from p2pfusion.protocol.lateness import Lateness, Pace
from p2pfusion.protocol.manifest import WIRE_DTYPE_BYTES, Manifest
from p2pfusion.protocol.messages import BEFORE_START, Offer
from p2pfusion.protocol.report import round_details
from p2pfusion.protocol.round import Phase, Round
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import plan_round
from p2pfusion.split.segment import Split

ALONE_AFTER_S = 5.0
"""After a restart, wait so long for others before going on from the own disk: longer
than a greeting and its answer take, shorter than a person's patience."""

TABLE_PATIENCE_S = 10.0
"""The others are in the round already, but the table of one does not come: after so
long another is asked. Three repetitions of a lost request fit."""

TABLE_PAUSE_S = 1.0
"""When nobody's table helped, everybody is asked again after this pause."""


class Standing(StrEnum):
    """Where this peer stands in the swarm."""

    NO_SWARM = "no swarm"
    WAITING = "waiting"
    CATCHING_UP = "catching up"
    RUNNING = "running"
    DONE = "done"


class Course:
    """Decides when to enter, to seal and to catch up."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.gossip = exchange.gossip
        self.standing = Standing.NO_SWARM
        self.target = -1
        self._founder = False
        self._resume: tuple[float, int, Homes] | None = None
        self._fetching = False
        self._asked: set[str] = set()
        self._ask_again_at = 0.0
        self._table_seen: tuple[int | None, float] = (None, 0.0)
        self._following: dict[str, Split] = {}
        self._following_round = -1
        self._method: Method | None = None
        self._pace: Pace | None = None

    @property
    def manifest(self) -> Manifest:
        """The swarm's manifest; only asked for where there is one."""
        assert self.gossip.manifest is not None
        return self.gossip.manifest

    @property
    def pace(self) -> Pace:
        """How long to wait, from the manifest."""
        assert self._pace is not None
        return self._pace

    @property
    def round_index(self) -> int:
        """The round that this peer is in, or would go on from; 0 if in none."""
        before = self._resume[1] if self._resume else 0
        return max(self.exchange.rounds, default=before)

    # --- Beginnings ------------------------------------------------------------------

    def found(self) -> None:
        """This peer made the manifest and decides when round 0 begins."""
        self._founder = True

    def prepare(self) -> None:
        """There is a manifest now: build what follows from it."""
        manifest = self.manifest
        self._method = build_method(manifest.method, manifest.method_arguments)
        lateness = Lateness(
            minimum_s=manifest.deadline_min_s,
            maximum_s=manifest.deadline_max_s,
            mads=manifest.deadline_mads,
        )
        wire_bytes = WIRE_DTYPE_BYTES[manifest.wire_dtype]
        by_samples = manifest.weighting == "samples"
        self._pace = Pace(lateness, wire_bytes, by_samples)
        self.standing = Standing.WAITING

    def resume(self, event: Resume, now: float) -> None:
        """Back after a restart: first hear how far the others are."""
        self._resume = (now + ALONE_AFTER_S, event.next_round, event.homes)

    def deadline(self) -> float | None:
        """When ``progress`` must be looked at even if nothing happens."""
        return self._resume[0] if self._resume and not self._is_out else None

    @property
    def _is_out(self) -> bool:
        """Whether this peer was put out: nothing is left to be done about rounds."""
        return self.gossip.me in self.gossip.facts.revoked

    # --- Progress --------------------------------------------------------------------

    def progress(self, now: float) -> list[Effect]:
        """Whatever can be done about rounds at this moment."""
        if self.standing is Standing.NO_SWARM or self._is_out:
            return []
        effects: list[Effect] = []
        if self.standing is Standing.WAITING:
            effects += self._wait(now)
        elif not self._fetching and self._is_behind(now):
            effects += self._catch_up("two rounds behind the others", now)
        if self._fetching:
            effects += self._fetch(now)
        round_ = self.exchange.round
        while round_ is not None and round_.complete():
            effects += self._sealed(round_, now)
            following = self.exchange.round
            round_ = following if following is not round_ else None
        return effects

    def _wait(self, now: float) -> list[Effect]:
        """Waiting: for others after a restart, for the start, or for the join epoch."""
        if self._resume is not None:
            return self._return(now)
        facts = self.gossip.facts
        if not facts.start:
            return self._start(now) if self._founder else []
        if not facts.records.keys() >= set(facts.start):
            return []  # the news of a member is slower than that of the start
        if self.gossip.me in facts.start:
            self._expect(0)
            return self._enter(0, Homes.initial(self.manifest.layout), now=now)
        seen = self.gossip.claims.observed_round(now)
        if seen < 0:
            return []
        effects: list[Effect] = []
        if self.gossip.record.join_epoch == BEFORE_START:
            epoch = self.manifest.epoch(seen) + 2
            effects += self.gossip.renew(join_epoch=epoch)
            effects.append(Report("admitted", {"epoch": epoch}))
        return effects + self._catch_up("joining", now)

    def _start(self, now: float) -> list[Effect]:
        """The founder starts round 0 as soon as enough members are connected."""
        online = {*self.gossip.detector.online(now), self.gossip.me}
        if len(online) < self.manifest.min_peers:
            return []
        effects = self.gossip.begin(online)
        return [*effects, Report("started", {"members": sorted(online)})]

    def _return(self, now: float) -> list[Effect]:
        """After a restart: catch up with others, or go on from the own disk.

        Whoever is further may be the last to answer, so all are heard first, or as many
        as answer in time.
        """
        assert self._resume is not None
        alone_at, next_round, homes = self._resume
        facts = self.gossip.facts
        if not facts.start or facts.join_epoch(self.gossip.record) is None:
            # Not a member yet: go on waiting for that.
            self._resume = None
            return self._wait(now)
        if self.gossip.claims.observed_round(now) > next_round:
            self._resume = None
            return self._catch_up("back after a restart", now)
        if now < alone_at and not self.gossip.claims.all_heard(
            self.gossip.others(), now
        ):
            return []
        self._resume = None
        self._expect(next_round)
        return self._enter(next_round, homes, now=now)

    def _is_behind(self, now: float) -> bool:
        round_ = self.exchange.round
        done = self.standing is Standing.DONE
        if done or round_ is None:
            return False
        return self.gossip.claims.are_at(round_.number + 2, now)

    # --- Catching up -----------------------------------------------------------------

    def _catch_up(self, why: str, now: float) -> list[Effect]:
        self.standing = Standing.CATCHING_UP
        self._fetching, self.target = True, -1
        self.exchange.cancel_table()
        return [Report("catching-up", {"why": why})]

    def _fetch(self, now: float) -> list[Effect]:
        """Gets the table of homes for the next round that can be entered."""
        table = self.exchange.take_table()
        if table is not None:
            return self._enter_with(table, now)
        seen = self.gossip.claims.observed_round(now)
        if seen < 0 or now < self._ask_again_at or self._table_comes(seen, now):
            return []
        source = self.gossip.claims.furthest(seen + 1, now, but=self._asked)
        if source is None:
            self._asked.clear()
            self._ask_again_at = now + TABLE_PAUSE_S
            return []
        self._asked.add(source)
        self.target = self._target(seen)
        self._table_seen = (0, now)
        return self.exchange.pull_table(source, self.target, now)

    def _table_comes(self, seen: int, now: float) -> bool:
        """Whether a table was asked for that may still come."""
        progress = self.exchange.table_progress
        if progress is None:
            return False
        if seen < self.target or progress != self._table_seen[0]:
            self._table_seen = (progress, now)
        return now - self._table_seen[1] < TABLE_PATIENCE_S

    def _target(self, seen: int) -> int:
        """The next round that can be entered: the others are not in it yet."""
        own = self.exchange.round
        epoch = self.gossip.facts.join_epoch(self.gossip.record) or 0
        first = epoch * self.manifest.rounds_per_epoch
        following = seen + 1 if own is None else max(seen, own.number) + 1
        return min(max(first - 1, following), self.manifest.rounds)

    def _enter_with(self, table: bytes, now: float) -> list[Effect]:
        try:
            homes = Homes.from_bytes(self.manifest.layout, table)
        except LayoutError as error:
            return [Report("protocol-error", {"reason": f"table of homes: {error}"})]
        own = self.exchange.round
        if own is not None and own.number >= self.target:
            return []
        self._following_round = -1
        self._expect(self.target)
        try:
            return self._enter(self.target, homes, now=now, catches_up=True)
        except LayoutError as error:
            return [Report("protocol-error", {"reason": f"table of homes: {error}"})]

    # --- Rounds ----------------------------------------------------------------------

    def splits(self, round_index: int) -> dict[str, Split]:
        """Every member's split in a round, by the facts known now."""
        manifest, method = self.manifest, self._method
        assert method is not None
        roster = self.gossip.facts.roster(manifest.epoch(round_index))
        context = PlanContext(manifest.seed, manifest.rounds, manifest.layout, roster)
        return {
            member.peer: method.split(context, round_index, rank)
            for rank, member in enumerate(roster)
        }

    def _expect(self, round_index: int) -> None:
        """Without a previous round, current splits follow from the facts."""
        if self._following_round != round_index:
            self._following = self.splits(round_index)
            self._following_round = round_index

    def _enter(
        self, number: int, homes: Homes, *, now: float, catches_up: bool = False
    ) -> list[Effect]:
        """Plans a round and begins it."""
        manifest, me = self.manifest, self.gossip.me
        last = number >= manifest.rounds
        current = {} if last else self._following
        self._following = self._following if last else self.splits(number + 1)
        self._following_round = number + 1
        plan = plan_round(
            manifest.layout,
            seed=manifest.seed,
            round_index=number,
            current=current,
            following=self._following,
            homes=homes,
        )
        trains = me in current and not catches_up
        round_ = Round(
            plan,
            me,
            self.exchange.pulls,
            self.pace,
            splits=current,
            trains=trains,
            catches_up=catches_up,
            started_at=now,
        )
        self.exchange.enter(round_, homes)
        self.exchange.cancel_table()
        self._fetching = False
        self.standing = Standing.CATCHING_UP if catches_up else Standing.RUNNING
        effects: list[Effect] = [
            *self.exchange.forget(number - 1, now),
            EnterRound(plan, homes),
        ]
        if trains:
            rate = manifest.learning_rate_at(number)
            effects.append(StartTraining(number, current[me], rate))
        elif me in current:
            effects += self.gossip.announce(
                Offer(number, plan.digest, 0, 0.0, 0.0, 0.0)
            )
        effects += round_.begin(self.exchange.online(now), now)
        if last and not catches_up:
            self.standing = Standing.DONE
            effects.append(Report("done", {"rounds": manifest.rounds}))
        return effects

    def _sealed(self, round_: Round, now: float) -> list[Effect]:
        """A round is complete: make it durable and enter the next."""
        if round_.number >= self.manifest.rounds:
            if self.standing is Standing.DONE:
                return []
            self.standing = Standing.DONE
            return [Report("done", {"rounds": self.manifest.rounds})]
        for peer in sorted(round_.lost):
            round_.lose(peer, self.gossip.why_absent(peer, now))
        homes = round_.plan.homes_after()
        effects: list[Effect] = [
            Seal(round_.number + 1, homes),
            Report("round-sealed", round_details(round_, now)),
        ]
        if self._in_minority(round_):
            return effects + self._catch_up("planned with other facts than most", now)
        self._asked.clear()
        return effects + self._enter(round_.number + 1, homes, now=now)

    @staticmethod
    def _in_minority(round_: Round) -> bool:
        """Whether more peers made another plan than ours; ties go to one side."""
        digests = Counter(offer.digest for _, offer in round_.offers.values())
        digests[round_.plan.digest] += 1
        winner = max(digests, key=lambda digest: (digests[digest], digest))
        return winner != round_.plan.digest

    # --- The trainer's word ----------------------------------------------------------

    def trained(self, event: TrainingFinished, now: float) -> list[Effect]:
        """The own values of a round are ready: tell everybody."""
        round_ = self.exchange.rounds.get(event.round_index)
        if round_ is None or round_.phase is not Phase.TRAIN:
            return []
        if event.samples < 1 or not math.isfinite(event.loss + event.norm):
            text = f"loss {event.loss}, norm {event.norm} of {event.samples} samples"
            return self.training_failed(TrainingFailed(round_.number, text), now)
        offer = Offer(
            round_.number,
            round_.plan.digest,
            event.samples,
            event.loss,
            event.norm,
            event.seconds,
        )
        return round_.trained(offer, now) + self.gossip.announce(offer)

    def training_failed(self, event: TrainingFailed, now: float) -> list[Effect]:
        """No values this round: tell everybody not to wait."""
        round_ = self.exchange.rounds.get(event.round_index)
        if round_ is None or round_.phase is not Phase.TRAIN:
            return []
        none = Offer(round_.number, round_.plan.digest, 0, 0.0, 0.0, 0.0)
        details = {"round": event.round_index, "reason": event.reason}
        return [
            *round_.failed(event.reason, now),
            *self.gossip.announce(none),
            Report("training-failed", details),
        ]
