"""One round that counts what its closing list names (``closing.py``).

It differs from other rounds in what a reducer waits for. Which contributions count, and
how much, is known with the list; only then are they asked for. A peer that still trains
when a list comes without it goes on in this round as one who only receives, and offers
what it trains in a later one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.methods import sharing
from p2pfusion.methods.base import Shares
from p2pfusion.protocol.attendance import GRACE_S, Attendance
from p2pfusion.protocol.closing import Heard, Terms, offer_name, ranked, shares_of
from p2pfusion.protocol.events import AddOwn, Effect, OpenReduction
from p2pfusion.protocol.lateness import Pace
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import ClosingEntry, ClosingList, Offer, SignedClosing
from p2pfusion.protocol.phases import Phase
from p2pfusion.protocol.reduction import Reduction
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.transfer import Pulls
from p2pfusion.protocol.weighed_round import WeighedRound
from p2pfusion.split.keeping import Cells, cells_to_keep
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.segment import Split

TAKEOVER_S = GRACE_S
"""For each of those before it in rank that seem to be there, a peer waits so long for a
list before it makes one, and before it takes one by somebody else."""

NOT_LISTED = "too late for the closing list"


class ListedAttendance(Attendance):
    """Waiting for streams counts from the list on: before, nobody can send them."""

    list_at: float | None = None

    def listed(self, now: float) -> None:
        """The list is known."""
        self.list_at, self._base = now, None

    def slept(self, seconds: float) -> None:
        """This process did not run for so long."""
        super().slept(seconds)
        if self.list_at is not None:
            self.list_at += seconds

    def given_up_at(self) -> float | None:
        """Nobody is given up but by a list."""
        return None

    def sealed(self, offer: Offer | None) -> None:
        """Nobody is too late for good where rounds do not wait."""

    def _found_base(self) -> float | None:
        return self.list_at


@dataclass
class ListedRound(Round):
    """The exchange of a round, from the plan over the closing list to the seal."""

    method: Shares = field(kw_only=True)
    seed: int = field(kw_only=True)
    max_staleness: int = field(kw_only=True)
    listing: SignedClosing | None = None
    """The list that counts here, once there is one."""
    closed_by: str = ""
    shares: dict[str, float] = field(default_factory=dict)
    """Of those whom it names."""
    told: set[str] = field(default_factory=set)
    """Who knows it as well."""

    def __post_init__(self) -> None:
        super().__post_init__()
        expected, at = self.attendance.expected, self.started_at
        self.entries = ListedAttendance(
            self.pace, expected, self.trains, at, me=self.me, number=self.number
        )
        self.attendance = self.entries
        trainers = self.splits.keys()
        self.ranked = ranked(self.seed, self.number, trainers)
        """Who may close this round, in order."""
        self.terms = Terms(self.number, self.plan.peers, trainers, self.max_staleness)
        self._heard: dict[str, Heard] = {}

    # --- Who closes, and when --------------------------------------------------------

    def closer(self) -> str:
        """From whom the list is expected; "" if nobody is there who may make one."""
        there = self._there
        return next((peer for peer in self.ranked if peer in there), "")

    @property
    def _there(self) -> set[str]:
        return (self.online | {self.me}) - self.attendance.elsewhere

    def _patience_s(self, author: str) -> float:
        """How long those before it in rank are given to make a list themselves."""
        there, before = self._there, self.ranked[: self.ranked.index(author)]
        return TAKEOVER_S * sum(peer in there for peer in before)

    def closes_at(self) -> float | None:
        """When this peer makes the list, if none has come; None while nothing says, and
        where one before it in rank has made one that does not count yet."""
        if self.listing is not None or self.held or self.me not in self.splits:
            return None
        if self._heard.keys() & set(self.ranked[: self.ranked.index(self.me)]):
            return None
        ready_at = self.ready_at()
        return None if ready_at is None else ready_at + self._patience_s(self.me)

    def ready_at(self) -> float | None:
        """When enough updates were ready, or are no longer waited for.

        That is with as many as the method wants, with all that can still come, or when
        the deadline is over that counts from the offers of half of the peers on.
        """
        ready = sorted(at for at, _ in self._ready().values())
        quorum = self.method.quorum(len(self.splits))
        if len(ready) >= quorum:
            return ready[quorum - 1] if quorum else self.started_at
        spoken = [at for at, _ in self.offers.values()]
        expected = self.attendance.expected - self.attendance.lost
        awaited = expected - self.offers.keys() - self.attendance.elsewhere
        own_at, count = self.offered_at, len(expected) + self.trains
        if own_at is not None:
            spoken.append(own_at)
        if not awaited and (own_at is not None or not self.trains):
            return max(spoken, default=self.started_at)
        spoken.sort()
        half, lateness = (count + 1) // 2, self.pace.lateness
        instants = [at + lateness.maximum_s for at in spoken[:1]]
        if 0 < half <= len(spoken):
            instants.append(spoken[half - 1] + lateness.wait_s())
        return min(instants, default=None)

    def _ready(self) -> dict[str, tuple[float, Offer]]:
        """The updates that could be listed: when, and what was said of them."""
        found = dict(self.offers)
        if self.offer is not None and self.offered_at is not None:
            found[self.me] = (self.offered_at, self.offer)
        most = min(self.max_staleness, self.number)
        return {
            peer: (at, offer)
            for peer, (at, offer) in found.items()
            if offer.samples and offer.rounds_late <= most
        }

    def make_list(
        self, fractions: Callable[[str, int], float], distances: tuple[float, ...]
    ) -> ClosingList:
        """The list of all updates that are ready.

        ``fractions``: what a peer trained in a round; ``distances``: how far the model
        has moved in the last 0, 1, ... rounds.
        """
        ready = self._ready()
        entries = [
            ClosingEntry(
                position,
                offer_name(offer),
                offer.rounds_late,
                offer.l1,
                fractions(peer, self.number - offer.rounds_late),
            )
            for position, peer in enumerate(self.plan.peers)
            if peer in ready
            for _, offer in [ready[peer]]
        ]
        return ClosingList(self.number, self.plan.digest, tuple(entries), distances)

    # --- A list comes ----------------------------------------------------------------

    def hear(
        self, author: str, message: SignedClosing, said: ClosingList, now: float
    ) -> None:
        """Somebody closes this round; ``RemoteProtocolError`` if it may not, or not so.

        One that comes out of turn waits for those before its author.
        """
        if author not in self.splits:
            raise RemoteProtocolError("a closing list by one who does not train")
        known = {peer: offer for peer, (_, offer) in self.offers.items()}
        if self.offer is not None:
            known[self.me] = self.offer
        self.terms.check(said, known)
        if self.listing is None:
            self._heard.setdefault(author, Heard(message, said, now))

    def takes_at(self) -> float | None:
        """When a list that was heard counts, if none before it in rank comes."""
        if self.listing is not None:
            return None
        instants = [self._counts_at(author) for author in self._heard]
        return min(instants, default=None)

    def _counts_at(self, author: str) -> float:
        """When a list that was heard counts: its author may have waited by itself."""
        at, patience_s = self._heard[author].at, self._patience_s(author)
        ready_at = self.ready_at()
        latest = at + patience_s
        return (
            latest if ready_at is None else min(latest, max(at, ready_at + patience_s))
        )

    def take(self, online: set[str], now: float) -> list[Effect]:
        """Goes by the first list in rank of those whose time has come, if there is one.

        From then on no other counts here.
        """
        self.online = online
        if self.listing is not None:
            return []
        for author in self.ranked:
            heard = self._heard.get(author)
            if heard is not None and now >= self._counts_at(author):
                return self._follow(author, heard, now)
        return []

    def _follow(self, author: str, heard: Heard, now: float) -> list[Effect]:
        self.listing, self.closed_by = heard.message, author
        self.shares = shares_of(heard.said, self.plan.peers, self.method)
        self.entries.listed(now)
        self.told.add(author)
        for peer in (self.splits.keys() & self.online) - self.shares.keys():
            self.missing.setdefault(peer, NOT_LISTED)
        effects: list[Effect] = []
        if self.me not in self.shares and self.phase is Phase.TRAIN:
            effects += self.failed(NOT_LISTED, now)
        for reduction in list(self.reductions.values()):
            effects += self._ask(reduction, now)
        return effects

    @property
    def leaves_out(self) -> bool:
        """Whether the own update was offered in this round, and the list lacks it."""
        offered = self.listing is not None and self.offer is not None
        return offered and self.me not in self.shares

    # --- Reductions ------------------------------------------------------------------

    def reduce(self, instead_of: str, online: set[str], now: float) -> list[Effect]:
        """Begins a sum of own ranges, or as backup a silent reducer's; once."""
        if instead_of in self.reductions:
            return []
        reduction = Reduction(instead_of, set(), False, is_unlisted=True)
        self.reductions[instead_of] = reduction
        effects: list[Effect] = [OpenReduction(self.number, instead_of)]
        self.online = online
        return effects if self.listing is None else effects + self._ask(reduction, now)

    def _ask(self, reduction: Reduction, now: float) -> list[Effect]:
        """The list is known: asks for what it names, and adds the own part."""
        plan, instead_of = self.plan, reduction.instead_of
        failed = instead_of or None
        sources = plan.sources(Hop.CONTRIBUTION, self.me, instead_of=failed)
        listed = [source for source in sources if source in self.shares]
        reduction.is_unlisted = False
        reduction.pending = {source for source in listed if source in self.online}
        effects: list[Effect] = []
        for source in listed:
            if source not in reduction.pending:
                self.missing.setdefault(source, "silent")
                continue
            key = self._key(Hop.CONTRIBUTION, source, instead_of)
            effects += self._pull(key, now)
        own = plan.own_ranges(self.me, instead_of=failed).size
        if own and self.offer is not None and self.me in self.shares:
            share = self.shares[self.me]
            effects.append(AddOwn(self.number, instead_of, share))
        return effects + self._close_if_done(reduction, now)

    def _add_own(self, reduction: Reduction, now: float) -> list[Effect]:
        """Nothing yet: whether it counts, and how much, the list says."""
        return []

    def _cells_to_keep(self, reduction: Reduction) -> Cells:
        """Changes are added to old values, so all of these must be here."""
        failed = reduction.instead_of
        return cells_to_keep(
            self.plan, self.me, instead_of=failed, came=(), has_own=False
        )

    def weight(self, source: str, samples: int, rounds_late: int) -> float:
        """The share of a contribution."""
        return self.shares.get(source, 0.0)

    # --- For people ------------------------------------------------------------------

    def contributors(self) -> set[str]:
        """Whose updates the list names, as far as they came."""
        return self.shares.keys() - self.missing.keys()

    def waiting_for(self) -> dict[str, str]:
        """Whom this round waits for, and for what: first for its list."""
        waits = super().waiting_for()
        closer = self.closer()
        if self.listing is not None or not closer:
            return waits
        if closer != self.me:
            return {**waits, closer: f"the closing list of round {self.number}"}
        expected = self.attendance.expected - self.attendance.lost
        awaited = expected - self.offers.keys() - self.attendance.elsewhere
        return {**waits, **dict.fromkeys(sorted(awaited), "its offer")}


def make_round(
    manifest: Manifest,
    plan: ExchangePlan,
    me: str,
    pulls: Pulls,
    pace: Pace,
    *,
    splits: Mapping[str, Split],
    trains: bool,
    catches_up: bool,
    started_at: float,
) -> Round:
    """A round by the rules of the swarm's method."""
    method = sharing(manifest.trained_by) if manifest.adds_changes else None
    if method is None or not splits:  # in the last round nobody trains
        kind = WeighedRound if manifest.weighs else Round
        return kind(plan, me, pulls, pace, splits, trains, catches_up, started_at)
    return ListedRound(
        plan,
        me,
        pulls,
        pace,
        splits,
        trains,
        catches_up,
        started_at,
        method=method,
        seed=manifest.seed,
        max_staleness=manifest.max_staleness,
    )
