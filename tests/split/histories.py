"""Small swarms over several rounds, and sets of single coordinates to compare with.

A coordinate is (parameter, position in each dimension). What plans say about segments
is turned into sets of these, so that the slow second versions in the tests know neither
cells nor atoms nor ranges.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hypothesis import strategies as st

from p2pfusion.split.homes import Homes
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.plan import ExchangePlan, Hop, plan_round
from p2pfusion.split.segment import Segment, Split
from tests.protocol.stage import small_layout
from tests.strategies import index_sets, layouts

Coordinate = tuple[int, ...]
Splits = Mapping[str, Split]
NAMES = ("ash", "birch", "cedar", "elm", "fir")
MAX_MODEL_ELEMENTS = 3_000


@dataclass(frozen=True)
class History:
    """The splits of each round, by peer; rosters may differ from round to round."""

    layout: Layout
    seed: int
    rounds: tuple[Splits, ...]

    def plans(self, *, replication: int = 0) -> list[ExchangePlan]:
        """The plan of every round but the last, each with the homes that it follows."""
        homes = Homes.initial(self.layout)
        plans = []
        for index, (current, following) in enumerate(itertools.pairwise(self.rounds)):
            plan = plan_round(
                self.layout,
                seed=self.seed,
                round_index=index,
                current=current,
                following=following,
                homes=homes,
                replication=replication,
            )
            homes = plan.homes_after()
            plans.append(plan)
        return plans


def reduced_by_holders(layout: Layout, splits: Splits) -> ExchangePlan:
    """A first round, after which all splits stay, and every reducer is a holder."""
    return plan_round(
        layout,
        seed=1,
        round_index=0,
        current=splits,
        following=splits,
        homes=Homes.initial(layout),
        among_holders=True,
    )


def all_held_by(names: Iterable[str]) -> ExchangePlan:
    """Such a round in which all of these peers hold all of a small model."""
    layout = small_layout()
    return reduced_by_holders(layout, dict.fromkeys(names, Split.full(layout)))


@st.composite
def loose_splits(draw: st.DrawFn, layout: Layout) -> Split:
    """Any split that stands on the grid; it may be empty on an axis."""
    sets = tuple(
        (axis.name, axis.cells(draw(index_sets(axis.cell_count))))
        for axis in layout.axes
    )
    gates = [axis.name for axis in layout.axes if axis.is_gate]
    frozen = draw(st.sets(st.sampled_from(gates))) if gates else ()
    return Split(sets, frozenset(frozen))


@st.composite
def histories(draw: st.DrawFn, *, round_count: int = 2) -> History:
    """Rounds of a small swarm whose members come and go."""
    layout = draw(layouts().filter(lambda layout: layout.size <= MAX_MODEL_ELEMENTS))
    known = [draw(loose_splits(layout)) for _ in range(3)] + [Split.full(layout)]
    rosters = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(known))
    return History(
        layout,
        draw(st.integers(0, 2**63 - 1)),
        tuple(draw(rosters) for _ in range(round_count)),
    )


def coordinates(segments: Iterable[Segment]) -> set[Coordinate]:
    """The elements of segments, which must not have any in common."""
    listed = [
        (segment.parameter, *position)
        for segment in segments
        for position in itertools.product(*segment.sets)
    ]
    found = set(listed)
    assert len(found) == len(listed), "an element occurs twice"
    return found


def split_coordinates(layout: Layout, split: Split | None) -> set[Coordinate]:
    """The elements that a split holds; none where there is no split."""
    return set() if split is None else coordinates(split.segments(layout))


def all_coordinates(layout: Layout) -> set[Coordinate]:
    """Every element of the model."""
    return split_coordinates(layout, Split.full(layout))


def last_plan(history: History) -> ExchangePlan:
    """The plan of the last round that has one."""
    return history.plans()[-1]


def streamed(plan: ExchangePlan, hop: Hop, source: str, target: str) -> set[Coordinate]:
    """What a stream of a plan carries."""
    return coordinates(plan.stream(hop, source=source, target=target))


def current(history: History, peer: str) -> set[Coordinate]:
    """What the peer trains in the last planned round."""
    split = history.rounds[-2].get(peer)
    return split_coordinates(history.layout, None if split is None else trained(split))


def trained(split: Split) -> Split:
    """The split without the layers that it does not train."""
    pairs = ((a, IndexSet() if a in split.frozen else s) for a, s in split.sets)
    return Split(tuple(pairs))


def following(history: History, peer: str) -> set[Coordinate]:
    """What the peer needs after it."""
    return split_coordinates(history.layout, history.rounds[-1].get(peer))
