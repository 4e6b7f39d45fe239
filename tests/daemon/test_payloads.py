"""Numbers of an exchange, without sockets: what is stored is the dense masked mean."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.daemon import round_numbers
from p2pfusion.daemon.payloads import Payloads
from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.fusion import decode, encode
from p2pfusion.protocol.events import OpenSink, StreamKey
from p2pfusion.protocol.messages import TABLE, Chunk
from p2pfusion.split.depth import tensor_shape
from p2pfusion.split.homes import Homes
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.plan import Hop
from p2pfusion.split.restoring import pack_cells
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store import (
    Store,
    copy_model,
    read_checkpoint,
    write_checkpoint,
    write_offer,
)
from tests.daemon.desks import (
    CHUNK_BYTES,
    NAMES,
    SEED,
    Floats,
    Table,
    rounds_of_splits,
)

LAYOUT = Layout(
    (Axis("h", 16),),
    (
        ParameterSpec("w", (Dimension(16, "h"), Dimension(5)), Initial("uniform", 0.5)),
        ParameterSpec("b", (Dimension(16, "h"),), Initial("zeros")),
        ParameterSpec("out", (Dimension(3), Dimension(16, "h")), Initial("ones")),
    ),
)
FULL = Split.full(LAYOUT)
LEFT = Split.of({"h": IndexSet.span(0, 8)})
RIGHT = Split.of({"h": IndexSet.span(8, 16)})
ALL = dict.fromkeys(NAMES, FULL)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Three peers with the whole model each, in round 0, trained."""
    made = Table(tmp_path, LAYOUT)
    made.enter(0, ALL, ALL)
    made.train(np.random.default_rng(0))
    return made


def a_stream(table: Table, hop: Hop) -> tuple[str, str]:
    """Source and target of some stream of a hop."""
    for target in NAMES:
        for source in table.plan.sources(hop, target):
            return source, target
    raise AssertionError(f"the plan has no stream of {hop}")


# --- Whole rounds --------------------------------------------------------------------


@settings(max_examples=25)
@given(rounds_of_splits(round_count=3), st.integers(0, 2**32))
def test_rounds_end_with_the_dense_masked_mean_everywhere(
    drawn: tuple[Layout, list[dict[str, Split]]], seed: int
) -> None:
    layout, rounds = drawn
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as root:
        table = Table(Path(root), layout)
        for number, (current, following) in enumerate(itertools.pairwise(rounds)):
            table.enter(number, current, following)
            table.train(random)
            table.exchange()
            table.learn_truth()
            for name, split in following.items():
                assert_holds_truth(table, name, split)


@settings(max_examples=15)
@given(rounds_of_splits(round_count=2), st.integers(0, 2**32))
def test_an_export_is_the_whole_truth(
    drawn: tuple[Layout, list[dict[str, Split]]], seed: int
) -> None:
    layout, rounds = drawn
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as root:
        table = Table(Path(root), layout)
        for number in (0, 1):
            table.enter(number, rounds[number], rounds[number + 1])
            table.train(random)
            table.exchange()
            table.learn_truth()
        table.enter(2, {}, rounds[2])
        path = Path(root) / "model.safetensors"
        with write_checkpoint(path, layout, {}) as writer:
            copy_model(table.desks["birch"].store, writer)
            for source in table.plan.sources(Hop.EXPORT, "birch"):
                table.carry(Hop.EXPORT, source, "birch", export=writer)
        values, _ = read_checkpoint(path)
        for parameter, true in zip(layout.parameters, table.truth, strict=True):
            tensor = true.reshape(tensor_shape(parameter))
            np.testing.assert_array_equal(values[parameter.name], tensor)


@pytest.mark.parametrize("wire_dtype", ["bfloat16", "float16"])
def test_what_is_rounded_leaves_every_peer_with_the_same_bits(
    tmp_path: Path, wire_dtype: str
) -> None:
    table = Table(tmp_path, LAYOUT, wire_dtype=wire_dtype)
    table.enter(0, ALL, ALL)
    table.train(np.random.default_rng(1))
    # A third of something is no float16, so what the reducer sums it must also round.
    table.exchange()
    table.learn_truth()
    first = assert_all_hold_the_same(table)
    for found, true in zip(first, table.true(FULL), strict=True):
        np.testing.assert_allclose(found, true, rtol=0, atol=0.05)
        assert not np.array_equal(found, true)


@pytest.mark.parametrize("moves", [False, True])
def test_what_was_trained_ahead_is_offered_on_top_of_the_averages(
    tmp_path: Path, moves: bool
) -> None:
    """From when its round begins; also where it is offered in a later one."""
    table, random = Table(tmp_path, LAYOUT), np.random.default_rng(2)
    table.enter(0, ALL, ALL)
    table.train(random)
    ahead: dict[str, list[np.ndarray]] = {}
    for name, desk in table.desks.items():
        path = tmp_path / f"{name}-ahead.f32"
        ahead[name] = [
            (random.integers(-99, 99, array.shape) / 64).astype(np.float32)
            for array in table.offers[name]
        ]
        write_offer(path, ahead[name])
        desk.offered(1, path, ALL[name], tmp_path / f"{name}-0.f32")
    given = table.offers
    table.exchange()
    table.learn_truth()
    number = 2 if moves else 1
    if moves:
        table.enter(1, {}, ALL)
    table.enter(number, ALL, ALL)
    for name, arrays in ahead.items():
        table.offers[name] = [
            true + (new - old)
            for true, new, old in zip(table.truth, arrays, given[name], strict=True)
        ]
        if moves:
            table.desks[name].offer_late(number, 1)
    table.exchange()
    table.learn_truth()
    for name in NAMES:
        for found, true in zip(table.stored(name, FULL), table.truth, strict=True):
            np.testing.assert_allclose(found, true, rtol=0, atol=1e-6)


@pytest.mark.parametrize("wire_dtype", ["int8", "top-k"])
def test_changes_of_few_bits_leave_every_peer_with_the_same_bits(
    tmp_path: Path, wire_dtype: str
) -> None:
    table = Table(tmp_path, LAYOUT, wire_dtype=wire_dtype)
    random = np.random.default_rng(1)
    for number in range(3):
        table.enter(number, ALL, ALL)
        table.train(random)
        table.exchange()
        assert_all_hold_the_same(table)


def test_the_initial_values_that_all_keep_are_those_that_others_are_sent(
    tmp_path: Path,
) -> None:
    """What nobody has newest has never been rounded: whoever keeps it does so now."""
    table = Table(tmp_path, LAYOUT, wire_dtype="float16")
    table.enter(1, ALL, ALL)  # nobody trains
    table.enter(2, {}, ALL)
    found = table.desks["ash"].lacking(table.plan)
    for name in ("ash", "birch"):
        table.desks[name].keep_old(2, found.cells)
    kept = table.stored("ash", FULL)
    table.desks["birch"].store.flush()
    asked = pack_cells(found.cells)
    table.carry(Hop.RESTORE, "birch", "cedar", asked=asked)
    for one, other in zip(kept, table.stored("cedar", FULL), strict=True):
        np.testing.assert_array_equal(one, other)


# --- Changes in place of values ------------------------------------------------------


@settings(max_examples=25)
@given(rounds_of_splits(round_count=3), st.integers(0, 2**32))
def test_int8_rounds_end_with_the_mean_change_added_everywhere(
    drawn: tuple[Layout, list[dict[str, Split]]], seed: int
) -> None:
    """Of changes that seven bits can say: then nothing is lost, and nothing owed."""
    layout, rounds = drawn
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as root:
        table = Table(Path(root), layout, wire_dtype="int8")
        for number, (current, following) in enumerate(itertools.pairwise(rounds)):
            table.enter(number, current, following)
            table.train(random, below=127)
            table.exchange()
            table.learn_mean_changes()
            for name, split in following.items():
                assert_holds_truth(table, name, split)
        for name in NAMES:
            for segment in Split.full(layout).segments(layout):
                assert not table.owed(name).read(segment).any()


@pytest.mark.parametrize("seed", range(5))
def test_median_rounds_end_with_the_median_change_added_everywhere(
    tmp_path: Path, seed: int
) -> None:
    """Of changes of one length, so that none is cut, of two peers or three."""
    table, random = (
        Table(tmp_path, LAYOUT, fusion="median"),
        np.random.default_rng(seed),
    )
    for number, partial in enumerate(("ash", "cedar", "birch")):
        table.enter(number, {**ALL, partial: LEFT}, ALL)
        table.train(random, lengths_differ=False)
        table.exchange()
        table.learn_median_changes()
        for name in NAMES:
            assert_holds_truth(table, name, FULL)


@pytest.mark.parametrize("wire_dtype", ["int8", "top-k"])
def test_what_is_lost_of_a_contribution_is_owed(
    tmp_path: Path, wire_dtype: str
) -> None:
    """To the reducer that asked; its own contribution loses nothing."""
    table = Table(tmp_path, LAYOUT, wire_dtype=wire_dtype)
    table.enter(0, ALL, ALL)
    for name in NAMES:  # from earlier rounds; what the offer holds has it added
        segments = tuple(FULL.segments(LAYOUT))
        size = sum(segment.size for segment in segments)
        table.owed(name).write(segments, np.full(size, 9, np.float32))
    table.train(np.random.default_rng(2))
    for name in NAMES:
        table.reduce(name)
    form = table.wire.contribution
    for source, target in itertools.permutations(NAMES, 2):
        ids = table.plan.ranges(Hop.CONTRIBUTION, source=source, target=target)
        segments = table.plan.segments(ids.tolist())
        offered = own_values(table, source, segments)
        wire = encode(offered, form.name)
        lost = offered - decode(wire, form.name, np.empty_like(offered))
        owed = [table.owed(source).read(segment).ravel() for segment in segments]
        np.testing.assert_array_equal(np.concatenate(owed), lost)
        assert lost.any()
    for name in NAMES:
        for segment in table.plan.segments(table.plan.own_ranges(name).tolist()):
            assert not table.owed(name).read(segment).any()


@pytest.mark.parametrize("most", [0, 4 << 20])
def test_a_contribution_is_served_as_it_was_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A small one is kept until it is asked for, and made anew if that comes again."""
    monkeypatch.setattr(round_numbers, "MOST_PROMISED_BYTES", most)
    table = Table(tmp_path, LAYOUT)
    table.enter(0, ALL, ALL)
    table.train(np.random.default_rng(2))
    source, target = a_stream(table, Hop.CONTRIBUTION)
    desk, stream = table.desks[source], table.key(Hop.CONTRIBUTION, source, target)
    promised = desk.promise(stream)
    for pull in (1, 2):
        size, _ = desk.start(target, pull, stream)
        served = desk.chunk(target, pull, 0, size)
        assert served == promised
        is_same = np.shares_memory(np.asarray(served), np.asarray(promised))
        assert is_same == (pull == 1 and most > 0)


def test_what_an_older_offer_loses_is_not_owed_again(tmp_path: Path) -> None:
    """A newer one was made of what was owed before."""
    table = Table(tmp_path, LAYOUT, wire_dtype="int8")
    table.enter(0, ALL, ALL)
    table.train(np.random.default_rng(2))
    source, target = a_stream(table, Hop.CONTRIBUTION)
    stream = table.key(Hop.CONTRIBUTION, source, target)
    table.enter(1, ALL, ALL)
    table.train(np.random.default_rng(3))
    table.desks[source].start(target, 1, stream)
    assert not any(
        table.owed(source).read(segment).any() for segment in FULL.segments(LAYOUT)
    )


@settings(max_examples=15)
@given(rounds_of_splits(round_count=3), st.integers(0, 2**32))
def test_shares_of_changes_are_added_to_the_model_everywhere(
    drawn: tuple[Layout, list[dict[str, Split]]], seed: int
) -> None:
    layout, rounds = drawn
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as root:
        table = Table(Path(root), layout, adds_changes=True)
        for number, (current, following) in enumerate(itertools.pairwise(rounds)):
            table.weights = {name: random.integers(0, 9) / 8 for name in NAMES}
            table.enter(number, current, following)
            table.train(random)
            table.exchange()
            table.learn_changes()
            for name, split in following.items():
                assert_holds_truth(table, name, split)


def changed(tmp_path: Path) -> Table:
    """Three peers that have changed the whole model, in round 0."""
    table = Table(tmp_path, LAYOUT, adds_changes=True)
    table.enter(0, ALL, ALL)
    table.train(np.random.default_rng(4))
    return table


def test_a_backup_adds_to_the_values_of_before_the_round(tmp_path: Path) -> None:
    """Also where it has the new ones already, from the reducer that then fails."""
    table, silent, backups = changed(tmp_path), "birch", ("ash", "cedar")
    for name in NAMES:
        table.reduce(name)
    table.carry(Hop.FUSED, silent, "ash")
    for name in backups:
        table.reduce(name, instead_of=silent)
    table.learn_changes()
    for target, source in (backups, backups[::-1]):
        for instead_of in ("", silent):
            table.carry(Hop.FUSED, source, target, instead_of=instead_of)
        assert_holds_truth(table, target, FULL)


def test_a_round_that_is_done_again_does_not_add_its_changes_twice(
    tmp_path: Path,
) -> None:
    table = changed(tmp_path)
    before = table.homes
    table.exchange()
    table.learn_changes()
    table.homes = before
    table.enter(0, ALL, ALL)  # its values were sealed, but the next was not begun
    table.train(np.random.default_rng(6))
    table.exchange()
    for name in NAMES:
        assert_holds_truth(table, name, FULL)


def test_a_reducer_without_old_values_has_no_new_ones(tmp_path: Path) -> None:
    table = changed(tmp_path)
    table.exchange()
    table.enter(1, ALL, ALL)
    table.train(np.random.default_rng(8))
    store = Store.create(tmp_path / "another disk", LAYOUT, SEED)
    away = Payloads("ash", store, "float32", adds_changes=True)
    away.enter(table.plan, table.plan.homes)
    table.desks["ash"] = away
    del table.offers["ash"]
    _, absent = fused_head(table, "ash", "cedar")
    ids = table.plan.ranges(Hop.FUSED, source="ash", target="cedar")
    assert np.unpackbits(np.frombuffer(absent, np.uint8), count=len(ids)).all()
    assert not store.versions(0).any()


def test_a_reducer_adds_to_the_older_values_that_it_has_trained(tmp_path: Path) -> None:
    table = changed(tmp_path)
    before = [values.copy() for values in table.truth]
    table.enter(1, ALL, ALL)  # round 0 was planned, and nobody fused anything in it
    table.train(np.random.default_rng(8))
    table.exchange()
    table.truth = before
    table.learn_changes()
    for name in NAMES:
        assert_holds_truth(table, name, FULL)


# --- A peer lacks what the table says that it has ------------------------------------


def test_what_is_lacking_comes_from_others_who_have_it(tmp_path: Path) -> None:
    table = Table(tmp_path, LAYOUT)
    table.enter(0, ALL, ALL)
    table.train(np.random.default_rng(4))
    for name in NAMES:
        table.reduce(name)
    for target in ("ash", "birch"):  # nothing comes to cedar
        for source in table.plan.sources(Hop.FUSED, target):
            table.carry(Hop.FUSED, source, target)
    table.learn_truth()
    table.enter(1, {}, ALL)
    assert not any(mask.any() for mask in table.desks["ash"].lacking(table.plan).cells)
    lacking = table.desks["cedar"].lacking(table.plan).cells
    assert any(mask.any() for mask in lacking)
    table.carry(Hop.RESTORE, "ash", "cedar", asked=pack_cells(lacking))
    assert_holds_truth(table, "cedar", FULL)
    assert not any(
        mask.any() for mask in table.desks["cedar"].lacking(table.plan).cells
    )


def test_what_the_other_lacks_as_well_is_marked_and_hides_nothing(
    tmp_path: Path,
) -> None:
    table = Table(tmp_path, LAYOUT)
    table.enter(0, ALL, ALL)
    table.train(np.random.default_rng(5))
    for name in NAMES:
        table.reduce(name)
    table.carry(Hop.FUSED, "ash", "birch")  # neither of them hears of cedar
    table.enter(1, {}, ALL)
    lacking = table.desks["ash"].lacking(table.plan).cells
    there = table.desks["birch"].lacking(table.plan).cells
    for name in ("birch", "cedar"):
        table.carry(Hop.RESTORE, name, "ash", asked=pack_cells(lacking))
        table.desks["ash"].store.flush()
        (rest,) = table.desks["ash"].lacking(table.plan).cells
        expected = lacking[0] & there[0] if name == "birch" else rest & False
        assert np.array_equal(rest, expected)


def test_what_nobody_has_newest_is_kept_as_it_is(tmp_path: Path) -> None:
    table = Table(tmp_path, LAYOUT)
    table.enter(0, {"ash": LEFT, "birch": LEFT, "cedar": LEFT}, ALL)
    table.train(np.random.default_rng(6))
    table.exchange()
    table.learn_truth()
    table.enter(1, ALL, ALL)  # and nobody trains
    table.enter(2, {}, ALL)
    desk = table.desks["ash"]
    found = desk.lacking(table.plan)
    assert all(mask.all() for mask in found.cells)
    desk.keep_old(2, found.cells)
    assert_holds_truth(table, "ash", FULL)  # of the right half the values of the start
    assert not any(mask.any() for mask in desk.lacking(table.plan).cells)


# --- A holder or a reducer fails -----------------------------------------------------


def test_what_nobody_contributed_keeps_its_values_as_a_new_version(
    tmp_path: Path,
) -> None:
    table = Table(tmp_path, LAYOUT)
    table.enter(0, {"ash": LEFT, "birch": FULL, "cedar": RIGHT}, ALL)
    table.train(np.random.default_rng(2), names=("ash",))
    mixed = table.plan.ranges(Hop.FUSED, source="birch", target="cedar")
    _, absent = fused_head(table, "birch", "cedar")
    lacking = np.unpackbits(np.frombuffer(absent, np.uint8), count=len(mixed))
    assert len(mixed) and not lacking.any()
    for name in NAMES[::2]:
        table.reduce(name)
    table.learn_truth()
    for target in NAMES:
        for source in table.plan.sources(Hop.FUSED, target):
            table.carry(Hop.FUSED, source, target)
        assert_holds_truth(table, target, FULL)
        assert table.desks[target].store.versions(0).tolist() == [1] * 16


def test_a_home_that_was_away_does_not_pass_old_values_off_as_new(
    tmp_path: Path,
) -> None:
    table = Table(tmp_path, LAYOUT)
    table.enter(0, ALL, {"ash": LEFT, "birch": RIGHT, "cedar": RIGHT})
    table.train(np.random.default_rng(3))
    away = "ash"  # it reduces its part of round 0, but never does so
    for name in NAMES:
        if name != away:
            table.reduce(name)
    table.enter(1, {"birch": RIGHT, "cedar": RIGHT}, ALL)
    sources = table.plan.sources(Hop.HOME, "birch")
    assert away in sources
    before = table.stored("birch", FULL)
    table.carry(Hop.HOME, away, "birch")
    for found, old in zip(table.stored("birch", FULL), before, strict=True):
        np.testing.assert_array_equal(found, old)
    store, homes = table.desks["birch"].store, table.plan.homes
    sent = table.plan.stream(Hop.HOME, source=away, target="birch")
    assert sent and not any(store.holds(segment, homes.version) for segment in sent)


def test_the_backups_of_a_silent_reducer_give_the_mean_of_the_others(
    table: Table,
) -> None:
    silent, backups = "birch", ("ash", "cedar")
    del table.offers[silent]
    for name in backups:
        table.reduce(name)
        table.reduce(name, instead_of=silent)
    table.learn_truth()
    for target in backups:
        (source,) = (name for name in backups if name != target)
        for instead_of in ("", silent):
            table.carry(Hop.FUSED, source, target, instead_of=instead_of)
        assert_holds_truth(table, target, FULL)


def test_a_backup_that_is_a_round_ahead_serves_and_keeps_its_newer_values(
    table: Table,
) -> None:
    table.exchange()
    old = table.plan
    table.enter(1, ALL, ALL)
    table.train(np.random.default_rng(3))
    table.exchange()
    table.learn_truth()
    backup = table.desks["ash"]
    backup.open_reduction(0, "birch")
    assert old.own_ranges("ash", instead_of="birch").size
    backup.add_own(0, "birch", 1.0)
    backup.close_reduction(0, "birch")
    assert_holds_truth(table, "ash", FULL)
    assert set(backup.store.versions(0).tolist()) == {2}
    size, _ = backup.start("cedar", 1, StreamKey("fused", 0, "ash", "cedar", "birch"))
    assert size > 0


# --- What others send wrong ----------------------------------------------------------


def test_a_contribution_counts_up_to_the_first_value_that_is_not_finite(
    table: Table,
) -> None:
    source, target = a_stream(table, Hop.CONTRIBUTION)
    stream = table.key(Hop.CONTRIBUTION, source, target)
    giver, taker = table.desks[source], table.desks[target]
    size, absent = giver.start(target, 1, stream)
    assert size > 2 * CHUNK_BYTES
    taker.open_reduction(0, "")
    taker.open_sink(OpenSink(1, stream, 1.0, size, absent), None)
    chunk = giver.chunk(target, 1, 0, CHUNK_BYTES)
    assert chunk is not None
    taker.check(source, Chunk(1, 0, chunk))
    taker.absorb(1, chunk)
    for bad in (np.nan, np.inf, -np.inf):
        broken = np.full(CHUNK_BYTES // 4, bad, np.float32)
        with pytest.raises(RemoteProtocolError, match="finite"):
            broken_chunk = memoryview(broken.tobytes())
            taker.check(source, Chunk(1, CHUNK_BYTES, broken_chunk))
    taker.close_sink(1, complete=False)
    taker.add_own(0, "", 1.0)
    taker.close_reduction(0, "")
    kept = CHUNK_BYTES // 4
    ids = table.plan.ranges(Hop.CONTRIBUTION, source=source, target=target)
    segments = table.plan.segments(ids.tolist())
    theirs = np.frombuffer(giver_values(table, stream), np.float32)
    own = own_values(table, target, segments)
    taker.store.flush()
    found = taker.store.read_flat(segments)
    np.testing.assert_array_equal(found[:kept], ((theirs + own) / 2)[:kept])
    np.testing.assert_array_equal(found[kept:], own[kept:])
    assert np.isfinite(found).all()


def test_fused_values_that_are_not_finite_leave_the_store_as_it_was(
    table: Table,
) -> None:
    source, target = a_stream(table, Hop.FUSED)
    for name in NAMES:
        table.desks[name].open_reduction(0, "")
        table.desks[name].add_own(0, "", 1.0)
        table.desks[name].close_reduction(0, "")
    taker, stream = table.desks[target], table.key(Hop.FUSED, source, target)
    taker.store.flush()
    before = taker.store.versions(0)
    size, absent = table.desks[source].start(target, 1, stream)
    taker.open_sink(OpenSink(1, stream, 1.0, size, absent), None)
    with pytest.raises(RemoteProtocolError):
        taker.check(source, Chunk(1, 0, memoryview(b"\xff" * size)))
    taker.close_sink(1, complete=False)
    taker.store.flush()
    np.testing.assert_array_equal(taker.store.versions(0), before)


@pytest.mark.parametrize("length", [3, CHUNK_BYTES - 1])
def test_bytes_that_are_no_whole_values_are_refused(table: Table, length: int) -> None:
    source, target = a_stream(table, Hop.CONTRIBUTION)
    stream = table.key(Hop.CONTRIBUTION, source, target)
    taker = table.desks[target]
    taker.open_reduction(0, "")
    taker.open_sink(OpenSink(1, stream, 1.0, 1000, b""), None)
    with pytest.raises(RemoteProtocolError, match="whole"):
        taker.check(source, Chunk(1, 0, memoryview(bytes(length))))


def test_only_the_source_of_a_stream_can_spoil_it(table: Table) -> None:
    source, target = a_stream(table, Hop.CONTRIBUTION)
    stream = table.key(Hop.CONTRIBUTION, source, target)
    taker = table.desks[target]
    taker.open_reduction(0, "")
    taker.open_sink(OpenSink(1, stream, 1.0, 1000, b""), None)
    bad = memoryview(np.array([np.nan], np.float32).tobytes())
    taker.check("somebody else", Chunk(1, 0, bad))
    taker.check(source, Chunk(2, 0, bad))
    with pytest.raises(RemoteProtocolError):
        taker.check(source, Chunk(1, 0, bad))


@pytest.mark.parametrize("surplus", [-1, 1])
def test_a_head_with_a_wrong_number_of_ranges_is_refused(
    table: Table, surplus: int
) -> None:
    source, target = a_stream(table, Hop.FUSED)
    for name in NAMES:
        table.reduce(name)
    taker, stream = table.desks[target], table.key(Hop.FUSED, source, target)
    taker.store.flush()
    before = table.stored(target, FULL)
    size, absent = table.desks[source].start(target, 1, stream)
    wrong = bytes(len(absent) + surplus)
    with pytest.raises(RemoteProtocolError, match="absent"):
        taker.open_sink(OpenSink(1, stream, 1.0, size, wrong), None)
    assert taker.round_of(1) is None
    taker.absorb(1, memoryview(bytes(size)))
    taker.close_sink(1, complete=True)
    for found, old in zip(table.stored(target, FULL), before, strict=True):
        np.testing.assert_array_equal(found, old)


# --- Serving -------------------------------------------------------------------------


@pytest.mark.parametrize("hop", [Hop.CONTRIBUTION, Hop.FUSED, Hop.EXPORT])
def test_a_stream_whose_last_chunk_was_lost_can_be_asked_for_again(
    table: Table, hop: Hop
) -> None:
    if hop is not Hop.CONTRIBUTION:
        table.exchange()
    if hop is Hop.EXPORT:
        table.enter(1, {}, ALL)
    source, target = a_stream(table, hop)
    giver, stream = table.desks[source], table.key(hop, source, target)
    size, absent = giver.start(target, 1, stream)
    first = giver.chunk(target, 1, 0, size)
    assert first is not None
    whole = bytes(first)
    # The last chunk frees the stream: whoever asks again makes it start again.
    assert giver.chunk(target, 1, 0, size) is None
    assert giver.start(target, 1, stream) == (size, absent)
    rest = giver.chunk(target, 1, CHUNK_BYTES, size - CHUNK_BYTES)
    assert rest is not None and bytes(rest) == whole[CHUNK_BYTES:]
    assert giver.chunk(target, 1, 0, CHUNK_BYTES) is None


def test_a_stream_that_was_stopped_is_freed_and_others_are_not(table: Table) -> None:
    source, target = a_stream(table, Hop.CONTRIBUTION)
    giver, stream = table.desks[source], table.key(Hop.CONTRIBUTION, source, target)
    for pull in (1, 2):
        giver.start(target, pull, stream)
    giver.stop_serving(target, 1)
    giver.stop_serving(target, 7)
    assert giver.chunk(target, 1, 0, 4) is None
    assert giver.chunk(target, 2, 0, 4) is not None


def test_a_round_that_is_forgotten_is_served_no_more(table: Table) -> None:
    source, target = a_stream(table, Hop.CONTRIBUTION)
    giver = table.desks[source]
    giver.forget(0)
    giver.forget(0)
    with pytest.raises(KeyError):
        giver.start(target, 1, table.key(Hop.CONTRIBUTION, source, target))


def test_the_table_of_homes_is_that_of_the_beginning_of_the_round(
    table: Table,
) -> None:
    table.exchange()
    before = table.homes.to_bytes()
    table.enter(1, ALL, ALL)
    giver = table.desks["ash"]
    size, absent = giver.start("birch", 1, StreamKey(TABLE, 1, "ash", "birch"))
    chunk = giver.chunk("birch", 1, 0, size)
    assert chunk is not None and (bytes(chunk), absent) == (before, b"")
    assert Homes.from_bytes(LAYOUT, bytes(chunk)).digest == table.plan.homes.digest


def test_serving_what_was_never_trained_is_our_own_bug(tmp_path: Path) -> None:
    table = Table(tmp_path, LAYOUT)
    table.enter(0, ALL, ALL)
    source, target = a_stream(table, Hop.CONTRIBUTION)
    with pytest.raises(LocalProtocolError, match="before it was made"):
        stream = table.key(Hop.CONTRIBUTION, source, target)
        table.desks[source].start(target, 1, stream)
    table.desks["ash"].open_reduction(0, "")
    with pytest.raises(LocalProtocolError, match="before it was made"):
        table.desks["ash"].add_own(0, "", 1.0)


def test_an_export_that_nobody_writes_goes_nowhere(table: Table) -> None:
    table.exchange()
    table.enter(1, {}, ALL)
    source, target = a_stream(table, Hop.EXPORT)
    before = table.stored(target, FULL)
    table.carry(Hop.EXPORT, source, target, export=None)
    for found, old in zip(table.stored(target, FULL), before, strict=True):
        np.testing.assert_array_equal(found, old)


# --- Second opinions -----------------------------------------------------------------


def fused_head(table: Table, source: str, target: str) -> tuple[int, bytes]:
    table.reduce(source)
    return table.desks[source].start(target, 99, table.key(Hop.FUSED, source, target))


def giver_values(table: Table, stream: StreamKey) -> bytes:
    giver = table.desks[stream.source]
    size, _ = giver.start(stream.target, 98, stream)
    chunk = giver.chunk(stream.target, 98, 0, size)
    assert chunk is not None
    return bytes(chunk)


def own_values(table: Table, name: str, segments: tuple[Segment, ...]) -> Floats:
    """A peer with the whole model offers every coordinate where it stands."""
    parts = [
        table.offers[name][s.parameter][np.ix_(*(list(i) for i in s.sets))].ravel()
        for s in segments
    ]
    return np.concatenate(parts)


def assert_all_hold_the_same(table: Table) -> list[Floats]:
    """What everybody holds of the whole model."""
    first = table.stored(NAMES[0], FULL)
    for name in NAMES[1:]:
        for found, other in zip(table.stored(name, FULL), first, strict=True):
            np.testing.assert_array_equal(found, other)
    return first


def assert_holds_truth(table: Table, name: str, split: Split) -> None:
    pairs = zip(table.stored(name, split), table.true(split), strict=True)
    for found, true in pairs:
        np.testing.assert_array_equal(found, true)
