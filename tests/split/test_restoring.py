"""What is lacking and how it is named, against sets of single coordinates."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.split.grid import grid_shape
from p2pfusion.split.keeping import Cells, count_cells
from p2pfusion.split.layout import Layout
from p2pfusion.split.plan import Hop
from p2pfusion.split.restoring import (
    MAX_ASKED_BYTES,
    MAX_FORMER_CELLS,
    ONE_BY_ONE,
    SKIPPED_BYTES,
    Former,
    absent_cells,
    asked_cells,
    asked_products,
    asked_segments,
    at_least,
    formerly,
    lacking_cells,
    nowhere,
    pack_cells,
    shared_out,
    unpack_cells,
    wanted_versions,
    without_pulled,
)
from tests.split.histories import (
    NAMES,
    Coordinate,
    History,
    coordinates,
    current,
    histories,
    last_plan,
    streamed,
)
from tests.split.test_keeping import in_cells, newest_at
from tests.strategies import layouts

slow = settings(max_examples=30)


@st.composite
def cells_of(draw: st.DrawFn, layout: Layout) -> Cells:
    """Any cells of a layout's grids."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    share = draw(st.sampled_from((0.0, 0.02, 0.5, 1.0)))
    shapes = [grid_shape(layout, signature) for signature in layout.signatures]
    return tuple(np.asarray(random.random(shape) < share) for shape in shapes)


@st.composite
def named(draw: st.DrawFn) -> tuple[History, Cells]:
    """A small swarm's history, and any cells of its model."""
    history = draw(histories(round_count=4))
    return history, draw(cells_of(history.layout))


def untrained(history: History) -> set[Coordinate]:
    """What nobody trains in the last planned round."""
    plan = last_plan(history)
    everywhere = coordinates(plan.segments(range(len(plan.range_sizes))))
    return everywhere - set().union(*(current(history, name) for name in NAMES))


@slow
@given(histories(round_count=4), st.data())
def test_what_is_older_than_the_table_says_is_lacking(
    history: History, data: st.DataObject
) -> None:
    plan = last_plan(history)
    peer = data.draw(st.sampled_from(NAMES))
    lost = data.draw(cells_of(history.layout))
    pairs = zip(plan.homes.version, lost, strict=True)
    versions = tuple(np.where(mask, version - 1, version) for version, mask in pairs)
    found = in_cells(plan, lacking_cells(plan, peer, versions))
    if plan.homes.position(peer) is None:
        assert not found
        return
    said = newest_at(plan, peer) & untrained(history)
    assert found == said & in_cells(plan, lost)


@slow
@given(named())
def test_a_source_sends_what_was_named_and_nobody_trains(
    drawn: tuple[History, Cells],
) -> None:
    history, cells = drawn
    plan = last_plan(history)
    found = in_cells(plan, asked_cells(plan, pack_cells(cells)))
    assert found == in_cells(plan, cells) & untrained(history)


@slow
@given(named(), st.sampled_from(NAMES))
def test_of_cells_that_are_named_those_are_lacking_that_are_older(
    drawn: tuple[History, Cells], peer: str
) -> None:
    history, cells = drawn
    plan = last_plan(history)
    versions = tuple(version - 1 for version in plan.homes.version)
    found = lacking_cells(plan, peer, versions, cells)
    assert in_cells(plan, found) == in_cells(plan, cells) & untrained(history)
    newest = tuple(plan.homes.version)
    assert not count_cells(lacking_cells(plan, peer, newest, cells))


@slow
@given(named(), st.sampled_from(NAMES))
def test_who_catches_up_does_not_ask_for_what_comes_anyway(
    drawn: tuple[History, Cells], peer: str
) -> None:
    history, cells = drawn
    plan = last_plan(history)
    comes = [streamed(plan, Hop.CATCH_UP, source, peer) for source in plan.peers]
    rest = in_cells(plan, without_pulled(plan, peer, cells))
    assert rest == in_cells(plan, cells) - set().union(*comes)


@slow
@given(named(), st.sets(st.sampled_from(NAMES)), st.data())
def test_what_is_lacking_is_asked_of_one_each_and_of_nobody_twice(
    drawn: tuple[History, Cells], among: set[str], data: st.DataObject
) -> None:
    history, cells = drawn
    plan = last_plan(history)
    among = {peer for peer in among if plan.homes.position(peer) is not None}
    before = {
        peer: data.draw(cells_of(history.layout))
        for peer in data.draw(st.sets(st.sampled_from(NAMES)))
    }
    can = {
        peer: (newest_at(plan, peer) & in_cells(plan, cells))
        - (in_cells(plan, before[peer]) if peer in before else set())
        for peer in among
    }
    found = shared_out(plan.layout, plan.homes, cells, among, but=before)
    parts = {peer: in_cells(plan, part) for peer, part in found.items()}
    assert all(parts[peer] and parts[peer] <= can[peer] for peer in parts)
    assert sum(map(len, parts.values())) == len(set().union(*parts.values()))
    assert set().union(*parts.values()) == set().union(*can.values())


@given(layouts(), st.data())
def test_named_cells_are_read_as_they_were_meant(
    layout: Layout, data: st.DataObject
) -> None:
    cells = data.draw(cells_of(layout))
    packed = pack_cells(cells)
    count = sum(int(mask.sum()) for mask in cells)
    assert bool(packed) is bool(count)
    for read, meant in zip(unpack_cells(layout, packed), cells, strict=True):
        assert np.array_equal(read, meant)


@given(layouts(), st.binary(max_size=200))
def test_any_bytes_name_cells_of_the_model(layout: Layout, packed: bytes) -> None:
    found = unpack_cells(layout, packed)
    shapes = [grid_shape(layout, signature) for signature in layout.signatures]
    assert [mask.shape for mask in found] == shapes
    bits = "".join(f"{byte:08b}" for byte in packed[SKIPPED_BYTES:])
    first = 8 * int.from_bytes(packed[:SKIPPED_BYTES], "big")
    flat = [bit for mask in found for bit in mask.ravel().tolist()]
    for at, bit in enumerate(flat):
        assert bit is (first <= at < first + len(bits) and bits[at - first] == "1")


@given(layouts(), st.data())
def test_cells_become_segments_once_each(layout: Layout, data: st.DataObject) -> None:
    cells = data.draw(cells_of(layout))
    pieces = list(asked_segments(layout, cells))
    count = sum(int(mask.sum()) for mask in cells)
    pairs = list(zip(layout.signatures, cells, strict=True))
    if count <= ONE_BY_ONE:
        expected = sum(int(m.sum()) * len(s.parameters) for s, m in pairs)
        assert len(pieces) == expected
    else:
        assert len(pieces) < count * len(layout.parameters)
    assert sum(piece.size for piece in pieces) == len(coordinates(pieces))


def test_of_too_many_cells_the_first_are_named() -> None:
    lacking = 8 * MAX_ASKED_BYTES
    packed = pack_cells((np.arange(lacking + 80) >= 80,))
    most = MAX_ASKED_BYTES - SKIPPED_BYTES
    assert packed == (10).to_bytes(SKIPPED_BYTES, "big") + b"\xff" * most


@given(layouts(), st.data())
def test_what_a_head_marks_is_absent_cell_by_cell(
    layout: Layout, data: st.DataObject
) -> None:
    cells = data.draw(cells_of(layout))
    pieces = list(asked_segments(layout, cells))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    marks = random.random(len(pieces)) < 0.3
    absent = absent_cells(layout, cells, np.packbits(marks).tobytes())
    expected = [np.zeros_like(mask) for mask in cells]
    rest = iter(marks.tolist())
    pairs = zip(layout.signatures, asked_products(cells), expected, strict=True)
    for signature, products, mask in pairs:
        for product in products:
            lacks = [next(rest) for _ in signature.parameters]
            for place in itertools.product(*product):
                mask[place] |= any(lacks)
    for found, mask in zip(absent, expected, strict=True):
        assert np.array_equal(found, mask)


@slow
@given(named())
def test_who_had_cells_before_a_round_stands_in_its_table(
    drawn: tuple[History, Cells],
) -> None:
    history, cells = drawn
    plan = last_plan(history)
    homes = plan.homes
    found = formerly(homes, cells)
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for former in found:
        for index, mask in enumerate(former.cells):
            for place in map(tuple, np.argwhere(mask).tolist()):
                assert cells[index][place] and (index, place) not in seen
                seen.add((index, place))
                assert homes.version[index][place] == former.version
                newest = homes.newest[index][(slice(None), *place)]
                assert former.holders == set(np.array(homes.peers)[newest].tolist())
    assert len(seen) == min(count_cells(cells), MAX_FORMER_CELLS)


@given(layouts(), st.integers(-1, 4), st.data())
def test_of_some_cells_some_are_of_a_version(
    layout: Layout, least: int, data: st.DataObject
) -> None:
    cells, others = data.draw(cells_of(layout)), data.draw(cells_of(layout))
    versions = tuple(mask.astype(np.int32) * 3 for mask in others)
    kept = at_least(cells, versions, least)
    among = Former(1, frozenset(), cells).among(others)
    both = zip(kept, among.cells, cells, others, strict=True)
    for found, shared, one, other in both:
        for place in itertools.product(*map(range, one.shape)):
            assert found[place] == (one[place] and 3 * other[place] >= least)
            assert shared[place] == (one[place] and other[place])


@slow
@given(named(), st.sets(st.sampled_from(NAMES)), st.data())
def test_what_is_nowhere_all_of_them_have_denied(
    drawn: tuple[History, Cells], peers: set[str], data: st.DataObject
) -> None:
    history, cells = drawn
    plan = last_plan(history)
    peers = {peer for peer in peers if plan.homes.position(peer) is not None}
    denied = {peer: data.draw(cells_of(history.layout)) for peer in sorted(peers)[1:]}
    expected = in_cells(plan, cells)
    for peer in peers:
        said = newest_at(plan, peer)
        expected -= said - (in_cells(plan, denied[peer]) if peer in denied else set())
    assert in_cells(plan, nowhere(plan.homes, cells, peers, denied)) == expected


@slow
@given(histories(round_count=3), st.integers(0, 9))
def test_a_version_that_is_good_enough_counts_everywhere(
    history: History, least: int
) -> None:
    plan = last_plan(history)
    wanted = wanted_versions(plan, least)
    for found, newest in zip(wanted, plan.homes.version, strict=True):
        assert found.dtype == newest.dtype and found.shape == newest.shape
        assert np.array_equal(found, newest) if not least else (found == least).all()
