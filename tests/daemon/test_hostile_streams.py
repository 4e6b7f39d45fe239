"""Whatever a stream consists of: what reaches a store is finite and in its place."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.daemon.payloads import Payloads
from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol.events import Absorb, CloseSink, Effect, OpenSink, StreamKey
from p2pfusion.protocol.messages import Chunk, StreamStart
from p2pfusion.protocol.stream import stream_elements, stream_segments
from p2pfusion.protocol.transfer import Pulls
from p2pfusion.split.layout import Layout
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.segment import Segment, Split
from tests.daemon.desks import CHUNK_BYTES, NAMES, Table, rounds_of_splits

TRICKS = ("honest", "honest", "bits", "not-finite", "cut", "early", "late", "long")


@st.composite
def pieces(draw: st.DrawFn, total: int) -> list[tuple[int, bytes]]:
    """Pieces of a stream with their offsets, some of them as no honest peer cuts it."""
    made, offset = [], 0
    while offset < total and len(made) < 40:
        size = min(CHUNK_BYTES, total - offset)
        trick = draw(st.sampled_from(TRICKS))
        content = np.arange(size // 4, dtype="<f4").tobytes()
        if trick == "bits":
            content = draw(st.binary(min_size=size, max_size=size))
        if trick == "not-finite":
            bad = np.float32(draw(st.sampled_from([np.nan, np.inf, -np.inf])))
            at = 4 * draw(st.integers(0, size // 4 - 1))
            content = content[:at] + bad.tobytes() + content[at + 4 :]
        if trick == "cut":
            content = content[: draw(st.integers(1, size))]
        if trick == "long":
            content += bytes(draw(st.integers(1, total + 8)))
        shift = {"early": -4, "late": 4}.get(trick, 0)
        made.append((max(0, offset + shift), content))
        offset += size
    return made


class Receiver:
    """The receiving half of a daemon, without its sockets."""

    def __init__(self, desk: Payloads) -> None:
        self._desk = desk
        self._pulls = Pulls(1)
        self.refused = False

    def take(
        self, plan: ExchangePlan, stream: StreamKey, absent: bytes, data: st.DataObject
    ) -> None:
        """A stream as its sender likes to send it; dropped when it breaks a rule."""
        total = 4 * stream_elements(plan, stream)
        self._pulls.open(stream, plan.digest, total, 0.0)
        (pull,) = self._pulls.of_source(stream.source)
        wrong = data.draw(st.sampled_from([0, 0, 0, 0, 0, 4, -4]))
        start = StreamStart(pull.number, total + wrong, 1, absent)
        try:
            self._perform(self._pulls.started(pull, start, 1.0, 0.0))
            for offset, content in data.draw(pieces(total)):
                if self._pulls.find(pull.number, stream.source) is None:
                    return
                chunk = Chunk(pull.number, offset, memoryview(content))
                self._desk.check(stream.source, chunk)
                self._perform(self._pulls.arrived(pull, chunk, 0.0))
        except RemoteProtocolError:
            self.refused = True
        if self._pulls.find(pull.number, stream.source) is not None:
            self._perform(self._pulls.cancel(pull))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case OpenSink():
                    self._desk.open_sink(effect, None)
                case Absorb(number, _, payload):
                    self._desk.absorb(number, payload)
                case CloseSink(number, complete):
                    self._desk.close_sink(number, complete=complete)


def everything(desk: Payloads, layout: Layout) -> list[np.ndarray]:
    """All values of a store, one array for each parameter."""
    desk.store.flush()
    full = Split.full(layout)
    return [
        desk.store.read(full.segment(layout, index)).copy()
        for index in range(len(layout.parameters))
    ]


def assert_only(
    before: list[np.ndarray], after: list[np.ndarray], where: tuple[Segment, ...]
) -> None:
    """Nothing has changed but there, and all is finite."""
    allowed = [np.zeros(values.shape, np.bool_) for values in before]
    for segment in where:
        rows = [np.fromiter(indices, np.int64) for indices in segment.sets]
        allowed[segment.parameter][np.ix_(*rows)] = True
    for old, new, may in zip(before, after, allowed, strict=True):
        assert np.isfinite(new).all()
        np.testing.assert_array_equal(new[~may], old[~may])


def streams(plan: ExchangePlan, hop: Hop) -> list[StreamKey]:
    number = plan.round_index
    return [
        StreamKey(hop.value, number, source, target)
        for target in NAMES
        for source in plan.sources(hop, target)
    ]


@settings(max_examples=60)
@given(rounds_of_splits(round_count=1), st.data())
def test_a_fused_stream_changes_nothing_but_its_coordinates(
    drawn: tuple[Layout, list[dict[str, Split]]], data: st.DataObject
) -> None:
    layout, (current, following) = drawn
    with tempfile.TemporaryDirectory() as root:
        table = Table(Path(root), layout)
        table.enter(0, current, following)
        for stream in streams(table.plan, Hop.FUSED)[:2]:
            desk = table.desks[stream.target]
            count = len(
                table.plan.ranges(Hop.FUSED, source=stream.source, target=stream.target)
            )
            before = everything(desk, layout)
            Receiver(desk).take(table.plan, stream, bytes(-(-count // 8)), data)
            where = tuple(stream_segments(table.plan, stream))
            assert_only(before, everything(desk, layout), where)


@settings(max_examples=60)
@given(rounds_of_splits(round_count=1), st.data())
def test_contributions_change_nothing_but_what_is_reduced(
    drawn: tuple[Layout, list[dict[str, Split]]], data: st.DataObject
) -> None:
    """Also where one broke off in the middle, or nothing of it counts."""
    layout, (current, following) = drawn
    with tempfile.TemporaryDirectory() as root:
        table = Table(Path(root), layout)
        table.enter(0, current, following)
        table.train(np.random.default_rng(0))
        reducer = data.draw(st.sampled_from(NAMES))
        desk, plan = table.desks[reducer], table.plan
        before = everything(desk, layout)
        desk.open_reduction(0, "")
        if plan.own_ranges(reducer).size:
            desk.add_own(0, "", 1.0)
        for stream in streams(plan, Hop.CONTRIBUTION):
            if stream.target == reducer:
                Receiver(desk).take(plan, stream, b"", data)
        desk.close_reduction(0, "")
        reduced = plan.segments(plan.reduced_by(reducer).tolist())
        assert_only(before, everything(desk, layout), tuple(reduced))
