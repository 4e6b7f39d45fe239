"""Getting back what this peer lacks of that which the table of homes says it has.

As every round begins the daemon says what it finds lacking. Few others that have it by
the table are asked; what one lacks as well is asked of the next. No round waits for
that, and what has not come by its end is asked for in the following one.
"""

from __future__ import annotations

from p2pfusion.protocol.events import Effect, FoundLacking, StreamKey
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.transfer import Pull, Pulls
from p2pfusion.split.keeping import Cells
from p2pfusion.split.plan import Hop
from p2pfusion.split.restoring import pack_cells, plus, shared_out, without_pulled


class Restoring:
    """Whom this peer asks in the present round for what it lacks."""

    def __init__(self, pulls: Pulls) -> None:
        self._pulls = pulls
        self._coming: dict[StreamKey, Cells] = {}
        self._asked: dict[str, Cells] = {}

    def end(self) -> list[Effect]:
        """The round is over: its plan says no longer who has what."""
        self._coming.clear()
        self._asked.clear()
        pulls = self._pulls.of_hop(Hop.RESTORE)
        return [effect for pull in pulls for effect in self._pulls.cancel(pull)]

    def begin(
        self, round_: Round | None, found: FoundLacking, *, online: set[str], now: float
    ) -> list[Effect]:
        """Asks for what was found lacking, unless the round is over already."""
        if round_ is None or round_.number != found.round_index:
            return []
        cells = found.cells
        if round_.catches_up:
            cells = without_pulled(round_.plan, round_.me, cells)
        return self._ask(round_, cells, online, now)

    def _ask(
        self, round_: Round, cells: Cells, online: set[str], now: float
    ) -> list[Effect]:
        effects: list[Effect] = []
        plan, number, me = round_.plan, round_.number, round_.me
        among = online.intersection(plan.peers) - {me}
        for source, comes in shared_out(plan, cells, among, but=self._asked).items():
            asked = pack_cells(comes)
            stream = StreamKey(Hop.RESTORE.value, number, source, me, asked=asked)
            self._coming[stream] = comes
            self._asked[source] = plus(comes, self._asked.get(source, ()))
            size = round_.stream_bytes(stream)
            effects += self._pulls.open(stream, plan.digest, size, now)
        return effects

    def ended(
        self, pull: Pull, round_: Round | None, *, online: set[str], now: float
    ) -> list[Effect]:
        """A stream is here, or will not come: what it lacks others may have."""
        cells = self._coming.pop(pull.stream, None)
        if cells is None or round_ is None or not pull.absent_count:
            return []
        return self._ask(round_, cells, online, now)
