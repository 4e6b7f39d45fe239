"""The ``Payloads`` of a small swarm on one table: planned rounds, carried by hand.

What daemons do over sockets is done here by calls, in memory, chunk by chunk. Beside it
grows the *truth*: one dense model in numpy that knows no segment, range or reducer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from p2pfusion.daemon.payloads import Payloads, Writer
from p2pfusion.daemon.weighed_payloads import WeighedPayloads
from p2pfusion.fusion.weighing import Opinions
from p2pfusion.protocol.events import Caught, OpenSink, StreamKey
from p2pfusion.protocol.messages import Chunk
from p2pfusion.split.forms import WIRE, Wire
from p2pfusion.split.homes import Homes
from p2pfusion.split.layout import Layout
from p2pfusion.split.plan import ExchangePlan, Hop, plan_round
from p2pfusion.split.segment import Split
from p2pfusion.store import Owed, Store, initial_values, write_offer
from tests.split.histories import loose_splits, trained
from tests.strategies import layouts

Floats = NDArray[np.float32]
Arrays = list[Floats]

SEED = 5
NAMES = ("ash", "birch", "cedar")
CHUNK_BYTES = 52
"""Small and no power of two, so that chunks end everywhere; a multiple of 4."""


@st.composite
def rounds_of_splits(
    draw: st.DrawFn, *, round_count: int
) -> tuple[Layout, list[dict[str, Split]]]:
    """A small layout, and any splits of three peers in some rounds."""
    layout = draw(layouts().filter(lambda layout: layout.size <= 1_500))
    rounds = [
        {name: draw(loose_splits(layout)) for name in NAMES}
        for _ in range(round_count + 1)
    ]
    return layout, rounds


@dataclass
class Table:
    """Three desks, their plans, and the truth."""

    root: Path
    layout: Layout
    wire_dtype: str = "float32"
    adds_changes: bool = False
    fusion: str = "mean"
    is_checked: bool = False
    desks: dict[str, Payloads] = field(init=False)
    truth: Arrays = field(init=False)
    homes: Homes = field(init=False)
    plan: ExchangePlan = field(init=False)
    held: Mapping[str, Split] = field(init=False)
    current: Mapping[str, Split] = field(init=False)
    """What of it is trained."""
    offers: dict[str, Arrays] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    """Of contributions; 1 where nothing is said."""
    made_again: set[tuple[str, str]] = field(default_factory=set)
    """Backups that have reduced in this round what another reducer has, and which."""
    _pulls: int = 0

    def __post_init__(self) -> None:
        self.desks = {name: self._desk(name) for name in NAMES}
        self.homes = Homes.initial(self.layout)
        self.truth = [
            initial_values(
                self.layout, SEED, index, 0, p.shape[0] if p.shape else 1
            ).reshape(p.shape)
            for index, p in enumerate(self.layout.parameters)
        ]

    def _desk(self, name: str) -> Payloads:
        store = Store.create(self.root / name, self.layout, SEED)
        if self.is_checked:
            return WeighedPayloads(
                name,
                store,
                self.wire_dtype,
                fusion=self.fusion,
                owed=self.owed(name) if self.wire.sends_changes else None,
                opinions=Opinions(),
            )
        return Payloads(
            name,
            store,
            self.wire_dtype,
            fusion=self.fusion,
            adds_changes=self.adds_changes,
            owed=self.owed(name) if self.wire.sends_changes else None,
        )

    @property
    def wire(self) -> Wire:
        """The forms in which values travel."""
        return WIRE[self.wire_dtype]

    def owed(self, name: str) -> Owed:
        """What a peer's contributions have lost."""
        return Owed(self.root / f"{name}-owed", self.layout)

    # --- A round ---------------------------------------------------------------------

    def enter(
        self, number: int, current: Mapping[str, Split], following: Mapping[str, Split]
    ) -> None:
        """Everybody plans the round."""
        for desk in self.desks.values():
            desk.store.flush()
        self.held = current
        self.current = {name: trained(split) for name, split in current.items()}
        self.plan = plan_round(
            self.layout,
            seed=SEED,
            round_index=number,
            current=current,
            following=following,
            homes=self.homes,
            among_holders=self.adds_changes
            or self.wire.sends_changes
            or self.fusion != "mean",
        )
        for desk in self.desks.values():
            desk.enter(self.plan, self.homes)
        self.homes = self.plan.homes_after()
        self.offers = {}
        self.made_again = set()

    def train(
        self,
        random: np.random.Generator,
        names: tuple[str, ...] = NAMES,
        *,
        below: int = 999,
        lengths_differ: bool = True,
    ) -> None:
        """Some offer numbers out of thin air, 64ths, whose sums are exact; or all of
        the same size, up or down."""
        for name in names:
            desk = self.desks[name]
            split = self.current[name]
            arrays = [
                (_drawn(random, below, segment.shape, lengths_differ) / 64).astype(
                    np.float32
                )
                for segment in split.segments(self.layout)
            ]
            path = self.root / f"{name}-{self.plan.round_index}.f32"
            write_offer(path, arrays)
            desk.offered(self.plan.round_index, path, self.held[name])
            self.offers[name] = arrays

    def reduce(self, reducer: str, *, instead_of: str = "") -> None:
        """A reducer averages what those send it who trained, and its own."""
        desk, number = self.desks[reducer], self.plan.round_index
        failed = instead_of or None
        desk.open_reduction(number, instead_of)
        own = self.plan.own_ranges(reducer, instead_of=failed).size
        if own and reducer in self.offers:
            weight = self.weights.get(reducer, 1.0)
            desk.add_own(number, instead_of, weight)
        for source in self.plan.sources(Hop.CONTRIBUTION, reducer, instead_of=failed):
            if source in self.offers:
                self.carry(Hop.CONTRIBUTION, source, reducer, instead_of=instead_of)
        desk.close_reduction(number, instead_of)

    def exchange(self) -> None:
        """Everything that the plan says, in its two hops."""
        for name in NAMES:
            self.reduce(name)
        for target in NAMES:
            for hop in (Hop.FUSED, Hop.HOME):
                for source in self.plan.sources(hop, target):
                    self.carry(hop, source, target)

    def check_reducers(self, target: str) -> list[Caught]:
        """What a target has got of its reducers is compared with what their backups
        make of the same; who was caught."""
        desk, number, caught = self.desks[target], self.plan.round_index, list[Caught]()
        assert isinstance(desk, WeighedPayloads)
        for reducer in self.plan.sources(Hop.FUSED, target):
            for backup in self.plan.backups(reducer, target):
                if (backup, reducer) not in self.made_again:
                    self.made_again.add((backup, reducer))
                    self.reduce(backup, instead_of=reducer)
                if backup != target:
                    self.carry(Hop.FUSED, backup, target, instead_of=reducer)
            caught += desk.settle(number, reducer)
        return caught

    def learn_changes(self) -> None:
        """The dense sum of everybody's shares of changes is added to the model."""
        for index, values in enumerate(self.truth):
            total = values.astype(np.float64)
            for name, arrays in self.offers.items():
                segment = self.current[name].segment(self.layout, index)
                place = np.ix_(*(list(indices) for indices in segment.sets))
                total[place] += self.weights.get(name, 1.0) * arrays[index]
            self.truth[index] = total.astype(np.float32)

    def learn_median_changes(self) -> None:
        """Of each element, by how many have it: the change of one, what two agree on,
        or the median of three is added to the model."""
        for index, values in enumerate(self.truth):
            rows = [np.full(values.shape, np.nan) for _ in self.offers]
            for row, (name, arrays) in zip(rows, self.offers.items(), strict=True):
                segment = self.current[name].segment(self.layout, index)
                row[np.ix_(*(list(i) for i in segment.sets))] = arrays[index]
            for place in np.ndindex(values.shape):
                said = [float(row[place]) for row in rows if not np.isnan(row[place])]
                change = sorted([0.0, *said] if len(said) == 2 else said)
                if said:
                    values[place] += np.float32(change[len(change) // 2])

    def learn_mean_changes(self) -> None:
        """The dense masked mean of everybody's changes is added to the model, in the
        precision of what is passed on."""
        before = [values.copy() for values in self.truth]
        self.learn_truth()
        for index, (old, mean) in enumerate(zip(before, self.truth, strict=True)):
            trained = np.zeros(old.shape, np.bool_)
            for name in self.offers:
                segment = self.current[name].segment(self.layout, index)
                trained[np.ix_(*(list(indices) for indices in segment.sets))] = True
            new = (old + mean).astype(np.float16).astype(np.float32)
            self.truth[index] = np.where(trained, new, old)

    def learn_truth(self) -> None:
        """The dense masked mean of everybody's offers becomes the model."""
        for index, parameter in enumerate(self.layout.parameters):
            total = np.zeros(parameter.shape, np.float64)
            count = np.zeros(parameter.shape, np.float64)
            for name, arrays in self.offers.items():
                segment = self.current[name].segment(self.layout, index)
                place = np.ix_(*(list(indices) for indices in segment.sets))
                total[place] += arrays[index]
                count[place] += 1
            mean = (total / np.maximum(count, 1)).astype(np.float32)
            self.truth[index] = np.where(count > 0, mean, self.truth[index])

    # --- A stream --------------------------------------------------------------------

    def key(
        self, hop: Hop, source: str, target: str, instead_of: str = ""
    ) -> StreamKey:
        """The name of a stream of this round."""
        number = self.plan.round_index
        return StreamKey(hop.value, number, source, target, instead_of)

    def carry(
        self,
        hop: Hop,
        source: str,
        target: str,
        *,
        instead_of: str = "",
        asked: bytes = b"",
        export: Writer | None = None,
    ) -> None:
        """One whole stream, in small chunks."""
        stream = replace(self.key(hop, source, target, instead_of), asked=asked)
        giver, taker = self.desks[source], self.desks[target]
        self._pulls += 1
        pull = self._pulls
        size, absent = giver.start(target, pull, stream)
        weight = self.weights.get(source, 1.0)
        taker.open_sink(OpenSink(pull, stream, weight, size, absent), export)
        step = max(CHUNK_BYTES, self.wire.form(hop).block_bytes)
        for offset in range(0, size, step):
            length = min(step, size - offset)
            chunk = giver.chunk(target, pull, offset, length)
            assert chunk is not None and chunk.nbytes == length
            taker.check(source, Chunk(pull, offset, chunk))
            taker.absorb(pull, chunk)
        taker.close_sink(pull, complete=True)
        assert taker.round_of(pull) is None

    # --- What came of it -------------------------------------------------------------

    def stored(self, name: str, split: Split) -> Arrays:
        """What a peer's store holds of a split, once the round is sealed."""
        self.desks[name].store.flush()
        segments = split.segments(self.layout)
        return [self.desks[name].store.read(segment) for segment in segments]

    def true(self, split: Split) -> Arrays:
        """The same of the truth."""
        return [
            self.truth[segment.parameter][
                np.ix_(*(list(indices) for indices in segment.sets))
            ]
            for segment in split.segments(self.layout)
        ]


def _drawn(
    random: np.random.Generator, below: int, shape: tuple[int, ...], any_size: bool
) -> NDArray[np.int64]:
    if any_size:
        return random.integers(-below, below, shape)
    return random.choice(np.array([-1, 1]), shape)
