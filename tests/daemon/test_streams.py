"""What a daemon does when it is asked what it lacks."""

from __future__ import annotations

import numpy as np

from p2pfusion.protocol import events as e
from tests.daemon.running import ALONE, Running, running

LAST = 2


def answered(alone: Running, cells: tuple[np.ndarray, ...]) -> list[e.FoundLacking]:
    """What the node tells its peer when it is asked about cells of the last round."""
    alone.node._perform[e.FindLacking](e.FindLacking(LAST, cells))
    return waiting(alone)


def waiting(alone: Running) -> list[e.FoundLacking]:
    return [x for x in alone.node._events if isinstance(x, e.FoundLacking)]


def test_it_says_what_is_lacking_or_nothing_and_on_a_full_disk_later() -> None:
    with running(data={"kind": "digits"}, swarm=ALONE) as alone:
        alone.ask("wait", **{"for": "done"})
        round_ = alone.node.peer.round
        assert round_ is not None and round_.number == LAST
        homes = round_.plan.homes
        trained = tuple(version > 0 for version in homes.version)
        (found,) = answered(alone, trained)
        assert not any(mask.any() for mask in found.cells)
        alone.node._events.clear()
        # Nobody has made this version: it lacks all of it.
        for version in homes.version:
            version += version > 0
        alone.node.disk.fill("a test", 0)
        assert answered(alone, trained) == []
        alone.node.disk.retry()
        (found,) = waiting(alone)
        for mask, lacked in zip(found.cells, trained, strict=True):
            assert mask.any() and np.array_equal(mask, lacked)
