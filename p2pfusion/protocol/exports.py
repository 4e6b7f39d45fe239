"""Exports: the whole model, pulled from every home.

What a home does not answer for, or lacks, is asked cell by cell of others that shall
have the newest values. What nobody has is named as missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfusion.protocol.events import Assembled, Effect, StreamKey
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.transfer import Pull, Pulls
from p2pfusion.split.homes import Homes
from p2pfusion.split.keeping import Cells, count_cells, minus
from p2pfusion.split.plan import Hop
from p2pfusion.split.restoring import (
    Said,
    absent_cells,
    pack_cells,
    plus,
    shared_out,
    unpack_cells,
)


@dataclass
class Export:
    """The whole model on its way here: streams to come, homes that gave nothing."""

    lacks: Cells
    """What the exporting peer has not got itself."""
    wanted: set[StreamKey] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    asked: dict[str, Cells] = field(default_factory=dict)
    """Who was asked in place of homes, and for what."""


class Exports:
    """All exports of one peer that are under way."""

    def __init__(self, pulls: Pulls) -> None:
        self._pulls = pulls
        self._exports: dict[int, Export] = {}

    @property
    def left_bytes(self) -> int:
        """What is still to come."""
        pulls = self._pulls.of_hop(Hop.EXPORT)
        return sum((pull.total_bytes or 0) - pull.received for pull in pulls)

    def begin(
        self,
        number: int,
        round_: Round | None,
        said: Said | None,
        *,
        lacks: Cells,
        online: set[str],
        now: float,
    ) -> list[Effect]:
        """Pulls from every home what lives there as this round begins.

        ``lacks``: what is older here than the table says, also of what lives here by a
        table that says how rounds were planned. Nothing at all where there was no table
        yet: then everything counts as lacking.
        """
        export = self._exports[number] = Export(lacks)
        if round_ is None or said is None:
            return self._finished()
        lacks = lacks or tuple(version > 0 for version in round_.plan.homes.version)
        export.lacks, effects = lacks, list[Effect]()
        homes, sources = round_.plan.homes, round_.plan.sources(Hop.EXPORT, round_.me)
        for source in sources:
            stream = StreamKey(Hop.EXPORT.value, round_.number, source, round_.me)
            if source in online:
                effects += self._want(export, stream, round_, now)
                continue
            cells = _living_at(homes, source, lacks)
            effects += self._elsewhere(
                export, source, cells, round_, said, online=online, now=now
            )
        # This peer itself, whoever is gone, and everybody for whom no plan counts it.
        for home in sorted(set(homes.peers) - set(sources)):
            cells = _living_at(homes, home, lacks)
            effects += self._elsewhere(
                export, home, cells, round_, said, online=online, now=now
            )
        return effects + self._finished()

    def _want(
        self, export: Export, stream: StreamKey, round_: Round, now: float
    ) -> list[Effect]:
        export.wanted.add(stream)
        size = round_.stream_bytes(stream)
        return self._pulls.open(stream, round_.plan.digest, size, now)

    def _elsewhere(
        self,
        export: Export,
        home: str,
        cells: Cells,
        round_: Round,
        said: Said,
        *,
        online: set[str],
        now: float,
    ) -> list[Effect]:
        """Asks others for cells that do not come from their home."""
        effects: list[Effect] = []
        me, among = round_.me, (said.among & online) - {round_.me, home}
        layout = round_.plan.layout
        chosen = shared_out(layout, said.homes, cells, among, but=export.asked)
        for source, part in chosen.items():
            export.asked[source] = plus(part, export.asked.get(source, ()))
            cells = minus(cells, part)
            stream = StreamKey(
                Hop.EXPORT.value, round_.number, source, me, home, pack_cells(part)
            )
            effects += self._want(export, stream, round_, now)
        if count_cells(cells):
            export.missing.add(home)
        return effects

    def ended(
        self,
        pull: Pull,
        round_: Round | None,
        said: Said | None,
        *,
        online: set[str],
        now: float,
    ) -> list[Effect]:
        """A stream has ended: what it lacks is asked for elsewhere.

        One that was given up lacks everything; ``round_`` is gone for one of the past.
        """
        effects: list[Effect] = []
        stream = pull.stream
        home = stream.instead_of or stream.source
        for export in list(self._exports.values()):
            if stream not in export.wanted:
                continue
            export.wanted.discard(stream)
            if not pull.absent_count:
                continue
            if round_ is None or said is None:
                export.missing.add(home)
                continue
            cells = _not_here(pull, round_, export.lacks)
            effects += self._elsewhere(
                export,
                home,
                cells,
                round_,
                said,
                online=online - {stream.source},
                now=now,
            )
        return effects + self._finished()

    def _finished(self) -> list[Effect]:
        done = [number for number, export in self._exports.items() if not export.wanted]
        effects: list[Effect] = []
        for number in done:
            missing = self._exports.pop(number).missing
            effects.append(Assembled(number, tuple(sorted(missing))))
        return effects


def _living_at(homes: Homes, home: str, cells: Cells) -> Cells:
    """Those of the cells that live at a home."""
    position = homes.position(home)
    return tuple(
        mask & (table == position)
        for mask, table in zip(cells, homes.home, strict=True)
    )


def _not_here(pull: Pull, round_: Round, lacks: Cells) -> Cells:
    """What an ended stream has not brought of what is lacking."""
    stream, layout = pull.stream, round_.plan.layout
    if not stream.asked:
        return _living_at(round_.plan.homes, stream.source, lacks)
    cells = unpack_cells(layout, stream.asked)
    is_whole = pull.received == pull.total_bytes
    return absent_cells(layout, cells, pull.absent) if is_whole else cells
