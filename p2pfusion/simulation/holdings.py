"""Who has which version of which part of the model: the numbers without the numbers.

In place of values a simulated peer has two versions for every cell of the model's
grids: the one that its store *claims*, by the rules of ``daemon/payloads.py``, and the
one of the *content*, the round whose fusion the values really come from. Where the two
differ, somebody passed an old value on as a new one.

All signatures' grids stand in one flat array. What a round gives in the ordinary case,
everything from everybody, is written once, when somebody looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from p2pfusion.protocol.events import FoundLacking
from p2pfusion.protocol.stream import StreamKey, is_by_cells, stream_cells
from p2pfusion.simulation.disk import Cells, Versions
from p2pfusion.simulation.planner import Memory
from p2pfusion.split.grid import Counts, Mask, grid_shape, rectangles
from p2pfusion.split.hops import FUSED
from p2pfusion.split.keeping import Cells as SplitCells
from p2pfusion.split.layout import Layout
from p2pfusion.split.plan import ExchangePlan
from p2pfusion.split.restoring import asked_products, lacking_cells, wanted_versions

KEPT_VIEWS = 64

Numbers = NDArray[np.int64] | NDArray[np.int32] | NDArray[np.int16] | Mask


class Geometry:
    """Where every cell of a layout stands in the flat array."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        shapes = [grid_shape(layout, signature) for signature in layout.signatures]
        sizes = [math.prod(shape) for shape in shapes]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.size = int(starts[-1])
        self._places = [
            np.arange(start, start + size).reshape(shape)
            for start, size, shape in zip(starts, sizes, shapes, strict=False)
        ]
        self._views = Memory(KEPT_VIEWS)

    def flat(self, grids: Sequence[Numbers]) -> Counts:
        """Arrays over the signatures' grids, one behind the other."""
        flat = np.concatenate([np.asarray(grid).reshape(-1) for grid in grids])
        return flat.astype(np.int64)

    def grids(self, flat: Versions) -> list[Versions]:
        """The flat array, signature by signature."""
        return [flat[places] for places in self._places]

    def blocks(
        self, plan: ExchangePlan, stream: StreamKey
    ) -> Iterator[tuple[int, Counts]]:
        """The products of a stream from a home: signature, and places in the array.

        In the order of the stream, which has one segment for each and parameter.
        """
        cells = stream_cells(plan, stream)
        cut = map(rectangles, cells)
        products = asked_products(cells) if is_by_cells(stream) else cut
        for index, each in enumerate(products):
            for sets in each:
                at = np.ix_(*(np.fromiter(each, np.int64) for each in sets))
                yield index, np.asarray(self._places[index][at]).reshape(-1)

    def view(self, plan: ExchangePlan) -> PlanCells:
        """The plan as flat arrays."""
        # With its plan: while that is kept, no other can have its id.
        return self._views.get(id(plan), self._flattened, plan)[1]

    def _flattened(self, plan: ExchangePlan) -> tuple[ExchangePlan, PlanCells]:
        return plan, PlanCells.of(self, plan)


@dataclass(frozen=True, eq=False)
class PlanCells:
    """A plan, cell by cell. Peers are positions in the plan's list of them."""

    positions: dict[str, int]
    ranges: Counts
    """The range that each cell belongs to."""
    reducer: Counts
    """Who fuses each cell; -1 for nobody."""
    wanted: Mask
    """(peers, cells): following splits."""
    pulled: Mask
    """(peers, cells): what each gets from homes."""
    expected: Versions
    """The version of each cell when the round has gone as planned."""
    _fused: dict[tuple[str, str, str], Counts] = field(default_factory=dict)

    def fused_ranges(self, plan: ExchangePlan, stream: StreamKey) -> Counts:
        """The ranges of a stream of fused values."""
        key = (stream.source, stream.target, stream.instead_of)
        found = self._fused.get(key)
        if found is None:
            source, target, failed = key
            found = self._fused[key] = plan.ranges(
                FUSED, source=source, target=target, instead_of=failed or None
            )
        return found

    @classmethod
    def of(cls, geometry: Geometry, plan: ExchangePlan) -> PlanCells:
        """For one plan."""
        ranges = geometry.flat([grid.cells for grid in plan.grids])
        reducer = plan.reducer[ranges]
        count = len(plan.peers)
        wanted = [mask.reshape(count, -1) for mask in plan.wanted]
        pulled = [mask.reshape(count, -1) for mask in plan.pulls.lacked]
        before = geometry.flat(plan.homes.version)
        after = np.where(reducer >= 0, plan.round_index + 1, before)
        return cls(
            {peer: position for position, peer in enumerate(plan.peers)},
            ranges,
            reducer,
            np.concatenate(wanted, axis=1),
            np.concatenate(pulled, axis=1),
            after.astype(np.int32),
        )


@dataclass(slots=True)
class Gains:
    """What one round has given so far, where everything went as planned."""

    plan: ExchangePlan
    has: Mask
    """Whose fused ranges are here; the last entry stands for nobody."""
    own: bool = False


@dataclass(slots=True)
class Parcel:
    """What a stream carries: for each of its parts, the places and the versions."""

    stream: StreamKey
    plan_digest: bytes
    total_bytes: int
    present: Mask | None = None
    """Of a stream of fused ranges: which it has values for; None for all."""
    blocks: list[tuple[Counts, Versions | None]] = field(default_factory=list)
    """Of a stream from a home: places, and the content there; None if absent."""
    absent: bytes = b""
    digest: bytes = b""
    """Of a contribution: a hash of its values, which every life trains anew."""


class Holdings:
    """What one running peer has."""

    def __init__(self, geometry: Geometry, me: str, cells: Cells) -> None:
        self._geometry = geometry
        self._me = me
        self._cells = cells
        self._sealed = cells.copy()
        self._gains: dict[int, Gains] = {}

    def cells(self) -> Cells:
        """The versions as they are now. Whoever keeps them makes a copy."""
        for gains in self._gains.values():
            self._take(gains)
        self._gains.clear()
        return self._cells

    def sealed(self) -> Cells:
        """Seals what is here, as the store does; gives it, to be kept as it is.

        Others get what was sealed: what comes in meanwhile waits in the journal.
        """
        self._sealed = self.cells().copy()
        return self._sealed

    def _take(self, gains: Gains) -> None:
        view = self._geometry.view(gains.plan)
        me = view.positions.get(self._me)
        if me is None:
            return
        mask = view.wanted[me] & gains.has[view.reducer]
        if gains.own:
            mask |= view.reducer == me
        self._write(mask, gains.plan.round_index + 1)

    def _write(self, mask: Mask, version: int) -> None:
        self._cells.claimed[mask] = version
        self._cells.content[mask] = version

    def _begin(self, round_index: int) -> None:
        """What an earlier round gave, and nobody sealed, counts before anything new."""
        if self._gains.keys() - {round_index}:
            self.cells()

    def _of(self, plan: ExchangePlan) -> Gains:
        gains = self._gains.get(plan.round_index)
        if gains is None:
            self._begin(plan.round_index)
            has = np.zeros(len(plan.peers) + 1, np.bool_)
            gains = self._gains[plan.round_index] = Gains(plan, has)
        return gains

    def older(self, plan: ExchangePlan) -> Counts:
        """The ranges of which something sealed here is older than planned."""
        wanted = self._geometry.flat(plan.homes.version)
        old = self._sealed.claimed < wanted
        return np.unique(self._geometry.view(plan).ranges[old])

    def changeable(
        self,
        plan: ExchangePlan,
        instead_of: str,
        present: Mask | None,
        own: Counts,
    ) -> Mask | None:
        """Of fused ranges those to which changes could be added: whose old values are
        here, or which this peer has trained."""
        ids = plan.reduced_by(self._me, instead_of=instead_of or None)
        known = ~np.isin(ids, self.older(plan)) | np.isin(ids, own)
        found = known if present is None else present & known
        return None if bool(found.all()) else found

    def remembered(
        self,
        plan: ExchangePlan,
        instead_of: str,
        present: Mask | None,
        lacked: Counts | None,
    ) -> Mask | None:
        """The same in a round that is left: whose old values are kept.

        ``lacked``: what this peer lacked when it began; None: nothing is kept.
        """
        ids = plan.reduced_by(self._me, instead_of=instead_of or None)
        known = (
            np.zeros(len(ids), np.bool_) if lacked is None else ~np.isin(ids, lacked)
        )
        found = known if present is None else present & known
        return None if bool(found.all()) else found

    def carried_over(
        self, plan: ExchangePlan, instead_of: str, present: Mask
    ) -> Mask | None:
        """Fused ranges and those whose newest values are here; None for all of them."""
        lacked = self.older(plan)
        ids = plan.reduced_by(self._me, instead_of=instead_of or None)
        found = present | ~np.isin(ids, lacked)
        return None if bool(found.all()) else found

    def fused(self, plan: ExchangePlan, instead_of: str, present: Mask | None) -> None:
        """Own ranges, or a silent reducer's, were averaged; ``present``: which."""
        if not instead_of and present is None:
            self._of(plan).own = True
            return
        ids = plan.reduced_by(self._me, instead_of=instead_of or None)
        self._ranges(plan, ids if present is None else ids[present])

    def _ranges(self, plan: ExchangePlan, ids: Counts) -> None:
        self._begin(plan.round_index)
        chosen = np.zeros(len(plan.range_sizes) + 1, np.bool_)
        chosen[ids] = True
        ranges = self._geometry.view(plan).ranges
        self._write(chosen[ranges], plan.round_index + 1)

    def received(self, plan: ExchangePlan, parcel: Parcel) -> None:
        """A stream of fused values, or from a home, has arrived whole."""
        stream = parcel.stream
        if stream.hop != FUSED:
            self._begin(plan.round_index)
            claimed = self.cells().claimed
            # What is carried over late stands for a version that nobody made.
            planned = self._geometry.flat(plan.homes.version) * bool(stream.least)
            for places, content in parcel.blocks:
                is_newer = bool((claimed[places] > stream.round_index).any())
                if content is not None and not is_newer:
                    self._cells.claimed[places] = stream.round_index
                    self._cells.content[places] = np.maximum(content, planned[places])
            return
        if not stream.instead_of and parcel.present is None:
            position = self._geometry.view(plan).positions[stream.source]
            self._of(plan).has[position] = True
            return
        ids = self._geometry.view(plan).fused_ranges(plan, stream)
        self._ranges(plan, ids if parcel.present is None else ids[parcel.present])

    def lacking(self, plan: ExchangePlan, among: SplitCells = ()) -> FoundLacking:
        """What the table of homes says that is here newest, or ``among`` these, and is
        older here."""
        versions = tuple(self._geometry.grids(self.cells().claimed))
        cells = lacking_cells(plan, self._me, versions, among)
        return FoundLacking(plan.round_index, cells, versions)

    def keep_old(self, plan: ExchangePlan, cells: SplitCells) -> None:
        """What is here of these cells counts as newest, as it is."""
        self._begin(plan.round_index)
        planned = self._geometry.flat(plan.homes.version)
        chosen, now = self._geometry.flat(cells).astype(np.bool_), self.cells()
        now.claimed[chosen] = plan.round_index
        now.content[chosen] = np.maximum(now.content, planned)[chosen]

    def from_home(self, plan: ExchangePlan, parcel: Parcel) -> None:
        """Fills in what a stream from this home carries: what is really here."""
        cells, stream = self._sealed, parcel.stream
        wanted = self._geometry.flat(wanted_versions(plan, stream.least))
        absent: list[bool] = []
        for index, places in self._geometry.blocks(plan, stream):
            here = bool((cells.claimed[places] >= wanted[places]).all())
            content = cells.content[places].copy() if here else None
            parcel.blocks.append((places, content))
            signature = self._geometry.layout.signatures[index]
            absent += [not here] * len(signature.parameters)
        parcel.absent = np.packbits(absent).tobytes()
