"""Where the newest version of every part of the model lives, as the plans tell it.

For every cell of every signature's grid ``Homes`` knows the version (0: never trained,
else the last round that trained it, plus one), the **home** (the reducer of that round)
and who has the newest values. ``HomePulls`` is what follows for one round: which cells
nobody trains, and who must get them from where.

Homes follow from the plans alone: every peer that knows the same splits of all rounds
has the same table, byte for byte, and a newcomer gets it with the manifest. Invariants:
home is -1 exactly where version is 0; a home has the newest values; nobody has the
newest values of a cell that was never trained.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from p2pfusion.errors import LayoutError
from p2pfusion.limits import MAX_NAME_CHARACTERS
from p2pfusion.split.grid import (
    Counts,
    Mask,
    cell_elements,
    grid_mask,
    grid_shape,
    mask_segments,
)
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment, Split

MAGIC = b"p2pfhom1"
MAX_PEERS_EVER = 32_767
"""Homes are stored as 16-bit positions in ``Homes.peers``."""


@dataclass(frozen=True, eq=False)
class Homes:
    """Version, home and holders of the newest values, per signature and grid cell.

    ``peers`` only ever grows, so positions in it stay valid: ``home`` holds such
    positions (int16, -1: none) and ``newest[signature]`` is (peers, cells...).
    """

    peers: tuple[str, ...]
    version: tuple[NDArray[np.int32], ...]
    home: tuple[NDArray[np.int16], ...]
    newest: tuple[Mask, ...]

    @classmethod
    def initial(cls, layout: Layout) -> Homes:
        """Nothing was ever trained and nobody was ever there."""
        shapes = [grid_shape(layout, signature) for signature in layout.signatures]
        return cls(
            (),
            tuple(np.zeros(shape, np.int32) for shape in shapes),
            tuple(np.full(shape, -1, np.int16) for shape in shapes),
            tuple(np.zeros((0, *shape), np.bool_) for shape in shapes),
        )

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {peer: position for position, peer in enumerate(self.peers)}

    def position(self, peer: str) -> int | None:
        """Where the peer stands in ``peers``; None if it never took part."""
        return self._positions.get(peer)

    def with_peers(self, names: Collection[str]) -> Homes:
        """The same table, with the new ones among these names appended in order."""
        new = sorted(set(names) - set(self.peers))
        if not new:
            return self
        if len(self.peers) + len(new) > MAX_PEERS_EVER:
            raise LayoutError(f"a swarm has had more than {MAX_PEERS_EVER} peers")
        newest = (
            np.concatenate([mask, np.zeros((len(new), *mask.shape[1:]), np.bool_)])
            for mask in self.newest
        )
        return Homes((*self.peers, *new), self.version, self.home, tuple(newest))

    def settled(self, names: Collection[str]) -> Homes:
        """Homes that are not among the names moved to the first that has a copy.

        A cell of which none of them has a copy keeps its absent home.
        """
        present = set(names)
        absent = [p for p, peer in enumerate(self.peers) if peer not in present]
        if not any(np.isin(home, absent).any() for home in self.home):
            return self
        moved = []
        for home, newest in zip(self.home, self.newest, strict=True):
            living = newest.copy()
            living[absent] = False
            other = np.argmax(living, axis=0).astype(np.int16)
            change = np.isin(home, absent) & living.any(axis=0)
            moved.append(np.where(change, other, home))
        return Homes(self.peers, self.version, tuple(moved), self.newest)

    def rows(self, peers: Sequence[str]) -> Counts:
        """The positions of peers that are all known here."""
        return np.array([self._positions[peer] for peer in peers], np.int64)

    def advanced(
        self,
        round_index: int,
        peers: Sequence[str],
        *,
        reducers: Sequence[Counts],
        wanted: Sequence[Mask],
        pulled: Sequence[Mask],
    ) -> Homes:
        """The table after a round, for peers that are all known here.

        Per signature, over the grid: the position in ``peers`` of each cell's reducer
        (-1: not trained), and, per peer, the cells it needs next and those it pulls
        from homes.
        """
        if not peers:
            return self
        rows = self.rows(peers)
        versions, homes, newests = [], [], []
        for index, reducer in enumerate(reducers):
            trained = reducer >= 0
            home = np.where(trained, rows[reducer], self.home[index])
            newest = self.newest[index] & ~trained
            positions = np.arange(len(peers)).reshape(-1, *(1 for _ in reducer.shape))
            fused = wanted[index] | (positions == reducer)
            newest[rows] |= np.where(trained, fused, pulled[index])
            versions.append(np.where(trained, round_index + 1, self.version[index]))
            homes.append(home.astype(np.int16))
            newests.append(newest)
        return Homes(
            self.peers,
            tuple(version.astype(np.int32) for version in versions),
            tuple(homes),
            tuple(newests),
        )

    def lacking(self, peer: str, signature: int) -> Mask:
        """Cells that were ever trained and that the peer does not have newest."""
        trained: Mask = self.version[signature] > 0
        position = self.position(peer)
        if position is None:
            return trained
        lacking: Mask = trained & ~self.newest[signature][position]
        return lacking

    def copies(self, signature: int, names: Sequence[str]) -> Mask:
        """(names, cells...): which of these peers has the newest values of a cell."""
        rows = [self._positions[name] for name in names]
        return self.newest[signature][rows]

    def segments(
        self,
        layout: Layout,
        *,
        home: str,
        within: Split | None = None,
        lacking: str | None = None,
    ) -> tuple[Segment, ...]:
        """Everything that lives at ``home``: ever trained, in canonical order.

        Optionally only what is in a split, and only what a peer does not have newest.
        """
        found: list[Segment] = []
        position = self.position(home)
        if position is None:
            return ()
        for index, signature in enumerate(layout.signatures):
            mask: Mask = self.home[index] == position
            if within is not None:
                mask = mask & grid_mask(layout, signature, within)
            if lacking is not None:
                mask = mask & self.lacking(lacking, index)
            found.extend(mask_segments(layout, signature, mask))
        return tuple(found)

    def ever_trained_fraction(self, layout: Layout) -> float:
        """Share of the model's elements that somebody has trained."""
        trained = sum(
            int(cell_elements(layout, signature)[version > 0].sum())
            for signature, version in zip(layout.signatures, self.version, strict=True)
        )
        return trained / max(layout.size, 1)

    def replication_min(self) -> int:
        """Copies of the newest values of the cell with the fewest; 0: none trained."""
        return min(
            (
                int(newest.sum(axis=0)[version > 0].min())
                for version, newest in zip(self.version, self.newest, strict=True)
                if (version > 0).any()
            ),
            default=0,
        )

    @cached_property
    def digest(self) -> bytes:
        """Sixteen bytes that name this table."""
        return hashlib.sha256(self.to_bytes()).digest()[:16]

    def to_bytes(self) -> bytes:
        """Canonical bytes, the same on every platform."""
        names = [peer.encode() for peer in self.peers]
        parts = [MAGIC, struct.pack("<H", len(names))]
        parts += [struct.pack("<H", len(name)) + name for name in names]
        for version, home, newest in zip(
            self.version, self.home, self.newest, strict=True
        ):
            parts.append(version.astype("<i4").tobytes())
            parts.append(home.astype("<i2").tobytes())
            parts.append(np.packbits(newest).tobytes())
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, layout: Layout, data: bytes) -> Homes:
        """The table that ``to_bytes`` wrote; ``LayoutError`` for anything else."""
        reader = _Reader(data)
        if reader.take(len(MAGIC)) != MAGIC:
            raise LayoutError("a table of homes begins with another mark")
        peers = tuple(reader.name() for _ in range(reader.count()))
        if len(set(peers)) != len(peers):
            raise LayoutError("a table of homes names a peer twice")
        tables = [
            _signature_arrays(reader, grid_shape(layout, signature), len(peers))
            for signature in layout.signatures
        ]
        reader.finish()
        return cls(
            peers,
            tuple(version for version, _, _ in tables),
            tuple(home for _, home, _ in tables),
            tuple(newest for _, _, newest in tables),
        )


@dataclass(frozen=True, eq=False)
class HomePulls:
    """What peers get from homes: cells trained once, but by nobody this round.

    Per signature, over the grid: ``source``, the home of each such cell as a position
    in the plan's peers (-1: none that is there); ``home``, the same for all cells,
    trained this round or not; ``lacked``, per peer, what it needs next, or shall keep a
    copy of, and does not have newest. ``sent`` and ``received`` are elements per peer.
    """

    home: tuple[Counts, ...]
    source: tuple[Counts, ...]
    lacked: tuple[Mask, ...]
    sent: Counts
    received: Counts

    @classmethod
    def of(
        cls,
        layout: Layout,
        homes: Homes,
        peers: Sequence[str],
        *,
        trained: Sequence[Mask],
        wanted: Sequence[Mask],
    ) -> HomePulls:
        """For peers that ``homes`` all knows; ``wanted`` is per peer, as in Homes."""
        rows = homes.rows(peers)
        # The last entry stands for the home -1.
        positions = np.full(len(homes.peers) + 1, -1, np.int64)
        positions[rows] = np.arange(len(peers))
        home = tuple(positions[each] for each in homes.home)
        source, lacked = [], []
        for index in range(len(layout.signatures)):
            source.append(np.where(trained[index], -1, home[index]))
            there = source[-1] >= 0
            lacked.append(wanted[index] & there & ~homes.newest[index][rows])
        none = np.zeros(len(peers), np.int64)
        pulls = cls(home, tuple(source), tuple(lacked), none, none)
        return pulls._counted(layout)

    def with_more(self, layout: Layout, more: Sequence[Mask]) -> HomePulls:
        """The same pulls and these, (peers, cells...) per signature."""
        pairs = zip(self.lacked, more, strict=True)
        lacked = tuple(lacked | extra for lacked, extra in pairs)
        return replace(self, lacked=lacked)._counted(layout)

    def _counted(self, layout: Layout) -> HomePulls:
        """The same pulls, and what each peer sends and receives by them."""
        sent, received = np.zeros_like(self.sent), np.zeros_like(self.received)
        for index, signature in enumerate(layout.signatures):
            there = self.source[index] >= 0
            sizes = cell_elements(layout, signature)[there]
            pulls = self.lacked[index][:, there]
            received += pulls @ sizes
            np.add.at(sent, self.source[index][there], pulls.sum(axis=0) * sizes)
        return replace(self, sent=sent, received=received)


class _Reader:
    """Takes bytes from the front; ``LayoutError`` where there are none left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def take(self, size: int) -> bytes:
        taken = self._data[self._offset : self._offset + size]
        if len(taken) != size:
            raise LayoutError("a table of homes is cut short")
        self._offset += size
        return taken

    def count(self) -> int:
        value: int = struct.unpack("<H", self.take(2))[0]
        if value > MAX_PEERS_EVER:
            raise LayoutError("a table of homes names too many peers")
        return value

    def name(self) -> str:
        try:
            name = self.take(self.count()).decode()
        except UnicodeDecodeError:
            raise LayoutError("a table of homes has a malformed name") from None
        if not 0 < len(name) <= MAX_NAME_CHARACTERS:
            raise LayoutError("a table of homes has a name of a forbidden length")
        return name

    def finish(self) -> None:
        if self._offset != len(self._data):
            raise LayoutError("a table of homes has bytes left over")


def _signature_arrays(
    reader: _Reader, shape: tuple[int, ...], peer_count: int
) -> tuple[NDArray[np.int32], NDArray[np.int16], Mask]:
    cells = math.prod(shape)
    bits = peer_count * cells
    version = np.frombuffer(reader.take(4 * cells), "<i4").astype(np.int32)
    home = np.frombuffer(reader.take(2 * cells), "<i2").astype(np.int16)
    packed = np.frombuffer(reader.take(-(-bits // 8)), np.uint8)
    unpacked = np.unpackbits(packed)
    newest = unpacked[:bits].reshape(peer_count, cells).astype(np.bool_)
    trained = version > 0
    good = (
        not unpacked[bits:].any()
        and bool((version >= 0).all())
        and bool(((home >= -1) & (home < peer_count)).all())
        and bool(((home >= 0) == trained).all())
        and not newest[:, ~trained].any()
        and bool(newest[home[trained], trained].all())
    )
    if not good:
        raise LayoutError("a table of homes contradicts itself")
    return (
        version.reshape(shape),
        home.reshape(shape),
        newest.reshape(peer_count, *shape),
    )
