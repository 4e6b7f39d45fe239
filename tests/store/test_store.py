"""The store, against a whole model in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.errors import (
    ConflictError,
    LocalProtocolError,
    VerificationError,
)
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store import places
from p2pfusion.store.files import Floats
from p2pfusion.store.initial import initial_values
from p2pfusion.store.store import MAPPED_FILES, Store
from tests.strategies import index_sets, layouts, splits

UNIFORM = Initial("uniform", 0.5)

# Cells of two indices on axis "a", of four on axis "b".
LAYOUT = Layout(
    (Axis("a", 12, 2), Axis("b", 128)),
    (
        ParameterSpec("w", (Dimension(24, "a", 2, 1), Dimension(128, "b")), UNIFORM),
        ParameterSpec("b", (Dimension(12, "a"), Dimension(3)), UNIFORM),
        ParameterSpec("v", (Dimension(12, "a"), Dimension(256, "b", 1, 2)), UNIFORM),
        ParameterSpec("scale", (), UNIFORM),
    ),
)
SPLIT = Split.of({"a": IndexSet.span(2, 6), "b": IndexSet.span(32, 96)})
SEGMENTS = tuple(SPLIT.segments(LAYOUT))


def whole_initial(layout: Layout, seed: int) -> list[Floats]:
    """The model as nobody has trained it."""
    return [
        initial_values(layout, seed, index, 0, (parameter.shape or (1,))[0]).reshape(
            parameter.shape
        )
        for index, parameter in enumerate(layout.parameters)
    ]


def place(segment: Segment) -> tuple[np.ndarray, ...]:
    """The slow obvious way to address a rectangle."""
    return np.ix_(*(list(indices) for indices in segment.sets))


def assign(model: list[Floats], segments: tuple[Segment, ...], values: Floats) -> None:
    """Write flat values, the slow way."""
    offset = 0
    for segment in segments:
        part = values[offset : offset + segment.size]
        model[segment.parameter][place(segment)] = part.reshape(segment.shape)
        offset += segment.size


def some_values(segments: tuple[Segment, ...], first: int) -> Floats:
    count = sum(segment.size for segment in segments)
    return np.arange(first, first + count, dtype=np.float32)


def stored(store: Store, segments: tuple[Segment, ...], version: int) -> Floats:
    """Write new values of segments, with a version; the values."""
    values = some_values(segments, 10_000 * version)
    store.write_flat(segments, values)
    store.set_version(segments, version)
    store.flush()
    return values


@st.composite
def any_segments(draw: st.DrawFn, layout: Layout) -> tuple[Segment, ...]:
    """Rectangles of some parameters, on the grid or not, possibly empty."""
    chosen = draw(
        st.lists(st.integers(0, len(layout.parameters) - 1), min_size=1, max_size=4)
    )
    return tuple(
        Segment(
            index,
            tuple(draw(index_sets(size)) for size in layout.parameters[index].shape),
        )
        for index in chosen
    )


@settings(max_examples=60)
@given(st.data())
def test_it_reads_like_a_whole_model_in_memory(data: st.DataObject) -> None:
    layout, seed = data.draw(layouts()), data.draw(st.integers(0, 2**63))
    model = whole_initial(layout, seed)
    with tempfile.TemporaryDirectory() as directory:
        store = Store.create(Path(directory) / "store", layout, seed)
        for version in range(1, data.draw(st.integers(1, 4))):
            segments = tuple(data.draw(splits(layout)).segments(layout))
            assign(model, segments, stored(store, segments, version))
            asked = data.draw(any_segments(layout))
            expected = [model[s.parameter][place(s)].ravel() for s in asked]
            assert np.array_equal(store.read_flat(asked), np.concatenate(expected))
        store.flush()
        reopened = Store.open(Path(directory) / "store", layout, seed)
        for segment in Split.full(layout).segments(layout):
            assert np.array_equal(reopened.read(segment), model[segment.parameter])
        for index in range(len(layout.signatures)):
            assert np.array_equal(reopened.versions(index), store.versions(index))


@settings(max_examples=60)
@given(st.data())
def test_versions_are_those_of_the_cells(data: st.DataObject) -> None:
    layout, split = data.draw(
        layouts().flatmap(lambda x: st.tuples(st.just(x), splits(x)))
    )
    with tempfile.TemporaryDirectory() as directory:
        store = Store.create(Path(directory), layout, 1)
        store.set_version(tuple(split.segments(layout)), 7)
        store.flush()
    for index, signature in enumerate(layout.signatures):
        found = store.versions(index)
        assert found.shape == tuple(layout.axis(a).cell_count for a in signature.axes)
        for cell, version in np.ndenumerate(found):
            inside = all(
                number * layout.axis(axis).cell_size in split[axis]
                for axis, number in zip(signature.axes, cell, strict=True)
            )
            assert version == (7 if inside else 0)


@pytest.mark.parametrize("columns", [8, 1024, 4096], ids=["narrow", "page", "wide"])
def test_many_segments_in_any_order(tmp_path: Path, columns: int) -> None:
    """Several blocks of rows, rows wider than a page, segments out of order."""
    rows = (3 << 20) // columns
    layout = Layout(
        (Axis("a", rows), Axis("b", columns)),
        (ParameterSpec("w", (Dimension(rows, "a"), Dimension(columns, "b")), UNIFORM),),
    )
    axes = layout.axes
    segments = tuple(
        Segment(0, (axes[0].cells(IndexSet.span(i, i + 1)), IndexSet.from_indices(j)))
        for i in (30, 2, 3)
        for j in ([7], [0, 1, 3], [2, 6])
    )
    store = Store.create(tmp_path / "store", layout, 1)
    full = tuple(Split.full(layout).segments(layout))
    model = [np.zeros((rows, columns), np.float32)]
    store.write_flat(full, model[0].ravel())
    store.set_version(full, 1)
    store.flush()
    values = some_values(segments, 1)
    store.write_flat(segments, values)
    store.flush()
    assign(model, segments, values)
    assert np.array_equal(store.read(full[0]), model[0])
    assert np.array_equal(store.read_flat(segments), values)


@pytest.mark.parametrize("kernel", [3, 1])
def test_wide_rows_are_written_run_by_run(tmp_path: Path, kernel: int) -> None:
    """Convolutions: a cut dimension before some that are not cut, and behind others."""
    size = 2048
    shape = (4, 3, size, kernel, kernel)
    dimensions = (*(Dimension(n) for n in shape[:2]), Dimension(size, "a"))
    dimensions += (Dimension(kernel), Dimension(kernel))
    layout = Layout((Axis("a", size),), (ParameterSpec("w", dimensions, UNIFORM),))
    store = Store.create(tmp_path / "store", layout, 1)
    full = tuple(Split.full(layout).segments(layout))
    model = [np.zeros(shape, np.float32)]
    store.write_flat(full, model[0].ravel())
    store.set_version(full, 1)
    rest = tuple(IndexSet.span(0, kernel) for _ in range(2))
    rows, channels = IndexSet.from_indices([1, 3]), IndexSet.span(1, 3)
    columns = IndexSet.from_indices([5, 6, 7, 900])
    some = Segment(0, (rows, channels, columns, *rest))
    values = some_values((some,), 1)
    store.write_flat([some], values)
    store.flush()
    assign(model, (some,), values)
    assert np.array_equal(store.read(full[0]), model[0])


def test_values_without_a_version_are_not_seen(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", LAYOUT, 1)
    before = store.read_flat(SEGMENTS)
    store.write_flat(SEGMENTS, some_values(SEGMENTS, 0))
    store.flush()
    assert np.array_equal(store.read_flat(SEGMENTS), before)


def test_what_was_flushed_is_seen_and_nothing_before(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", LAYOUT, 1)
    reader = Store.open(tmp_path / "store", LAYOUT, 1)
    before = reader.read_flat(SEGMENTS)
    values = some_values(SEGMENTS, 7)
    store.write_flat(SEGMENTS, values)
    store.set_version(SEGMENTS, 1)
    for opened in (store, reader):
        assert np.array_equal(opened.read_flat(SEGMENTS), before)
        assert not opened.versions(0).any()
    store.flush()
    for opened in (store, reader):
        assert np.array_equal(opened.read_flat(SEGMENTS), values)
        assert opened.versions(0).max() == 1


def test_the_later_of_two_values_counts(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", LAYOUT, 1)
    store.write_flat(SEGMENTS, some_values(SEGMENTS, 7))
    store.write_flat(SEGMENTS[1:], some_values(SEGMENTS[1:], 9))
    store.set_version(SEGMENTS, 1)
    store.flush()
    assert np.array_equal(store.read(SEGMENTS[0]).ravel()[:2], [7, 8])
    assert np.array_equal(store.read(SEGMENTS[1]).ravel()[:2], [9, 10])


def test_the_journal_is_on_disk_first_and_versions_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power failure may lose: everything after the last completed fsync."""
    store = Store.create(tmp_path / "store", LAYOUT, 1)
    calls: list[tuple[str, str]] = []
    for name in ("pwrite", "fsync"):
        monkeypatch.setattr(os, name, recorded(name, calls))
    stored(store, SEGMENTS, 1)
    committed = calls.index(("fsync", "journal.redo"))
    values, versions = (
        [i for i, call in enumerate(calls) if call == ("pwrite", kind)]
        for kind in ("values", "versions")
    )
    assert committed < min(values) and max(values) < min(versions)
    store.flush()
    assert calls.count(("fsync", "journal.redo")) == 1, "nothing changed since"


def test_what_a_journal_loses_is_synced_in_its_place_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(tmp_path / "store", LAYOUT, 1)
    calls: list[tuple[str, str]] = []
    for name in ("pwrite", "fsync"):
        monkeypatch.setattr(os, name, recorded(name, calls))
    for round_index in range(1, 6):
        before = len(calls)
        stored(store, SEGMENTS, round_index)
        journal = "journal" + ("-2.redo", ".redo")[round_index % 2]
        # The round before may still be syncing what is in its place.
        first = next(name for call, name in calls[before:] if call == "pwrite")
        assert first == journal, "the two take turns"
        if round_index < 3:
            continue
        # What this one had before is of the round before the last.
        older = calls[:before]
        last = len(older) - 1 - older[::-1].index(("fsync", journal))
        synced = [name for call, name in older[last + 1 :] if call == "fsync"]
        assert synced.count("values") >= len(LAYOUT.parameters)
        assert synced.count("versions") >= len(LAYOUT.signatures)


def recorded(name: str, calls: list[tuple[str, str]]) -> Callable[..., object]:
    """A function of ``os`` that also notes the kind of file that it was called for."""
    original = getattr(os, name)

    def call(file: int, *rest: object) -> object:
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        kind = path.name if "journal" in path.name else path.name.split("-")[0]
        calls.append((name, kind))
        return original(file, *rest)

    return call


def test_an_untrained_store_takes_no_space(tmp_path: Path) -> None:
    size = 1 << 28
    spec = ParameterSpec("w", (Dimension(size, "a"),), UNIFORM)
    layout = Layout((Axis("a", size),), (spec,))
    store = Store.create(tmp_path / "store", layout, 1)
    last = Segment(0, (IndexSet.span(size - 9, size),))
    assert np.array_equal(
        store.read(last), initial_values(layout, 1, 0, size - 9, size)
    )
    files = list((tmp_path / "store").iterdir())
    assert sum(file.stat().st_size for file in files) > 4 * size
    assert sum(file.stat().st_blocks * 512 for file in files) < 1 << 20


def test_many_parameters_do_not_use_up_the_descriptors(tmp_path: Path) -> None:
    spec = (Dimension(2, "a"),)
    count = MAPPED_FILES + 40
    layout = Layout(
        (Axis("a", 2),),
        tuple(ParameterSpec(f"p{i}", spec, UNIFORM) for i in range(count)),
    )
    store = Store.create(tmp_path / "store", layout, 1)
    segments = tuple(Split.full(layout).segments(layout))
    values = stored(store, segments, 1)
    before = len(os.listdir("/proc/self/fd"))
    assert np.array_equal(store.read_flat(segments), values)
    opened = len(os.listdir("/proc/self/fd")) - before
    # One more as long as what was written is synced.
    assert 0 < opened <= MAPPED_FILES + 1


@settings(max_examples=40)
@given(st.data())
def test_segments_are_newer_if_one_of_them_is(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    with tempfile.TemporaryDirectory() as directory:
        store = Store.create(Path(directory), layout, 1)
        for version in (1, 2, 3):
            segments = tuple(data.draw(splits(layout)).segments(layout))
            store.set_version(segments, version)
            if data.draw(st.booleans()):
                store.flush()
            asked = tuple(data.draw(splits(layout)).segments(layout))
            for number in range(4):
                newer = [store.is_newer(segment, number) for segment in asked]
                assert store.any_newer(asked, number) == any(newer)


@pytest.mark.parametrize("most", [0, 100])
def test_files_of_a_large_store_do_not_stay_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(places, "MOST_OPEN", most)
    store = Store.create(tmp_path / "store", LAYOUT, 1)
    for version in (1, 2):
        values = stored(store, SEGMENTS, version)
        assert np.array_equal(store.read_flat(SEGMENTS), values)
    store.flush()
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    ours = [os.readlink(link) for link in links if os.path.exists(link)]
    written = [name for name in ours if name.startswith(str(tmp_path / "store/v"))]
    maps = len(LAYOUT.parameters) + len(LAYOUT.signatures)
    # The thread that syncs what was written may have one of them open.
    assert len(written) > maps + 1 if most else len(written) <= maps + 1


def test_a_reader_lets_go_of_files_and_sees_what_is_new(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", LAYOUT, 1)
    reader = Store.open(tmp_path / "store", LAYOUT, 1)
    for version in (1, 2, 3):
        values = stored(store, SEGMENTS, version)
        reader.let_go()
        assert np.array_equal(reader.read_flat(SEGMENTS), values)


# --- Refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("segments", "reason"),
    [
        (SEGMENTS[:1] + SEGMENTS[3:], "'w' than of another parameter"),
        (SEGMENTS[2:], "'w' than of another parameter"),
        ((Segment(1, (IndexSet.span(2, 5), IndexSet.span(0, 3))),), "'b' cuts through"),
        ((Segment(1, (IndexSet.span(2, 4), IndexSet.span(0, 2))),), "no axis"),
        (
            # One of the two copies of the axis that this dimension is made of.
            (Segment(0, (IndexSet.span(2, 4), IndexSet.span(0, 128))),),
            "'w' cuts through",
        ),
    ],
)
def test_only_whole_cells_of_all_parameters_get_a_version(
    tmp_path: Path, segments: tuple[Segment, ...], reason: str
) -> None:
    store = Store.create(tmp_path / "store", LAYOUT, 1)
    with pytest.raises(LocalProtocolError, match=reason):
        store.set_version(segments, 1)
    for index in range(len(LAYOUT.signatures)):
        assert not store.versions(index).any()


@pytest.mark.parametrize("version", [0, 4])
def test_versions_never_go_back(tmp_path: Path, version: int) -> None:
    store = Store.create(tmp_path / "store", LAYOUT, 1)
    store.set_version(SEGMENTS, 5)
    store.set_version(SEGMENTS, 5)
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match=f"version {version}"):
            store.set_version(tuple(Split.full(LAYOUT).segments(LAYOUT)), version)
        store.flush()
    assert set(store.versions(0).ravel().tolist()) == {0, 5}


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    Store.create(tmp_path / "store", LAYOUT, 1)
    reader = Store.open(tmp_path / "store", LAYOUT, 1)
    for write in (
        lambda: reader.write_flat(SEGMENTS, some_values(SEGMENTS, 0)),
        lambda: reader.set_version(SEGMENTS, 1),
        reader.flush,
    ):
        with pytest.raises(LocalProtocolError, match="reading only"):
            write()


def test_values_must_fit_the_segments(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", LAYOUT, 1)
    values = some_values(SEGMENTS, 0)
    for wrong in (values[:-1], values.astype(np.float64), values.reshape(1, -1)):
        with pytest.raises(LocalProtocolError, match="do not fit"):
            store.write_flat(SEGMENTS, wrong)


@pytest.mark.parametrize(
    "beyond",
    [
        Segment(0, (IndexSet.span(23, 25), IndexSet.span(0, 1))),
        Segment(2, (IndexSet.span(0, 1), IndexSet.span(255, 257))),
        Segment(3, (IndexSet.span(0, 2),)),
    ],
)
def test_nothing_is_written_beyond_a_parameter(tmp_path: Path, beyond: Segment) -> None:
    store = Store.create(tmp_path / "store", LAYOUT, 1)
    with pytest.raises(LocalProtocolError, match="reaches beyond parameter"):
        store.write_flat([beyond], np.ones(beyond.size, np.float32))


def test_one_directory_holds_one_store(tmp_path: Path) -> None:
    Store.create(tmp_path / "store", LAYOUT, 1)
    with pytest.raises(ConflictError, match="already contains a store"):
        Store.create(tmp_path / "store", LAYOUT, 1)


def test_a_store_of_another_swarm_is_refused(tmp_path: Path) -> None:
    Store.create(tmp_path / "store", LAYOUT, 1)
    other = Layout(LAYOUT.axes, LAYOUT.parameters[:-1])
    for layout, seed in ((LAYOUT, 2), (other, 1)):
        with pytest.raises(VerificationError, match="another swarm") as caught:
            Store.open(tmp_path / "store", layout, seed)
        assert "a home of its own" in caught.value.hint


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("store.json", None, "missing"),
        ("store.json", b"{", "damaged"),
        ("store.json", b"\xff", "damaged"),
        ("values-00002.f32", None, "missing"),
        ("values-00002.f32", b"", "has 0 bytes and should have 12288"),
        ("versions-00001.i32", None, "missing"),
        ("versions-00001.i32", b"1", "has 1 bytes and should have 24"),
    ],
)
def test_a_damaged_store_is_refused_by_file(
    tmp_path: Path, file: str, content: bytes | None, reason: str
) -> None:
    Store.create(tmp_path / "store", LAYOUT, 1)
    path = tmp_path / "store" / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VerificationError, match=rf"{file}.* {reason}"):
        Store.open(tmp_path / "store", LAYOUT, 1)
