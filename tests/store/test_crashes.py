"""A process that is killed at any moment: what it leaves on disk is old or new.

A child process does the work and stops before the n-th call that changes a file; the
parent kills it there. Every n is tried, until the child gets to the end.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Split
from p2pfusion.store.checkpoint import copy_model, write_checkpoint
from p2pfusion.store.offer import Offer, write_offer
from p2pfusion.store.store import Store

CHANGING = (
    "open",
    "pwrite",
    "pwritev",
    "posix_fallocate",
    "fsync",
    "replace",
    "unlink",
)

# Rows wider than a page, so that each is written by itself.
LAYOUT = Layout(
    (Axis("a", 4), Axis("b", 2048)),
    (
        ParameterSpec(
            "w", (Dimension(4, "a"), Dimension(2048, "b")), Initial("uniform", 0.5)
        ),
        ParameterSpec("bias", (Dimension(4, "a"),), Initial("ones")),
        ParameterSpec("gain", (Dimension(4, "a"),), Initial("ones")),
    ),
)
TRAINED = tuple(
    Split.of({"a": IndexSet.span(1, 4), "b": IndexSet.span(64, 192)}).segments(LAYOUT)
)
NEXT = tuple(
    Split.of({"a": IndexSet.span(0, 3), "b": IndexSet.span(128, 256)}).segments(LAYOUT)
)


def killed_before_call(number: int, work: Callable[[], None]) -> bool:
    """Whether a child that does the work was killed before its call of that number."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _stop_before(number, writer)
        try:
            work()
            os.write(writer, b"done")
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writer)
    said = os.read(reader, 10_000).decode()
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert said in ("done", "stopped"), said
    return said == "stopped"


def _stop_before(number: int, writer: int) -> None:
    calls = iter(range(number))

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            # What is synced beside the work changes nothing that a kill leaves.
            is_work = threading.current_thread() is threading.main_thread()
            if is_work and next(calls, None) is None:
                os.write(writer, b"stopped")
                signal.pause()
            return original(*arguments, **named)

        return call

    for name in CHANGING:
        setattr(os, name, counted(getattr(os, name)))


def every_crash(
    tmp_path: Path, prepare: Callable[[Path], None], work: Callable[[Path], None]
) -> Iterator[Path]:
    """A freshly prepared directory for every moment at which the work was killed."""
    for number in range(1000):
        directory = tmp_path / str(number)
        directory.mkdir()
        prepare(directory)
        finished = not killed_before_call(number, lambda: work(directory))  # noqa: B023
        yield directory
        if finished:
            assert number > 3, "the work makes more calls than that"
            return
    raise AssertionError("the work never came to its end")


def filled(segments: tuple, value: float) -> np.ndarray:
    return np.full(sum(s.size for s in segments), value, np.float32)


def test_a_killed_store_holds_all_of_a_round_or_nothing(tmp_path: Path) -> None:
    def prepare(directory: Path) -> None:
        store = Store.create(directory / "store", LAYOUT, 1)
        store.write_flat(TRAINED, filled(TRAINED, 10))
        store.set_version(TRAINED, 1)
        store.flush()

    def work(directory: Path) -> None:
        store = Store.open(directory / "store", LAYOUT, 1, writable=True)
        store.write_flat(NEXT, filled(NEXT, 20))
        store.set_version(NEXT, 2)
        store.flush()

    seen = []
    for directory in every_crash(tmp_path, prepare, work):
        mixed = newest_differ(Store.open(directory / "store", LAYOUT, 1))
        found = Store.open(directory / "store", LAYOUT, 1, writable=True)
        initial = Store.create(directory / "untrained", LAYOUT, 1)
        for segment in Split.full(LAYOUT).segments(LAYOUT):
            versions = versions_of(found, segment.parameter)
            values, untrained = found.read(segment), initial.read(segment)
            assert np.array_equal(values[versions == 0], untrained[versions == 0])
            assert set(values[versions == 1].tolist()) <= {10}
            assert set(values[versions == 2].tolist()) <= {20}
        is_new = bool((versions_of(found, 0)[:3, 128:256] == 2).all())
        assert is_new == bool((versions_of(found, 0) == 2).any())
        assert is_new or not mixed, "what was begun in place is finished"
        seen.append((is_new, mixed))
    assert seen == sorted(seen, key=lambda pair: pair[0]) and seen[-1] == (True, False)
    assert (True, True) in seen, "no crash fell between the values and their versions"


def newest_differ(store: Store) -> bool:
    """Whether a reader that does not recover would see new values as old ones."""
    values = store.read(Split.full(LAYOUT).segment(LAYOUT, 0))
    return bool(((versions_of(store, 0) == 1) & (values == 20)).any())


def versions_of(store: Store, parameter: int) -> np.ndarray:
    """The version of every element of a parameter of ``LAYOUT``."""
    if parameter:
        return store.versions(1)
    return np.repeat(store.versions(0), 64, axis=1)


def test_a_killed_store_can_be_written_again(tmp_path: Path) -> None:
    def prepare(directory: Path) -> None:
        Store.create(directory / "store", LAYOUT, 1)

    def work(directory: Path) -> None:
        store = Store.open(directory / "store", LAYOUT, 1, writable=True)
        store.write_flat(NEXT, filled(NEXT, 20))
        store.set_version(NEXT, 2)
        store.flush()

    for directory in every_crash(tmp_path, prepare, work):
        work(directory)
        again = Store.open(directory / "store", LAYOUT, 1, writable=True)
        assert (again.read_flat(NEXT) == 20).all()


def test_a_store_killed_at_birth_is_created_anew(tmp_path: Path) -> None:
    def work(directory: Path) -> None:
        Store.create(directory / "store", LAYOUT, 1)

    for directory in every_crash(tmp_path, lambda directory: None, work):
        if not (directory / "store" / "store.json").exists():
            work(directory)
        assert Store.open(directory / "store", LAYOUT, 1).versions(0).shape == (4, 32)


def test_a_killed_checkpoint_leaves_the_previous_one(tmp_path: Path) -> None:
    def prepare(directory: Path) -> None:
        store = Store.create(directory / "store", LAYOUT, 1)
        with write_checkpoint(
            directory / "model.safetensors", store.layout, {"round": "old"}
        ) as writer:
            copy_model(store, writer)
        store.write_flat(TRAINED, filled(TRAINED, 10))
        store.set_version(TRAINED, 1)
        store.flush()

    def work(directory: Path) -> None:
        store = Store.open(directory / "store", LAYOUT, 1)
        with write_checkpoint(
            directory / "model.safetensors", store.layout, {"round": "new"}
        ) as writer:
            copy_model(store, writer)

    seen = []
    for directory in every_crash(tmp_path, prepare, work):
        tensors = load_file(directory / "model.safetensors")
        new = tensors["w"][1, 64] == 10
        assert (tensors["w"][1:, 64:192] == 10).all() == new
        assert (tensors["bias"][1:] == 10).all() == new
        seen.append(bool(new))
        work(directory)
        left = {path.name for path in directory.iterdir()}
        assert left == {"store", "model.safetensors"}
        assert load_file(directory / "model.safetensors")["w"][1, 64] == 10
    assert seen == sorted(seen) and set(seen) == {False, True}


def test_a_killed_offer_is_not_there(tmp_path: Path) -> None:
    split = Split.full(LAYOUT)
    arrays = [np.full(p.shape, 3, np.float32) for p in LAYOUT.parameters]

    def work(directory: Path) -> None:
        write_offer(directory / "offer", arrays)

    for directory in every_crash(tmp_path, lambda directory: None, work):
        if (directory / "offer").exists():
            offer = Offer.open(directory / "offer", LAYOUT, split)
            assert all((offer.read_array(i) == 3).all() for i in range(3))
    assert (directory / "offer").exists(), "the last one finished"
