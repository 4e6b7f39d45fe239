"""What the own trainer gives: offers to the others, in the round or too late for it."""

from __future__ import annotations

import math

from p2pfusion.limits import MAX_AMOUNT
from p2pfusion.protocol.events import (
    Effect,
    Hashed,
    HashOffer,
    Moved,
    OfferLate,
    Report,
    StartTraining,
    TrainingFailed,
    TrainingFinished,
)
from p2pfusion.protocol.exchange import Exchange
from p2pfusion.protocol.merkle import tree
from p2pfusion.protocol.messages import NEVER, Offer
from p2pfusion.protocol.phases import TRAIN
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.stragglers import TOO_SLOW_ROUNDS
from p2pfusion.protocol.timing import NEVER_S
from p2pfusion.split.segment import Split


class Work:
    """The trainer's word, and what this peer says about it.

    A training may end when its round is over: the others, or this peer, are in a later
    one. Then it is offered there, as long as that round is not trained yet. And it may
    end before its round has begun here (``delay.py``): then it is offered when that
    begins.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._begun: set[int] = set()
        self._following: StartTraining | None = None
        self._ahead: TrainingFinished | TrainingFailed | None = None
        self._late: TrainingFinished | None = None
        self._late_rounds = 0
        self.is_back = False
        """Whether this peer has caught up with the others, and trained nothing since.
        """
        self._offered: tuple[int, TrainingFinished] | None = None
        self._hashing: tuple[int, TrainingFinished] | None = None
        """What is to be offered in a round, until its contents are hashed."""

    def start(self, number: int, split: Split, following: Split | None) -> list[Effect]:
        """A round is trained, unless that has begun already, or something that came too
        late takes its place. ``following``: the own split of the next round."""
        manifest = self._exchange.gossip.manifest
        assert manifest is not None
        rate = manifest.learning_rate_at(number)
        training = StartTraining(number, split, rate, if_ready=self.is_back)
        self._following = None
        if manifest.overlaps(split, following) and number + 1 < manifest.rounds:
            rate = manifest.learning_rate_at(number + 1)
            self._following = StartTraining(number + 1, split, rate, goes_on=True)
        ahead = self._ahead
        if number in self._begun or (ahead and ahead.round_index == number):
            return []
        if isinstance(ahead, TrainingFinished):  # its round was passed over
            self._late, self._ahead = ahead, None
        if self._late is not None and self._age(self._late, number) is not None:
            return []
        self._begun.add(number)
        return [training]

    def entered(self, now: float) -> list[Effect]:
        """A round has begun: what is trained already, or came too late, is offered."""
        ahead, self._ahead = self._ahead, None
        if isinstance(ahead, TrainingFailed):
            return self.failed(ahead, now)
        if ahead is not None:
            self._begun.add(ahead.round_index)
            return self.trained(ahead, now)
        return self.offer_late(now)

    def _go_on(self) -> list[Effect]:
        """The next round is trained while this one is exchanged, if the split stays."""
        following, self._following = self._following, None
        if following is None:
            return []
        self._begun.add(following.round_index)
        return [following]

    def _age(self, event: TrainingFinished, number: int) -> int | None:
        """How many rounds too late something is; None if that is too many."""
        late = number - event.round_index
        return late if late <= self._exchange.max_staleness else None

    # --- The trainer's word ----------------------------------------------------------

    def trained(self, event: TrainingFinished, now: float) -> list[Effect]:
        """Values are ready: tell everybody, in their round or in a later one."""
        if event.round_index not in self._begun:
            return []
        is_finite = math.isfinite(event.loss + event.norm)
        if event.samples < 1 or not is_finite or not 0.0 <= event.l1 <= MAX_AMOUNT:
            text = f"loss {event.loss}, norm {event.norm} of {event.samples} samples"
            return self.failed(TrainingFailed(event.round_index, text), now)
        self._begun.discard(event.round_index)
        self.is_back = False
        round_ = self._exchange.round
        if round_ is None:
            return []
        if round_.number < event.round_index:
            self._ahead = event
            return []
        in_time = round_.number == event.round_index and round_.phase is TRAIN
        if in_time and not self._is_useless(round_, now):
            self._late_rounds = 0
            return self._offer(round_, event, now) + self._go_on()
        self._late = event
        effects = self._count_late(event, max(1, round_.number - event.round_index))
        if in_time:
            return effects + self._nothing(round_, "too late for this round", now)
        return effects + self.offer_late(now)

    def moved(self, event: Moved) -> None:
        """What this peer has fused in a round has changed by so much."""
        exchange = self._exchange
        exchange.steps.add(exchange.gossip.me, event.round_index, event.l1)

    def _moved(self, round_: Round) -> float:
        exchange = self._exchange
        return exchange.steps.of(exchange.gossip.me, round_.number - 1)

    def left_out(self, number: int) -> None:
        """What was offered in a round does not count there: it comes too late."""
        if self._offered is not None and self._offered[0] == number:
            self._late, self._offered = self._offered[1], None

    def _offer(
        self, round_: Round, event: TrainingFinished, now: float
    ) -> list[Effect]:
        """Offers something; before, where others reduce some of it, the own side says
        what each of them will get."""
        reducers = tuple(sorted(round_.plan.reducers_of(round_.me)))
        if not reducers:
            return self._say(round_, event, Hashed(round_.number, ()), now)
        self._hashing = (round_.number, event)
        return [HashOffer(round_.number, reducers)]

    def hashed(self, hashed: Hashed, now: float) -> list[Effect]:
        """What is to be offered is known in full; its round may be over by now."""
        number, event = self._hashing or (-1, None)
        if event is None or number != hashed.round_index:
            return []
        self._hashing, round_ = None, self._exchange.round
        is_present = round_ is not None and round_.number == number
        if round_ is not None and is_present and round_.phase is TRAIN:
            return self._say(round_, event, hashed, now)
        self._late = event
        return self.offer_late(now)

    def _say(
        self, round_: Round, event: TrainingFinished, hashed: Hashed, now: float
    ) -> list[Effect]:
        late = event.round_index < round_.number
        contents, proofs = tree(hashed.digests)
        offer = Offer(
            round_.number,
            round_.plan.digest,
            event.samples,
            event.loss,
            event.norm,
            event.seconds,
            event.round_index if late else NEVER,
            event.l1,
            self._moved(round_),
            contents,
        )
        self._offered = (round_.number, event)
        told = self._exchange.offering.announce(offer, proofs)
        return round_.trained(offer, now) + told

    def deadline(self, before: float = NEVER_S) -> float:
        """When ``tick`` has something to do, ``before`` if not earlier: never while
        rounds stand still."""
        round_ = self._exchange.round
        if round_ is None or round_.phase is not TRAIN or round_.held:
            return before
        given_up_at = round_.attendance.given_up_at()
        if given_up_at is None or given_up_at >= before:
            return before
        return given_up_at if self._may_offer_later(round_) else before

    def tick(self, now: float) -> list[Effect]:
        """The others go on without the own values. So does this peer, or they would
        wait for what it adds up; its training goes on, and is offered later."""
        round_ = self._exchange.round
        if round_ is None or now < self.deadline():
            return []
        return self._nothing(round_, "too slow for this round", now)

    def _may_offer_later(self, round_: Round) -> bool:
        manifest = self._exchange.gossip.manifest
        assert manifest is not None
        is_last = round_.number + 1 >= manifest.rounds
        return not is_last and manifest.max_staleness > 0

    def _is_useless(self, round_: Round, now: float) -> bool:
        """Whether nobody averages our values in this round any more."""
        if not self._may_offer_later(round_):
            return False
        given_up_at = round_.attendance.given_up_at()
        if given_up_at is not None and given_up_at < now:
            return True
        others = round_.plan.reducers_of(round_.me)
        round_of = self._exchange.gossip.claims.round_of
        return bool(others) and all(round_of(p) > round_.number for p in others)

    # --- Too late --------------------------------------------------------------------

    def offer_late(self, now: float) -> list[Effect]:
        """Offers in the present round what came too late for its own, if it can."""
        event, round_ = self._late, self._exchange.round
        if event is None or round_ is None:
            return []
        details = {"round": round_.number, "base_round": event.round_index}
        if self._age(event, round_.number) is None:
            self._late = None
            return [Report("late-dropped", details)]
        if round_.phase is not TRAIN:
            return []  # it waits for the next round
        self._begun.discard(round_.number)
        instead = OfferLate(round_.number, event.round_index)
        if self._is_useless(round_, now):  # too late for this one, too
            why = "too late for this round, too"
            return [instead, *self._nothing(round_, why, now)]
        self._late = None
        return [
            instead,
            *self._offer(round_, event, now),
            Report("late-update", details),
        ]

    def _count_late(self, event: TrainingFinished, rounds: int) -> list[Effect]:
        manifest = self._exchange.gossip.manifest
        if manifest is not None and manifest.adds_changes:
            return []  # where rounds do not wait, some are late for good
        self._late_rounds += rounds
        if self._late_rounds < TOO_SLOW_ROUNDS:
            return []
        details = {"rounds": self._late_rounds, "training_s": event.seconds}
        self._late_rounds = 0
        return [Report("too-slow", details)]

    def failed(self, event: TrainingFailed, now: float) -> list[Effect]:
        """No values this round: tell everybody not to wait."""
        self._begun.discard(event.round_index)
        round_ = self._exchange.rounds.get(event.round_index)
        if round_ is None and event.round_index > max(self._exchange.rounds, default=0):
            self._ahead = event
        if round_ is None or round_.phase is not TRAIN:
            return []
        details = {"round": event.round_index, "reason": event.reason}
        effects = self._nothing(round_, event.reason, now)
        return [*effects, Report("training-failed", details)]

    def _nothing(self, round_: Round, reason: str, now: float) -> list[Effect]:
        """Goes on without own values, and tells nobody to wait for them."""
        moved = self._moved(round_)
        none = Offer(round_.number, round_.plan.digest, 0, 0.0, 0.0, 0.0, moved=moved)
        told = self._exchange.offering.announce(none)
        return [*round_.failed(reason, now), *told]
