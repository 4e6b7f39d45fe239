"""A process that seals rounds is killed a hundred times, at any moment, on one disk.

The child goes on from what it finds, again and again: it writes the values of a round
piece by piece, seals them, saves its progress and writes a whole-model checkpoint. Each
value follows from its place and its version, so the reader knows what must be there.
Where the child is killed is counted in its own steps, and in turns of an idle loop.
"""

from __future__ import annotations

import os
import random
import signal
import traceback
from functools import lru_cache
from itertools import count
from pathlib import Path

import numpy as np

from p2pfusion.daemon.state import SwarmState
from p2pfusion.split.homes import Homes
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.plan import plan_round
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store import Store, copy_model, read_checkpoint, write_checkpoint
from p2pfusion.store.initial import initial_values
from tests.protocol.swarm import small_manifest

KILLS = 100
MOST_STEPS = 24
MOST_IDLE_TURNS = 60_000
SEED = 3

# Rows wider than a page and narrow ones, cut on both axes and on one.
LAYOUT = Layout(
    (Axis("a", 16), Axis("b", 2048)),
    (
        ParameterSpec(
            "wide", (Dimension(16, "a"), Dimension(2048, "b")), Initial("uniform", 0.5)
        ),
        ParameterSpec(
            "narrow",
            (Dimension(2048, "b"), Dimension(16, "a")),
            Initial("uniform", 1.0),
        ),
        ParameterSpec("bias", (Dimension(16, "a"),), Initial("ones")),
    ),
)
MANIFEST = small_manifest(layout=LAYOUT, seed=SEED)
FULL = tuple(Split.full(LAYOUT).segments(LAYOUT))


def window(round_index: int) -> Split:
    """What the child writes in a round."""
    a, b = LAYOUT.axes
    return Split.of(
        {
            "a": IndexSet.cyclic(5 * round_index, 9, a.size),
            "b": IndexSet.cyclic(256 * round_index, 1024, b.size),
        }
    )


@lru_cache(maxsize=8)
def table(next_round: int) -> Homes:
    """The table of homes that belongs to a round."""
    full = {f"peer-{next_round % 8}": Split.full(LAYOUT)}
    plan = plan_round(
        LAYOUT,
        seed=SEED,
        round_index=next_round,
        current=full,
        following=full,
        homes=Homes.initial(LAYOUT),
    )
    return plan.homes_after()


def written(segment: Segment, version: int) -> np.ndarray:
    """The values of a segment that were fused with this version."""
    shape = LAYOUT.parameters[segment.parameter].shape
    whole = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    places = whole[np.ix_(*(list(indices) for indices in segment.sets))]
    found = places * 31 % 997 + 1000 * (version % 10_000) + segment.parameter
    return found.astype(np.float32)


@lru_cache(maxsize=8)
def expected(next_round: int) -> list[np.ndarray]:
    """The whole model after so many rounds."""
    if not next_round:
        return [
            initial_values(LAYOUT, SEED, i, 0, p.shape[0]).reshape(p.shape)
            for i, p in enumerate(LAYOUT.parameters)
        ]
    model = [values.copy() for values in expected(next_round - 1)]
    for segment in window(next_round - 1).segments(LAYOUT):
        place = np.ix_(*(list(indices) for indices in segment.sets))
        model[segment.parameter][place] = written(segment, next_round)
    return model


@lru_cache(maxsize=8)
def expected_versions(next_round: int) -> tuple[tuple[int, ...], ...]:
    """The version of every cell after so many rounds."""
    versions = [np.zeros((16, 32), int), np.zeros(16, int)]
    for version in range(1, next_round + 1):
        split = window(version - 1)
        rows, columns = list(split["a"]), sorted({i // 64 for i in split["b"]})
        versions[0][np.ix_(rows, columns)] = version
        versions[1][rows] = version
    return tuple(tuple(each.ravel().tolist()) for each in versions)


def versions_of(store: Store) -> tuple[tuple[int, ...], ...]:
    """The same, as a store says it."""
    by_axes = {s.axes: i for i, s in enumerate(LAYOUT.signatures)}
    found = [store.versions(by_axes["a", "b"]), store.versions(by_axes["a",])]
    return tuple(tuple(each.ravel().tolist()) for each in found)


def seal_rounds(directory: Path, told: int) -> None:
    """The child: one round after the other, a byte for every step."""
    state = SwarmState(directory)
    store = state.open_store(MANIFEST)
    first, _ = state.load_progress(LAYOUT)
    os.write(told, b".")
    for number in count(first):
        segments = tuple(window(number).segments(LAYOUT))
        for part in (segments[:1], segments[1:]):
            values = [written(segment, number + 1).ravel() for segment in part]
            store.write_flat(part, np.concatenate(values))
            os.write(told, b".")
        store.set_version(segments, number + 1)
        store.flush()
        os.write(told, b".")
        state.save_progress(number + 1, table(number + 1))
        os.write(told, b".")
        path, metadata = directory / "model.safetensors", {"round": str(number + 1)}
        with write_checkpoint(path, LAYOUT, metadata) as writer:
            copy_model(store, writer)
        os.write(told, b".")


def kill_after(directory: Path, steps: int, idle_turns: int) -> None:
    """Lets a child work, and kills it some idle turns after that many steps."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        try:
            seal_rounds(directory, writer)
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(1)
    os.close(writer)
    said = b""
    while len(said) < steps:
        heard = os.read(reader, steps - len(said))
        said += heard
        assert heard and set(said) == set(b"."), said + os.read(reader, 10_000)
    for _ in range(idle_turns):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)


def test_a_hundred_kills_never_leave_a_mixed_or_unreadable_file(
    tmp_path: Path,
) -> None:
    directory, chance = tmp_path / "swarm", random.Random(SEED)
    before = checkpoint_before = 0
    ahead = 0
    for _ in range(KILLS):
        steps = chance.randrange(1, MOST_STEPS)
        kill_after(directory, steps, chance.randrange(MOST_IDLE_TURNS))
        next_round, homes = SwarmState(directory).load_progress(LAYOUT)
        assert next_round >= before
        if next_round:
            assert homes.digest == table(next_round).digest
        store = SwarmState(directory).open_store(MANIFEST)
        # Sealed before its progress was saved: one round ahead of it, never more.
        sealed = next_round
        if versions_of(store) != expected_versions(sealed):
            sealed, ahead = next_round + 1, ahead + 1
            assert versions_of(store) == expected_versions(sealed)
        for segment, values in zip(FULL, expected(sealed), strict=True):
            np.testing.assert_array_equal(store.read(segment), values)
        path = directory / "model.safetensors"
        if path.exists():
            tensors, metadata = read_checkpoint(path)
            written_after = int(metadata["round"])
            assert checkpoint_before <= written_after <= next_round
            for spec, values in zip(
                LAYOUT.parameters, expected(written_after), strict=True
            ):
                np.testing.assert_array_equal(tensors[spec.name], values)
            checkpoint_before = written_after
        before = next_round
    assert before > KILLS and checkpoint_before > KILLS, "rounds went on"
    assert ahead, "no kill came between a seal and its progress"
