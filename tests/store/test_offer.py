"""Offers, and the rules for flat files that the whole package shares."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LocalProtocolError, VerificationError
from p2pfusion.split.depth import gate
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Segment, Split, overlap
from p2pfusion.store.files import Floats
from p2pfusion.store.offer import Offer, add_progress, reading_from, write_offer
from tests.strategies import layouts, splits

LAYOUT = Layout(
    (Axis("a", 8),),
    (ParameterSpec("w", (Dimension(8, "a"), Dimension(3)), Initial("zeros")),),
)
SPLIT = Split.of({"a": IndexSet.from_ranges([(1, 3), (5, 6)])})


def numbered(layout: Layout) -> list[Floats]:
    """A whole model in which every value tells its place."""
    arrays, first = [], 0
    for parameter in layout.parameters:
        array = np.arange(first, first + parameter.size, dtype=np.float32)
        arrays.append(array.reshape(parameter.shape))
        first += parameter.size
    return arrays


def dense(whole: Floats, segment: Segment) -> Floats:
    """The slow obvious way to pick a rectangle."""
    return whole[np.ix_(*(list(indices) for indices in segment.sets))].reshape(
        segment.shape
    )


def flat(model: list[Floats], segments: tuple[Segment, ...]) -> list[float]:
    """Flat values of segments, the slow way."""
    return [v for s in segments for v in dense(model[s.parameter], s).ravel().tolist()]


@given(st.data())
def test_what_was_offered_is_served(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    mine, theirs = data.draw(splits(layout)), data.draw(splits(layout))
    model = numbered(layout)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "offer"
        write_offer(path, [dense(model[s.parameter], s) for s in mine.segments(layout)])
        offer = Offer.open(path, layout, mine)
    shared = overlap(layout, mine, theirs)
    assert offer.read_flat(shared).tolist() == flat(model, shared)
    for index, segment in enumerate(mine.segments(layout)):
        assert np.array_equal(offer.read_array(index), dense(model[index], segment))


def test_trained_arrays_of_other_types_and_orders_are_converted(tmp_path: Path) -> None:
    values = np.arange(9.0).reshape(3, 3)
    write_offer(tmp_path / "offer", [np.asfortranarray(values)])
    offer = Offer.open(tmp_path / "offer", LAYOUT, SPLIT)
    assert offer.read_array(0).tolist() == values.tolist()


@pytest.mark.parametrize("size_bytes", [0, 32, 40])
def test_an_offer_of_another_size_is_refused(tmp_path: Path, size_bytes: int) -> None:
    (tmp_path / "offer").write_bytes(bytes(size_bytes))
    with pytest.raises(VerificationError, match=rf"offer has {size_bytes} bytes"):
        Offer.open(tmp_path / "offer", LAYOUT, SPLIT)


def test_a_missing_offer_is_named(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="offer is missing"):
        Offer.open(tmp_path / "offer", LAYOUT, SPLIT)


def test_segments_outside_the_split_are_our_own_bug(tmp_path: Path) -> None:
    write_offer(tmp_path / "offer", [np.zeros((3, 3), np.float32)])
    offer = Offer.open(tmp_path / "offer", LAYOUT, SPLIT)
    outside = Split.of({"a": IndexSet.span(2, 4)}).segment(LAYOUT, 0)
    with pytest.raises(LocalProtocolError, match="outside the offer"):
        offer.read_flat([outside])


def test_an_open_offer_outlives_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "offer"
    write_offer(path, [np.ones((3, 3), np.float32)])
    old = Offer.open(path, LAYOUT, SPLIT)
    write_offer(path, [np.full((3, 3), 2, np.float32)])
    assert (old.read_array(0) == 1).all()
    assert (Offer.open(path, LAYOUT, SPLIT).read_array(0) == 2).all()


@given(st.data())
def test_what_others_brought_is_added_to_what_was_trained_since(
    data: st.DataObject,
) -> None:
    layout = data.draw(layouts())
    split, seed = data.draw(splits(layout)), data.draw(st.integers(0, 2**32))
    segments = tuple(split.segments(layout))
    random = np.random.default_rng(seed)
    before, trained, now = (
        [random.standard_normal(s.shape, np.float32) for s in segments] for _ in "btn"
    )
    with tempfile.TemporaryDirectory() as directory:
        since, path = Path(directory) / "since", Path(directory) / "offer"
        write_offer(since, before)
        write_offer(path, trained)
        offer = Offer.open(path, layout, split)
        add_progress(path, since, segments, lambda s: now[s.parameter])
        read = [offer.read_array(number) for number in range(len(segments))]
        for number, array in enumerate(read):
            wanted = trained[number] + (now[number] - before[number])
            assert np.array_equal(array, wanted)
        write_offer(path, trained)
        add_progress(path, since, segments, lambda s: before[s.parameter])
        offer = Offer.open(path, layout, split)
        read = [offer.read_array(number) for number in range(len(segments))]
        assert all(map(np.array_equal, read, trained))


def test_training_goes_on_from_an_offer_and_reads_what_is_frozen(
    tmp_path: Path,
) -> None:
    layout = Layout(
        (Axis("layer 0", 1), Axis("layer 1", 1)),
        tuple(
            ParameterSpec(
                f"w{layer}", (Dimension(1, gate(layer)), Dimension(3)), Initial("zeros")
            )
            for layer in (0, 1)
        ),
    )
    split = Split(Split.full(layout).sets, frozen=frozenset({gate(0)}))
    trained = [np.empty((0, 3), np.float32), np.full((1, 3), 7, np.float32)]
    write_offer(tmp_path / "since", trained)
    stored = np.full((1, 3), 5, np.float32)
    for since, wanted in ((None, (5, 5)), (tmp_path / "since", (5, 7))):
        read = reading_from(since, layout, split, lambda segment: stored)
        found = tuple(int(read(s)[0, 0]) for s in split.segments(layout))
        assert found == wanted
