"""What a peer does for its copies when all rounds are over."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import Request, StreamStart
from p2pfusion.protocol.upkeep import TRIES
from p2pfusion.split.keeping import Cells, count_cells
from p2pfusion.split.plan import Hop
from p2pfusion.split.restoring import Versions, unpack_cells
from tests.protocol.swarm import Swarm, started

LAST = 4
LONG_S = 120.0
"""Longer than all tries together, and than it takes to find out who is gone."""


def at_rest(count: int = 4, **changes: object) -> Swarm:
    """All are done, have what the plans say, and look for nothing any more."""
    swarm = started(count, rounds=LAST, **changes)
    swarm.run_until_done()
    for host in swarm.hosts.values():
        host.versions = planned(swarm, host.name)
    rest(swarm)
    return swarm


def planned(swarm: Swarm, name: str) -> Versions:
    """The versions of what a peer has by the plans, and 0 for everything else."""
    after = swarm.hosts[name].plans[LAST].homes_after()
    has = (after.copies(index, [name])[0] for index in range(len(after.version)))
    return tuple(v * mask for v, mask in zip(after.version, has, strict=True))


def rest(swarm: Swarm) -> None:
    living = [host.peer for host in swarm.hosts.values() if host.alive]
    swarm.run(
        lambda: all(peer.exchange.upkeep.is_at_rest(swarm.now) for peer in living)
    )


def restored(swarm: Swarm, name: str) -> Cells:
    """All that a peer has got from others by naming it."""
    host = swarm.hosts[name]
    found = tuple(np.zeros_like(mask) for mask in everything(swarm))
    for stream in host.received.get(LAST, []):
        if stream.hop == Hop.RESTORE:
            cells = unpack_cells(swarm.manifest.layout, stream.asked)
            found = tuple(a | b for a, b in zip(found, cells, strict=True))
    return found


def everything(swarm: Swarm) -> Cells:
    homes = next(iter(swarm.hosts.values())).plans[LAST].homes
    return tuple(version > 0 for version in homes.version)


def looks(swarm: Swarm) -> int:
    return sum(len(host.looked_for) for host in swarm.hosts.values())


def test_who_lacks_nothing_looks_once_and_rests() -> None:
    swarm = at_rest()
    before, sent = looks(swarm), []
    assert all(host.looked_for for host in swarm.hosts.values())
    swarm.watch = lambda name, what, mark: (
        sent.append(what.message)
        if isinstance(what, e.Send) and isinstance(what.message, Request)
        else None
    )
    swarm.run_to(swarm.now + LONG_S)
    assert looks(swarm) == before and not sent


@pytest.mark.parametrize("gone", ["p0", "p2"])
def test_what_the_dead_had_others_get(gone: str) -> None:
    swarm = at_rest()
    swarm.kill(gone)
    swarm.run(lambda: bool(swarm.hosts["p1"].reported("peer-silent")))
    rest(swarm)
    living = [name for name in swarm.hosts if name != gone]
    copies = [np.zeros(mask.shape, int) for mask in everything(swarm)]
    for name in living:
        has = zip(planned(swarm, name), restored(swarm, name), strict=True)
        for index, (version, got) in enumerate(has):
            assert not (got & (version > 0)).any(), "it had that"
            copies[index] += (version > 0) | got
    had = planned(swarm, gone)
    for count, mask, lost in zip(copies, everything(swarm), had, strict=True):
        assert (count[mask] >= 2).all()
        assert (count[mask & (lost == 0)] >= 2).all()
    assert any(count_cells(restored(swarm, name)) for name in living)


def test_who_was_away_for_a_moment_is_not_replaced() -> None:
    swarm = at_rest()
    swarm.kill("p2")
    swarm.run(lambda: bool(swarm.hosts["p1"].reported("peer-silent")))
    swarm.run_to(swarm.now + 2.0)  # of the five seconds in which it is only suspected
    swarm.restart("p2")
    swarm.hosts["p2"].versions = planned(swarm, "p1")  # of its own nothing is asked
    swarm.run(lambda: swarm.hosts["p2"].peer.standing.value == "done")
    swarm.hosts["p2"].versions = planned(swarm, "p2")
    rest(swarm)
    for name in ("p0", "p1", "p3"):
        assert not count_cells(restored(swarm, name))


def test_what_nobody_has_is_asked_for_a_few_times_and_then_no_more() -> None:
    swarm = at_rest(3, fraction="1")
    host = swarm.hosts["p1"]
    host.versions = tuple(version * 0 for version in host.versions)
    for other in ("p0", "p2"):
        swarm.hosts[other].absent_here = b"\xff"
    host.looked_for.clear()
    asked: list[float] = []
    swarm.watch = lambda name, what, mark: (
        asked.append(swarm.now)
        if name == "p1"
        and isinstance(what, e.Send)
        and isinstance(what.message, Request)
        else None
    )
    swarm.kill("p2")  # a change: it looks again
    swarm.run(lambda: bool(host.reported("peer-silent")))
    rest(swarm)
    # It looks anew as p2 falls silent, and as it counts as gone.
    assert TRIES < len(host.looked_for) <= 2 * (TRIES + 1)
    assert host.peer.exchange.upkeep.lacking == count_cells(everything(swarm)) > 0
    swarm.run_to(swarm.now + LONG_S)
    assert asked and asked[-1] < swarm.now - LONG_S


def test_what_another_did_not_have_yet_is_asked_for_again() -> None:
    swarm = started(3, fraction="1", rounds=LAST)
    swarm.run_until_done()
    host = swarm.hosts["p1"]
    for other in ("p0", "p2"):
        swarm.hosts[other].absent_here = b"\xff"
    host.versions = tuple(v * 0 for v in host.plans[LAST].homes.version)
    swarm.run(lambda: len(host.looked_for) == 1)
    before = len(host.received.get(LAST, []))
    swarm.run(lambda: not host.peer.exchange.restoring.is_busy)
    for other in ("p0", "p2"):
        swarm.hosts[other].absent_here = b"\0"
    swarm.run(lambda: len(host.looked_for) == 2)
    swarm.run(lambda: not host.peer.exchange.restoring.is_busy)
    later = host.received[LAST][before:]
    assert any(stream.hop == Hop.RESTORE and not stream.least for stream in later)
    host.versions = ()
    rest(swarm)
    assert host.peer.exchange.upkeep.lacking == 0


def test_nobody_is_asked_that_is_not_in_the_last_round() -> None:
    swarm = at_rest(3)
    swarm.add("p7", training_s=1.0)
    asked: list[str] = []
    swarm.watch = lambda name, what, mark: (
        asked.append(what.peer)
        if isinstance(what, e.Send) and isinstance(what.message, Request)
        else None
    )
    swarm.cut = lambda a, b, m: a == "p7" and isinstance(m, Request)
    swarm.join("p7", by="p0")
    swarm.run(lambda: swarm.hosts["p0"].peer.gossip.is_member("p7"))
    swarm.hosts["p0"].absent_here = b"\xff"  # so everybody will be asked
    swarm.kill("p2")
    swarm.run(lambda: bool(swarm.hosts["p1"].reported("peer-silent")))
    swarm.run_to(swarm.now + LONG_S)
    assert "p1" in asked and "p7" not in asked


def test_who_is_there_and_gives_nothing_is_left_for_another() -> None:
    swarm = at_rest(3, fraction="1")
    host = swarm.hosts["p1"]
    host.versions = tuple(version * 0 for version in host.versions)
    swarm.cut = lambda a, b, m: (a, b) == ("p0", "p1") and isinstance(m, StreamStart)
    before = len(host.looked_for)
    swarm.add("p7")
    swarm.join("p7", by="p0")  # a change: it looks again
    swarm.run(lambda: len(host.looked_for) > before)
    pulls = host.peer.exchange.pulls
    assert {pull.stream.source for pull in pulls.of_hop(Hop.RESTORE)} == {"p0"}
    swarm.run(lambda: not host.peer.exchange.restoring.is_busy)
    sources = {x.source for x in host.received[LAST] if x.hop == Hop.RESTORE}
    assert sources == {"p2"}
    rest(swarm)
    swarm.run_to(swarm.now + LONG_S)
    assert not pulls.of_hop(Hop.RESTORE)
