"""Homes against a dictionary of single coordinates, while peers come and go."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.errors import LayoutError
from p2pfusion.limits import MAX_NAME_CHARACTERS
from p2pfusion.split.homes import Homes
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.plan import ExchangePlan, plan_round
from p2pfusion.split.segment import Segment, Split
from tests.split.histories import (
    NAMES,
    Coordinate,
    History,
    Splits,
    coordinates,
    histories,
    loose_splits,
    split_coordinates,
)

slow = settings(max_examples=30)


@dataclass
class Entry:
    version: int = 0
    home: str = ""
    newest: set[str] = field(default_factory=set)


class SlowHomes:
    """The same table with an entry for every element that was ever trained."""

    def __init__(self) -> None:
        self.entries: dict[Coordinate, Entry] = {}
        self.seen: list[str] = []

    def after(self, plan: ExchangePlan, current: Splits, following: Splits) -> None:
        layout, present = plan.layout, {*current, *following}
        self.seen += sorted(present - set(self.seen))
        for entry in self.entries.values():
            living = [peer for peer in self.seen if peer in entry.newest & present]
            if entry.home not in present and living:
                entry.home = living[0]
        reducers = {
            coordinate: peer
            for peer in plan.peers
            for coordinate in coordinates(plan.segments(plan.reduced_by(peer).tolist()))
        }
        for coordinate, peer in reducers.items():
            self.entries[coordinate] = Entry(plan.round_index + 1, peer, {peer})
        for peer, split in following.items():
            for coordinate in split_coordinates(layout, split):
                entry = self.entries.get(coordinate)
                if entry is not None and entry.home in present:
                    entry.newest.add(peer)


def assert_same(homes: Homes, slow_homes: SlowHomes, layout: Layout) -> None:
    entries = slow_homes.entries
    assert list(homes.peers) == slow_homes.seen
    for home in homes.peers:
        lives = {c for c, entry in entries.items() if entry.home == home}
        assert coordinates(homes.segments(layout, home=home)) == lives
        for reader in (*homes.peers, "stranger"):
            lacked = {c for c in lives if reader not in entries[c].newest}
            found = homes.segments(layout, home=home, lacking=reader)
            assert coordinates(found) == lacked
    assert homes.ever_trained_fraction(layout) == pytest.approx(
        len(entries) / layout.size
    )
    copies = [len(entry.newest) for entry in entries.values()]
    assert homes.replication_min() == min(copies, default=0)


@slow
@given(histories(round_count=5))
def test_homes_follow_the_rounds(history: History) -> None:
    slow_homes = SlowHomes()
    for plan in history.plans():
        index = plan.round_index
        slow_homes.after(plan, history.rounds[index], history.rounds[index + 1])
        homes = plan.homes_after()
        assert_same(homes, slow_homes, history.layout)
        for number, signature in enumerate(history.layout.signatures):
            versions = {
                entry.version
                for coordinate, entry in slow_homes.entries.items()
                if coordinate[0] in signature.parameters
            }
            stored = set(homes.version[number].ravel().tolist())
            assert versions == stored - {0}


@slow
@given(histories(round_count=4), st.data())
def test_segments_inside_a_split(history: History, data: st.DataObject) -> None:
    homes = history.plans()[-1].homes_after()
    split = data.draw(loose_splits(history.layout))
    inside = split_coordinates(history.layout, split)
    for home in homes.peers:
        lives = coordinates(homes.segments(history.layout, home=home))
        found = homes.segments(history.layout, home=home, within=split)
        assert coordinates(found) == lives & inside


@slow
@given(histories(round_count=4), st.sets(st.sampled_from(NAMES)))
def test_an_absent_home_is_replaced_by_a_living_copy(
    history: History, present: set[str]
) -> None:
    homes = history.plans()[-1].homes_after()
    settled = homes.settled(present)
    layout, there = history.layout, present & {*homes.peers}
    for before in homes.peers:
        lives = coordinates(homes.segments(layout, home=before))
        for after in homes.peers:
            moved = lives & coordinates(settled.segments(layout, home=after))
            if before in present:
                assert moved == (lives if after == before else set())
            elif after in present:
                lacked = homes.segments(layout, home=before, lacking=after)
                assert not moved & coordinates(lacked)
            elif after == before:
                for peer in there:
                    lacked = homes.segments(layout, home=before, lacking=peer)
                    assert moved <= coordinates(lacked)
            else:
                assert not moved


def test_homes_know_nothing_at_first() -> None:
    homes = Homes.initial(LAYOUT)
    assert homes.peers == ()
    assert homes.segments(LAYOUT, home="a") == ()
    assert homes.ever_trained_fraction(LAYOUT) == 0
    assert homes.replication_min() == 0


# --- Bytes ---------------------------------------------------------------------------

LAYOUT = Layout(
    (Axis("wide", 6), Axis("deep", 3)),
    (
        ParameterSpec(
            "w", (Dimension(6, "wide"), Dimension(3, "deep")), Initial("zeros")
        ),
        ParameterSpec("b", (Dimension(6, "wide"),), Initial("zeros")),
        ParameterSpec("scale", (Dimension(2),), Initial("ones")),
    ),
)


def some_homes() -> Homes:
    split = Split.of({"wide": IndexSet.span(0, 4), "deep": IndexSet.span(1, 3)})
    other = Split.of({"wide": IndexSet.span(2, 6), "deep": IndexSet.span(0, 2)})
    return plan_round(
        LAYOUT,
        seed=3,
        round_index=6,
        current={"ann": split, "bob": other},
        following={"ann": other, "bob": split},
        homes=Homes.initial(LAYOUT),
    ).homes_after()


@slow
@given(histories(round_count=4))
def test_bytes_and_back(history: History) -> None:
    homes = history.plans()[-1].homes_after()
    data = homes.to_bytes()
    again = Homes.from_bytes(history.layout, data)
    assert again.to_bytes() == data
    assert again.digest == homes.digest
    assert again.peers == homes.peers
    for peer in homes.peers:
        segments = homes.segments(history.layout, home=peer)
        assert again.segments(history.layout, home=peer) == segments


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    for attempt in (data, some_homes().to_bytes()[:8] + data):
        with pytest.raises(LayoutError):
            Homes.from_bytes(LAYOUT, attempt)


@settings(max_examples=300)
@given(st.data())
def test_damaged_bytes_are_refused_or_mean_what_they_say(data: st.DataObject) -> None:
    damaged = bytearray(some_homes().to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        homes = Homes.from_bytes(LAYOUT, bytes(damaged))
    except LayoutError:
        return
    assert homes.to_bytes() == bytes(damaged)
    for index in range(len(LAYOUT.signatures)):
        trained = homes.version[index] > 0
        assert ((homes.home[index] >= 0) == trained).all()
        assert (homes.newest[index].any(axis=0) == trained).all()


def test_every_cut_is_refused() -> None:
    whole = some_homes().to_bytes()
    for length in range(len(whole)):
        with pytest.raises(LayoutError):
            Homes.from_bytes(LAYOUT, whole[:length])
    with pytest.raises(LayoutError):
        Homes.from_bytes(LAYOUT, whole + b"\0")


def test_names_are_bounded_and_different() -> None:
    for names in (["a", "b"], ["x" * MAX_NAME_CHARACTERS, "y" * MAX_NAME_CHARACTERS]):
        homes = Homes.initial(LAYOUT).with_peers(names)
        data = homes.to_bytes()
        assert Homes.from_bytes(LAYOUT, data).peers == homes.peers
        twice = data.replace(names[1].encode(), names[0].encode())
        with pytest.raises(LayoutError):
            Homes.from_bytes(LAYOUT, twice)
    long = Homes.initial(LAYOUT).with_peers(["x" * (MAX_NAME_CHARACTERS + 1)])
    with pytest.raises(LayoutError):
        Homes.from_bytes(LAYOUT, long.to_bytes())


def test_the_digest_follows_the_content() -> None:
    homes = some_homes()
    assert homes.digest == some_homes().digest
    assert homes.digest != homes.with_peers(["cy"]).digest
    assert homes.digest != Homes.initial(LAYOUT).digest
    assert len(homes.digest) == 16


def test_new_peers_come_last_and_in_order() -> None:
    homes = some_homes()
    grown = homes.with_peers(["zoe", "ann", "al"])
    assert grown.peers == ("ann", "bob", "al", "zoe")
    assert grown.with_peers(["al"]) is grown
    for peer in homes.peers:
        assert grown.segments(LAYOUT, home=peer) == homes.segments(LAYOUT, home=peer)


def test_segments_come_by_signature_then_rectangle_then_parameter() -> None:
    full = {"only": Split.full(LAYOUT)}
    homes = plan_round(
        LAYOUT,
        seed=0,
        round_index=0,
        current=full,
        following=full,
        homes=Homes.initial(LAYOUT),
    ).homes_after()
    wide, deep = IndexSet.span(0, 6), IndexSet.span(0, 3)
    assert homes.segments(LAYOUT, home="only") == (
        Segment(0, (wide, deep)),
        Segment(1, (wide,)),
        Segment(2, (IndexSet.span(0, 2),)),
    )
