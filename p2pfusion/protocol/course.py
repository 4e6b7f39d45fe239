"""Which round a peer is in, and how it gets from one to the next.

A peer is *waiting* until the swarm has started, or until its join epoch is near; it is
*catching up* while it fetches the table of homes and enters a round that the others
train; it is *running* while it trains every round, and *done* after the last.

Membership changes only ever enter through the following splits. Peers whose facts
differed for a moment therefore disagree about one round's plan at most; one that finds
itself in the minority catches up like a newcomer.
"""

from __future__ import annotations

from dataclasses import replace

from p2pfusion.errors import LayoutError
from p2pfusion.protocol.draining import Draining
from p2pfusion.protocol.events import (
    Effect,
    EnterRound,
    Report,
    Resume,
    Seal,
)
from p2pfusion.protocol.exchange import Exchange
from p2pfusion.protocol.lateness import Pace
from p2pfusion.protocol.listed_round import make_round
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import BEFORE_START, Offer
from p2pfusion.protocol.phases import EXCHANGE
from p2pfusion.protocol.planning import PLANNER, Planner
from p2pfusion.protocol.report import round_details
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.schedule import Schedule
from p2pfusion.protocol.standing import DONE, RUNNING, Own
from p2pfusion.protocol.standing import Standing as Standing
from p2pfusion.protocol.tables import TABLE_PATIENCE_S, TableSearch
from p2pfusion.protocol.timing import NEVER_S
from p2pfusion.protocol.work import Work
from p2pfusion.split.homes import Homes

ALONE_AFTER_S = 5.0
"""After a restart, wait so long for others before going on from the own disk: longer
than a greeting and its answer take, shorter than a person's patience."""


class Course:
    """Decides when to enter, to seal and to catch up."""

    def __init__(self, exchange: Exchange, planner: Planner = PLANNER) -> None:
        self.exchange = exchange
        self.planner = planner
        self.schedule = Schedule(exchange.gossip, planner)
        self.gossip = exchange.gossip
        self._standing = Standing.NO_SWARM
        self.pause = exchange.pause
        self.tables = TableSearch(exchange)
        self.work = Work(exchange)
        self.draining = Draining(exchange)
        self.is_outside = False
        """Whether it was in rounds, and the others have put it out of the roster."""
        self._founder = False
        self._own: Own | None = None
        self._returning = False
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
    def standing(self) -> Standing:
        """Where this peer stands in the swarm."""
        if self._own is not None and self._own.lacks_quorum:
            return Standing.PAUSED
        in_rounds = self._standing in (RUNNING, Standing.CATCHING_UP)
        return Standing.PAUSED if in_rounds and self.pause.is_on else self._standing

    @property
    def _number(self) -> int | None:
        round_ = self.exchange.round
        return None if round_ is None else round_.number

    @property
    def round_index(self) -> int:
        """The round that this peer is in, or would go on from; 0 if in none."""
        before = self._own.next_round if self._own and self._returning else 0
        round_ = self.exchange.round
        return before if round_ is None else round_.number

    # --- Beginnings ------------------------------------------------------------------

    def found(self) -> None:
        """This peer made the manifest and decides when round 0 begins."""
        self._founder = True

    def prepare(self) -> None:
        """There is a manifest now: build what follows from it."""
        self.schedule.prepare()
        self._pace = Pace.of(self.manifest, self.pause.settling_s)
        self._standing = Standing.WAITING

    def resume(self, event: Resume, now: float) -> None:
        """Back after a restart: first hear how far the others are."""
        number = event.next_round
        self._own = Own(number, event.homes, number, now + ALONE_AFTER_S)
        self._returning = True

    def deadline(self, before: float) -> float:
        """When ``progress`` must be looked at even if nothing happens; ``before`` if
        not earlier."""
        own, due = self._own, before
        if self.pause.settled_at < due:
            due = self.pause.settled_at
        if self.draining.ends_at < due:
            due = self.draining.ends_at
        due = self.work.deadline(due)
        if own is None or not self._returning or own.lacks_quorum:
            return due
        return due if self._is_out or self.pause.is_held else min(due, own.alone_at)

    @property
    def _is_out(self) -> bool:
        """Whether this peer was put out: nothing is left to be done about rounds."""
        return self.gossip.me in self.gossip.facts.revoked

    def act_on_silence(self, now: float) -> list[Effect]:
        """Goes on without the silent, or stands still; after that, finds its place."""
        was_on, round_ = self.pause.is_on, self.exchange.round
        listened, due = self.pause.is_listening, self.pause.review(now)
        effects: list[Effect] = []
        if round_ is not None and (was_on or listened or round_.is_over):
            # What the others have done without us is not done once more.
            round_.is_over = self.gossip.claims.are_at(round_.number + 1, now)
            over = round_.is_over and not (self.pause.is_held or self.tables.is_on)
            if over and self._standing in (RUNNING, Standing.CATCHING_UP):
                effects += self._catch_up("the others went on", now)
        effects += self.exchange.act_on_silence(due, now)
        if self.pause.is_on and not was_on:
            effects.append(Report("paused", {"round": self.round_index}))
        return effects

    # --- Progress --------------------------------------------------------------------

    def progress(self, now: float) -> list[Effect]:
        """Whatever can be done about rounds at this moment."""
        if self._standing is Standing.NO_SWARM or self._is_out:
            return []
        effects: list[Effect] = []
        if self._standing in (Standing.WAITING, Standing.LEFT):
            effects += self._wait(now)
        elif not self.tables.is_on and self._is_behind(now):
            effects += self._catch_up("two rounds behind the others", now)
        if self.pause.is_held:
            return effects + self._drain(now)
        if self.tables.is_on:
            effects += self._fetch(now)
        round_ = self.exchange.round
        while round_ is not None and round_.complete():
            effects += self._sealed(round_, now)
            following = self.exchange.round
            round_ = following if following is not round_ else None
        return effects + self._drain(now)

    def is_settled(self) -> bool:
        """Whether a round waits for something, is not the last, and nothing else is
        under way: then ``progress`` has nothing to do, nor has the upkeep, and no
        silence is to be acted upon. It is so after nearly every event.

        Who runs looks for no table, and who drains ends its round first.
        """
        round_, pause = self.exchange.round, self.pause
        if round_ is None or self._standing is not RUNNING:
            return False
        if round_.phase is EXCHANGE and not round_.needs:
            return False
        if pause.is_held or pause.settled_at != NEVER_S or round_.is_over:
            return False
        return self.gossip.detector.furthest < round_.number + 2

    def _drain(self, now: float) -> list[Effect]:
        """Where this peer shall end, or has left: says when that costs nobody much."""
        ends = self._standing in (Standing.DRAINED, Standing.LEFT)
        if not ends and not self.draining.is_wanted:
            return []
        in_round = self._standing is RUNNING and not self.pause.is_on
        return self.draining.look(now, is_idle=ends or not in_round)

    def _wait(self, now: float) -> list[Effect]:
        """Waiting: for others after a restart, for the start, or for the join epoch."""
        if self._returning:
            return self._return(now)
        if self.is_outside:
            return self._come_back(now)
        facts = self.gossip.facts
        if not facts.start:
            return self._start(now) if self._founder else []
        if not facts.records.keys() >= set(facts.start):
            return []  # the news of a member is slower than that of the start
        if self.gossip.me in facts.start:
            self.schedule.expect(0)
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

    def _come_back(self, now: float) -> list[Effect]:
        """Put out of the roster, or gone by itself: waits for its new join epoch."""
        seen = self.gossip.claims.observed_round(now)
        if seen >= 0 and self.schedule.has_left(seen):
            self._standing = Standing.LEFT  # no round of its own will show it
        target = self.schedule.target(seen, self._number)
        stays = seen < 0 or self.draining.is_wanted
        if stays or not self.schedule.takes_part(target):
            return []
        self.is_outside = False
        self.draining.again()
        return self._catch_up("back in the roster", now)

    def _step_out(self, number: int) -> list[Effect]:
        """The round goes on without this peer, which is in no roster any more."""
        has_left = self.schedule.has_left(number)
        self._standing = Standing.LEFT if has_left else Standing.WAITING
        self.is_outside, self._returning, self._own = True, False, None
        self.tables.end()
        if self.exchange.round is not None:
            self.exchange.round.is_over = True
        return [Report("outside", {"round": number})]

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
        assert self._own is not None
        facts, claims = self.gossip.facts, self.gossip.claims
        epoch = facts.join_epoch(self.gossip.record)
        if (
            not facts.start
            or epoch is None
            or self._own.next_round < self.schedule.first(epoch)
        ):
            # Nothing but a newcomer yet: go on waiting.
            self._own, self._returning = None, False
            return self._wait(now)
        if claims.observed_round(now) > self._own.limit:
            self._returning = False
            return self._catch_up("back after a restart", now)
        if claims.all_heard(self.gossip.others(), now):
            return self._enter_own(self._own, now)
        own, number = self._own, self._own.next_round
        if now < own.alone_at and not own.lacks_quorum:
            return []
        is_last = number >= self.manifest.rounds
        reaches = is_last or self.pause.reaches_quorum(number, now)
        if reaches and own.lacks_quorum:
            # Others that come back at the same time are heard as well.
            self._own = replace(own, lacks_quorum=False, alone_at=now + ALONE_AFTER_S)
            return []
        if not reaches:
            self._own = replace(own, lacks_quorum=True)
            return []
        return self._enter_own(own, now)

    def _enter_own(self, own: Own, now: float) -> list[Effect]:
        """Goes on from what this peer has, without the others' table."""
        self.schedule.expect(own.next_round)
        return self._enter(own.next_round, own.homes, now=now)

    def _is_behind(self, now: float) -> bool:
        round_ = self.exchange.round
        if round_ is None or self._standing is DONE:
            return False
        return self.gossip.claims.are_at(round_.number + 2, now)

    # --- Catching up -----------------------------------------------------------------

    def _catch_up(self, why: str, now: float) -> list[Effect]:
        self._standing = Standing.CATCHING_UP
        self.tables.begin()
        return [Report("catching-up", {"why": why})]

    def _fetch(self, now: float) -> list[Effect]:
        """Gets the table of homes for the next round that can be entered."""
        table = self.exchange.table.take()
        if table is not None:
            return self._enter_with(table, now)
        seen, own = self.gossip.claims.observed_round(now), self._own
        if own is not None and seen <= own.limit and now >= own.alone_at:
            return self._enter_own(own, now)  # whoever was further is gone
        if seen < 0:
            return []
        return self.tables.ask(seen, self.schedule.target(seen, self._number), now)

    def _enter_with(self, table: bytes, now: float) -> list[Effect]:
        own = self.exchange.round
        try:
            homes = Homes.from_bytes(self.manifest.layout, table)
            if own is not None and own.number >= self.tables.target:
                return []
            self.schedule.expect(self.tables.target, anew=True)
            return self._enter(self.tables.target, homes, now=now, catches_up=True)
        except LayoutError as error:
            return [Report("protocol-error", {"reason": f"table of homes: {error}"})]

    # --- Rounds ----------------------------------------------------------------------

    def _enter(
        self, number: int, homes: Homes, *, now: float, catches_up: bool = False
    ) -> list[Effect]:
        """Plans a round and begins it, unless it goes on without this peer."""
        if not self.schedule.takes_part(number):
            return self._step_out(number)
        manifest, me = self.manifest, self.gossip.me
        last = number >= manifest.rounds
        current, following = self.schedule.advance(number)
        plan = self.planner.plan(manifest, number, current, following, homes)
        trains = me in current and not catches_up
        round_ = make_round(
            manifest,
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
        self.tables.end()
        self._returning = False
        self._own = None
        self._standing = Standing.CATCHING_UP if catches_up else RUNNING
        self.work.is_back |= catches_up
        effects: list[Effect] = [
            *self.exchange.forget(number - 1, now),
            EnterRound(plan, homes),
        ]
        if trains:
            effects += self.work.start(number, current[me], following.get(me))
        elif me in current:
            effects += self.exchange.offering.announce(
                Offer(number, plan.digest, 0, 0.0, 0.0, 0.0)
            )
        effects += round_.begin(self.exchange.online(now), now)
        effects += self.work.entered(now)
        if last and not catches_up:
            self._standing = DONE
            effects.append(Report("done", {"rounds": manifest.rounds}))
        return effects

    def _sealed(self, round_: Round, now: float) -> list[Effect]:
        """A round is complete: make it durable and enter the next."""
        if round_.number >= self.manifest.rounds:
            if self._standing is DONE:
                return []
            self._standing = DONE
            return [Report("done", {"rounds": self.manifest.rounds})]
        for peer in sorted(round_.attendance.lost):
            round_.lose(peer, self.gossip.why_absent(peer, now))
        homes = self.planner.homes_after(round_.plan)
        effects: list[Effect] = [
            Seal(round_.number + 1, homes),
            Report("round-sealed", round_details(round_, now)),
        ]
        if round_.attendance.is_minority(round_.plan.digest, round_.me):
            # The others need so long, at most, to be in the next round as well.
            alone_at = now + self.pace.lateness.maximum_s + TABLE_PATIENCE_S
            self._own = Own(round_.number + 1, homes, round_.number, alone_at)
            return effects + self._catch_up("planned with other facts than most", now)
        self.tables.forgive()
        if self.draining.is_wanted:
            self._standing = Standing.DRAINED
            return effects
        return effects + self._enter(round_.number + 1, homes, now=now)
