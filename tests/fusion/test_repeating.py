"""Who sends again what it has sent before, against loops over single elements."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.fusion.repeating import LastSaid, Sample
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment, Split
from tests.protocol.stage import small_layout
from tests.strategies import layouts, splits

Element = tuple[int, ...]


def elements(segment: Segment) -> list[Element]:
    """Parameter and place of each, in the order of flat values."""
    found: list[Element] = [(segment.parameter,)]
    for indices in segment.sets:
        found = [(*element, index) for element in found for index in indices]
    return found


def named(layout: Layout, sample: Sample) -> dict[int, Element]:
    """What each number of a sample stands for: its only element in the whole model."""
    whole = [*Split.full(layout).segments(layout)]
    flat = [element for segment in whole for element in elements(segment)]
    numbers, places = sample.inside(whole)
    return {
        number: flat[place]
        for number, place in zip(numbers.tolist(), places.tolist(), strict=True)
    }


@given(st.data(), st.integers(0, 2**32), st.integers(0, 200))
def test_a_sample_is_found_again_wherever_its_elements_lie(
    data: st.DataObject, seed: int, count: int
) -> None:
    layout = data.draw(layouts())
    sample = Sample(layout, np.random.default_rng(seed), count)
    names = named(layout, sample)
    assert sorted(names) == list(range(sample.size))
    assert sample.size <= count + len(layout.parameters)
    segments = data.draw(st.permutations([*data.draw(splits(layout)).segments(layout)]))
    flat = [element for segment in segments for element in elements(segment)]
    numbers, places = sample.inside(segments)
    found = dict(zip(numbers.tolist(), places.tolist(), strict=True))
    wanted = {n: flat.index(name) for n, name in names.items() if name in flat}
    assert found == wanted


def test_of_a_large_model_it_is_about_as_many_as_are_wanted() -> None:
    layout = small_layout()
    for count in (1, 10, layout.size):
        sample = Sample(layout, np.random.default_rng(0), count)
        assert 0 < sample.size <= count + len(layout.parameters)


Saying = tuple[int, dict[int, float]]
sayings = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.dictionaries(st.integers(0, 5), st.integers(-4, 4).map(float)),
    ),
    max_size=8,
).map(lambda several: sorted(several, key=lambda each: each[0]))


@given(st.lists(sayings, min_size=1, max_size=3))
def test_what_is_new_is_what_differs_from_the_last_round_before(
    peers: list[list[Saying]],
) -> None:
    last_said = LastSaid(Sample(small_layout(), np.random.default_rng(1), 100))
    for peer, several in enumerate(peers):
        last: dict[int, tuple[int, float]] = {}
        for round_index, said in several:
            numbers = np.array(sorted(said), np.int64)
            values = np.array([said[n] for n in numbers.tolist()], np.float32)
            news, count = last_said.compare(f"p{peer}", round_index, numbers, values)
            then = {n: v for n, (t, v) in last.items() if t < round_index and n in said}
            product = sum(then[n] * said[n] for n in then)
            lengths = math.prod(
                math.sqrt(sum(of[n] ** 2 for n in then)) for of in (then, said)
            )
            assert count == (len(then) if lengths else 0)
            assert news == pytest.approx(1 - product / lengths if lengths else 1.0)
            last |= {n: (round_index, value) for n, value in said.items()}


def test_what_did_not_come_is_not_remembered_and_those_who_left_are_not() -> None:
    last_said = LastSaid(Sample(small_layout(), np.random.default_rng(1), 100))
    numbers = np.arange(3)
    values = np.array([1, np.nan, 2], np.float32)
    last_said.compare("ann", 0, numbers, values)
    assert last_said.compare("ann", 1, numbers, values) == (pytest.approx(0), 2)
    last_said.keep(["bea"])
    assert last_said.compare("ann", 2, numbers, values) == (1, 0)
