"""Getting back what this peer lacks of that which the table of homes says it has.

As every round begins the daemon says what it finds lacking. Few others that have it by
the table are asked; what one lacks as well is asked of the next. No round waits for
that, and what has not come by its end is asked for in the following one. After the last
round ``upkeep.py`` says when to ask again, and by which table.

What all that are said to have it lack was planned to be new, and nobody made it so.
Then the values from before are the newest: whoever had them by the table of that round
is asked for these, or is this peer itself, and they take the place of those that there
never were. Where nobody remembers that table, everybody is asked for something newer
than what is here, and what is here counts if nobody has it.
"""

from __future__ import annotations

from p2pfusion.protocol.events import Effect, FoundLacking, KeepOld, StreamKey
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.transfer import Pull, Pulls
from p2pfusion.split.keeping import Cells, count_cells, minus
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.restoring import (
    Former,
    Said,
    Versions,
    absent_cells,
    at_least,
    formerly,
    last_resort,
    nowhere,
    pack_cells,
    plus,
    shared_out,
    unpack_cells,
    without_pulled,
)

MAX_FORMER = 64
"""Groups of cells of which a peer remembers who had them before."""


class Restoring:
    """Whom this peer asks in the present round for what it lacks."""

    def __init__(self, pulls: Pulls) -> None:
        self._pulls = pulls
        self._said: Said | None = None
        self._remembered = -1
        """The last round of which it was noted who had what before it."""
        self._lacking: Cells = ()
        self._coming: dict[StreamKey, Cells] = {}
        self._asked: dict[str, Cells] = {}
        self._denied: dict[str, Cells] = {}
        """What others have said that they lack as well."""
        self._versions: Versions = ()
        self._former: list[Former] = []
        """Who had what is lacking before, the latest first."""
        self._last: list[Former] = []
        """Who is asked when these all lack it, too."""
        self._late: dict[tuple[int, str], Cells] = {}
        """Who was asked for the values before: what that one lacks, by number."""

    @property
    def _tried(self) -> list[Former]:
        """In this order."""
        return self._former + self._last

    @property
    def is_busy(self) -> bool:
        """Whether somebody was asked and has not answered yet."""
        return bool(self._coming)

    def end(self) -> list[Effect]:
        """The round is over: its plan says no longer who has what."""
        self._lacking = ()
        for table in (self._coming, self._asked, self._denied, self._late):
            table.clear()
        pulls = self._pulls.of_hop(Hop.RESTORE)
        return [effect for pull in pulls for effect in self._pulls.cancel(pull)]

    def begin(
        self,
        round_: Round,
        before: Round | None,
        found: FoundLacking,
        said: Said,
        *,
        online: set[str],
        now: float,
    ) -> list[Effect]:
        """Asks for what was found lacking, for the first time in a round or once more.

        ``before``: the previous round, if this peer was in it.
        """
        plan, cells, effects = round_.plan, found.cells, self.end()
        self._remember(plan, before, cells)
        if round_.catches_up and round_.needs:
            cells = without_pulled(plan, round_.me, cells)
        self._said, self._lacking, self._versions = said, cells, found.versions
        # Who was away remembers nothing, nor does who has restarted.
        self._last = last_resort(said.peers, round_.me, cells, found.versions)
        effects += self._ask(round_, cells, online, now)
        return effects + self._ask_late(round_, online, now)

    def _remember(self, plan: ExchangePlan, before: Round | None, cells: Cells) -> None:
        """Who had what is lacking before the round that should have made it new."""
        if before is not None and plan.round_index > self._remembered:
            self._remembered = plan.round_index
            versions = zip(cells, plan.homes.version, strict=True)
            fresh = tuple(mask & (v == plan.round_index) for mask, v in versions)
            self._former += formerly(before.plan.homes, fresh)
        known = (former.among(cells) for former in self._former)
        there = [former for former in known if count_cells(former.cells)]
        there.sort(key=lambda each: -each.version)
        self._former = there[:MAX_FORMER]

    def _open(
        self, round_: Round, source: str, cells: Cells, now: float, least: int = 0
    ) -> list[Effect]:
        hop, number, asked = Hop.RESTORE.value, round_.number, pack_cells(cells)
        stream = StreamKey(hop, number, source, round_.me, asked=asked, least=least)
        self._coming[stream] = unpack_cells(round_.plan.layout, asked)
        size = round_.stream_bytes(stream)
        return self._pulls.open(stream, round_.plan.digest, size, now)

    def _ask(
        self, round_: Round, cells: Cells, online: set[str], now: float
    ) -> list[Effect]:
        assert self._said is not None
        effects: list[Effect] = []
        homes, among = self._said.homes, (self._said.among & online) - {round_.me}
        layout = round_.plan.layout
        chosen = shared_out(layout, homes, cells, among, but=self._asked)
        for source, comes in chosen.items():
            self._asked[source] = plus(comes, self._asked.get(source, ()))
            effects += self._open(round_, source, comes, now)
        return effects

    def _ask_late(self, round_: Round, online: set[str], now: float) -> list[Effect]:
        """Asks for older values, once nobody is left to be asked for the newest."""
        assert self._said is not None
        effects: list[Effect] = []
        if self._coming:
            return effects
        others, among = self._said.peers - {round_.me}, self._said.among & online
        never = nowhere(self._said.homes, self._lacking, others, self._denied)
        for number, former in enumerate(self._tried):
            cells = former.among(never).cells
            own = at_least(cells, self._versions, former.version)
            if count_cells(own):
                effects.append(KeepOld(round_.number, own))
                self._lacking = minus(self._lacking, own)
            never, cells = minus(never, own), minus(cells, own)
            for peer in sorted(former.holders & others):
                # Older values count only when nobody can have these any more.
                lacked = self._late.get((number, peer), ())
                never = minus(never, minus(cells, lacked) if lacked else cells)
            effects += self._ask_holders(round_, number, cells, among & others, now)
        return effects

    def _ask_holders(
        self,
        round_: Round,
        number: int,
        cells: Cells,
        among: frozenset[str],
        now: float,
    ) -> list[Effect]:
        """Asks the next one that had these cells before."""
        former = self._tried[number]
        for source in sorted(former.holders & among):
            if count_cells(cells) and (number, source) not in self._late:
                self._late[number, source] = ()
                return self._open(round_, source, cells, now, former.version)
        return []

    def ended(
        self, pull: Pull, round_: Round | None, *, online: set[str], now: float
    ) -> list[Effect]:
        """A stream is here, or will not come: what it lacks others may have."""
        stream = pull.stream
        cells = self._coming.pop(stream, None)
        if cells is None or round_ is None:
            return []
        lacks = cells
        if pull.received == pull.total_bytes:
            lacks = absent_cells(round_.plan.layout, cells, pull.absent)
            self._lacking = minus(self._lacking, minus(cells, lacks))
            self._note(stream, lacks)
        effects = [] if stream.least else self._ask(round_, lacks, online, now)
        return effects + self._ask_late(round_, online, now)

    @property
    def received(self) -> tuple[tuple[int, int], ...]:
        """How far each stream is that was asked for and is not here, by its number."""
        pulls = self._pulls.of_hop(Hop.RESTORE)
        return tuple((pull.number, pull.received) for pull in pulls)

    def give_up(self, round_: Round, *, online: set[str], now: float) -> list[Effect]:
        """Whoever was asked does not answer, or does not go on: others are asked."""
        effects: list[Effect] = []
        for pull in self._pulls.of_hop(Hop.RESTORE):
            effects += self._pulls.cancel(pull)
            effects += self.ended(pull, round_, online=online, now=now)
        return effects

    def _note(self, stream: StreamKey, lacks: Cells) -> None:
        """A source has said what it lacks of what it was asked for."""
        source = stream.source
        if not stream.least:
            self._denied[source] = plus(lacks, self._denied.get(source, ()))
            return
        for number, former in enumerate(self._tried):
            if former.version == stream.least and (number, source) in self._late:
                before = self._late[number, source]
                self._late[number, source] = plus(former.among(lacks).cells, before)
