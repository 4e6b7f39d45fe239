"""The store on a disk that is full at every point of a round, in turn.

Run by ``test_full_disk.py`` on a small file system: the directory is the argument.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from p2pfusion.errors import DiskFullError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store import Store, write_checkpoint
from tests.small_disk import fill

AXES = (Axis("a", 256), Axis("b", 2048))
LAYOUT = Layout(
    AXES,
    tuple(
        ParameterSpec(
            f"w{i}", tuple(Dimension(a.size, a.name) for a in AXES), Initial("ones")
        )
        for i in range(2)
    ),
)
ROUNDS = 12


def window(number: int) -> tuple[Segment, ...]:
    """A quarter of the model, another one in every round."""
    a, b = AXES
    return tuple(
        Split.of(
            {
                "a": IndexSet.cyclic(number * 64, 128, a.size),
                "b": IndexSet.cyclic(number * 512, 1024, b.size),
            }
        ).segments(LAYOUT)
    )


def values(segments: tuple[Segment, ...], version: int) -> np.ndarray:
    return np.full(sum(s.size for s in segments), version, np.float32)


def main(directory: Path) -> None:
    """Rounds on a disk with a little more room each time; then one with enough."""
    store = Store.create(directory / "store", LAYOUT, 1)
    expected = [np.ones((256, 2048), np.float32) for _ in range(2)]
    outcomes = []
    for number in range(ROUNDS):
        filler = fill(directory, but_bytes=number * (200 << 10))
        segments, version = window(number), number + 1
        try:
            for segment in segments:
                part = (segment,)
                store.write_flat(part, values(part, version))
            store.set_version(segments, version)
            # Even if the last byte is gone by now, what was accepted can be sealed.
            (directory / "second").mkdir(exist_ok=True)
            second = fill(directory / "second")
            store.flush()
            second.unlink()
            for segment in segments:
                place = np.ix_(*(list(indices) for indices in segment.sets))
                expected[segment.parameter][place] = version
            outcomes.append(True)
        except DiskFullError:
            # Some values were accepted, and none of them has a version: one more try
            # with enough room would bring them; dropping them is what a crash does.
            store = Store.open(directory / "store", LAYOUT, 1, writable=True)
            outcomes.append(False)
        check(store, expected)
        check(Store.open(directory / "store", LAYOUT, 1), expected)
        filler.unlink()
    assert outcomes[0] is False and outcomes[-1] is True, outcomes
    filler = fill(directory, but_bytes=1 << 20)
    try:
        with write_checkpoint(directory / "model.safetensors", LAYOUT, {}):
            raise AssertionError("there was room for a checkpoint")
    except DiskFullError:
        left = sorted(path.name for path in directory.iterdir())
        assert left == ["filler", "second", "store"], left
    filler.unlink()


def check(store: Store, expected: list[np.ndarray]) -> None:
    for segment in Split.full(LAYOUT).segments(LAYOUT):
        np.testing.assert_array_equal(store.read(segment), expected[segment.parameter])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
