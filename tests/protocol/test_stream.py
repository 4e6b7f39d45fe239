"""What streams consist of: elements, segments and cells say the same, for every hop."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.protocol.stream import (
    StreamKey,
    stream_cells,
    stream_elements,
    stream_segments,
)
from p2pfusion.split.plan import Hop
from p2pfusion.split.restoring import pack_cells
from tests.split.histories import NAMES, History, coordinates, histories, last_plan
from tests.split.test_keeping import in_cells

HOMEWARD = (Hop.HOME, Hop.CATCH_UP, Hop.KEEP, Hop.RESTORE, Hop.EXPORT)


@settings(max_examples=40)
@given(histories(round_count=4), st.sampled_from(list(Hop)), st.data())
def test_a_stream_is_one_and_the_same_thing(
    history: History, hop: Hop, data: st.DataObject
) -> None:
    plan = last_plan(history)
    source, target = data.draw(st.permutations(NAMES))[:2]
    asked = pack_cells(tuple(version > 0 for version in plan.homes.version))
    least = data.draw(st.sampled_from((0, 3)))
    ends = (hop.value, plan.round_index, source, target)
    stream = StreamKey(*ends, asked=asked, least=least)
    segments = coordinates(stream_segments(plan, stream))
    assert stream_elements(plan, stream) == len(segments)
    if hop in HOMEWARD:
        cells = stream_cells(plan, stream)
        assert segments == (in_cells(plan, cells) if cells else set())


@settings(max_examples=10)
@given(histories(round_count=3))
def test_nothing_is_restored_that_was_not_asked_for(history: History) -> None:
    plan = last_plan(history)
    stream = StreamKey(Hop.RESTORE.value, plan.round_index, "ash", "birch")
    assert stream_elements(plan, stream) == 0 and stream_segments(plan, stream) == ()
