"""Whom a peer asks for what it lacks, and what happens when that is lacking there."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import Refusal, Request, StreamStart
from p2pfusion.split.grid import cell_elements
from p2pfusion.split.keeping import Cells
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.restoring import (
    Versions,
    lacking_cells,
    pack_cells,
    shared_out,
    unpack_cells,
)
from tests.protocol.swarm import Swarm, started

LAST = 4
ANYTHING = 1
"""The version that is enough for whoever has nothing, and knows of nobody who has."""


def at_the_end(count: int = 4, **changes: object) -> tuple[Swarm, ExchangePlan]:
    """All are in the last round, which trains nothing, and its plan."""
    swarm = started(count, rounds=LAST, **changes)
    swarm.run_until_done()
    return swarm, swarm.hosts["p1"].plans[LAST]


def everything(plan: ExchangePlan, peer: str) -> Cells:
    """All that the table says the peer has, lacking."""
    return lacking_cells(plan, peer, [v * 0 for v in plan.homes.version])


def found(
    cells: Cells, number: int = LAST, versions: Versions | None = None
) -> e.FoundLacking:
    """What the daemon says: by default, that it has nothing whatever."""
    nothing = tuple(mask.astype(np.int32) * 0 for mask in cells)
    return e.FoundLacking(number, cells, versions or nothing)


def asked_of(swarm: Swarm, name: str, *, late: bool = False) -> list[tuple[str, Cells]]:
    """The newest cells that a peer got from others, or older ones, by streams; not
    those of which anything at all was asked for."""
    host = swarm.hosts[name]
    layout = swarm.manifest.layout
    return [
        (stream.source, unpack_cells(layout, stream.asked))
        for stream in host.received.get(LAST, [])
        if stream.hop == Hop.RESTORE
        and (stream.least > ANYTHING if late else not stream.least)
    ]


def united(parts: list[Cells]) -> Cells:
    return tuple(np.any(np.stack(masks), axis=0) for masks in zip(*parts, strict=True))


def settle(swarm: Swarm) -> None:
    swarm.run_to(swarm.now + 3.0)


def test_few_are_asked_for_all_that_somebody_has() -> None:
    swarm, plan = at_the_end()
    cells = everything(plan, "p1")
    swarm.event("p1", found(cells))
    settle(swarm)
    got = united([part for _, part in asked_of(swarm, "p1")])
    others = [plan.homes.copies(i, ["p0", "p2", "p3"]) for i in range(len(cells))]
    assert any(mask.any() for mask in got)
    for mask, lacked, copies in zip(got, cells, others, strict=True):
        assert np.array_equal(mask, lacked & copies.any(axis=0))
    total = sum(int(m.sum()) for _, part in asked_of(swarm, "p1") for m in part)
    assert total == sum(int(mask.sum()) for mask in got), "something came twice"


def test_what_one_lacks_as_well_the_next_is_asked_for() -> None:
    swarm, plan = at_the_end(3, fraction="1")
    cells = everything(plan, "p1")
    swarm.hosts["p0"].absent_here = b"\xff"
    swarm.event("p1", found(cells))
    settle(swarm)
    got = dict(asked_of(swarm, "p1"))
    assert set(got) == {"p0", "p2"}
    for mask, lacked in zip(got["p2"], cells, strict=True):
        assert np.array_equal(mask, lacked)


def test_what_one_lacks_is_asked_of_another_that_was_asked_for_something_else() -> None:
    swarm, plan = at_the_end(4, fraction="3/4")
    cells = everything(plan, "p1")
    first = shared_out(plan.layout, plan.homes, cells, {"p0", "p2", "p3"}, but={})
    assert len(first) > 1, "one has everything"
    best = next(iter(first))
    swarm.hosts[best].absent_here = b"\xff"
    swarm.event("p1", found(cells))
    settle(swarm)
    got = [part for source, part in asked_of(swarm, "p1") if source != best]
    others = sorted({"p0", "p2", "p3"} - {best})
    have = [plan.homes.copies(i, others).any(axis=0) for i in range(len(cells))]
    for mask, lacked, copies in zip(united(got), cells, have, strict=True):
        assert np.array_equal(mask, lacked & copies)


def test_nobody_is_asked_twice_in_one_round() -> None:
    swarm, plan = at_the_end(3, fraction="1")
    for name in ("p0", "p2"):
        swarm.hosts[name].absent_here = b"\xff"
    swarm.event("p1", found(everything(plan, "p1")))
    settle(swarm)
    assert [source for source, _ in asked_of(swarm, "p1")] == ["p0", "p2"]
    assert not swarm.hosts["p1"].peer.exchange.pulls.of_hop(Hop.RESTORE)


def former_holders(plan: ExchangePlan, cells: Cells) -> dict[str, Cells]:
    """Which of the cells that were trained last each had newest before that."""
    homes = plan.homes
    return {
        peer: tuple(
            mask & homes.copies(index, [peer])[0] for index, mask in enumerate(cells)
        )
        for peer in homes.peers
    }


def test_what_all_lack_is_asked_of_those_who_had_it_before() -> None:
    swarm, plan = at_the_end(4)
    cells = everything(plan, "p1")
    before = swarm.hosts["p1"].plans[LAST - 1]
    others = ("p0", "p2", "p3")
    for name in others:
        swarm.hosts[name].absent_here = b"\xff"
    swarm.event("p1", found(cells))
    settle(swarm)
    fresh = tuple(
        mask & (v == LAST) & (old > 0)
        for mask, v, old in zip(
            cells, plan.homes.version, before.homes.version, strict=True
        )
    )
    had = former_holders(before, fresh)
    late = asked_of(swarm, "p1", late=True)
    assert late
    for source, part in late:
        for mask, may in zip(part, had[source], strict=True):
            assert not (mask & ~may).any()
    anywhere = united([had[name] for name in others])
    for mask, may in zip(united([part for _, part in late]), anywhere, strict=True):
        assert np.array_equal(mask, may)


def test_what_all_lack_and_is_here_in_the_version_before_is_kept() -> None:
    swarm, plan = at_the_end(4)
    before = swarm.hosts["p1"].plans[LAST - 1]
    cells = lacking_cells(plan, "p1", before.homes.version)
    for name in ("p0", "p2", "p3"):
        swarm.hosts[name].absent_here = b"\xff"
    kept: list[e.KeepOld] = []
    swarm.watch = lambda name, what, mark: (
        kept.append(what) if isinstance(what, e.KeepOld) else None
    )
    swarm.event("p1", found(cells, versions=before.homes.version))
    settle(swarm)
    fresh = tuple(
        mask & (v == LAST) for mask, v in zip(cells, plan.homes.version, strict=True)
    )
    assert any(mask.any() for mask in fresh)
    for mask, may in zip(united([each.cells for each in kept]), fresh, strict=True):
        assert np.array_equal(mask, may)
    assert asked_of(swarm, "p1", late=True) == []


def forgetful(*, silent: str = "") -> tuple[list[e.KeepOld], Cells, set[str]]:
    """What a peer keeps that remembers no round, what it lacks, and whom it has asked
    for anything newer than nothing; all others lack everything, or are silent."""
    swarm, plan = at_the_end(4)
    for name in ("p0", "p2", "p3"):
        swarm.hosts[name].absent_here = b"\xff"
    if silent:
        swarm.kill(silent)
        swarm.run(lambda: bool(swarm.hosts["p1"].reported("peer-silent")))
    del swarm.hosts["p1"].peer.exchange.rounds[LAST - 1]
    kept: list[e.KeepOld] = []
    swarm.watch = lambda name, what, mark: (
        kept.append(what) if isinstance(what, e.KeepOld) else None
    )
    cells = everything(plan, "p1")
    swarm.event("p1", found(cells))
    settle(swarm)
    streams = swarm.hosts["p1"].received.get(LAST, [])
    return kept, cells, {s.source for s in streams if s.least == ANYTHING}


def test_who_remembers_nothing_asks_everybody_for_anything_newer() -> None:
    kept, cells, asked = forgetful()
    assert asked == {"p0", "p2", "p3"}
    for mask, may in zip(united([each.cells for each in kept]), cells, strict=True):
        assert may.any() and np.array_equal(mask, may)


def test_what_is_here_counts_only_when_all_have_answered() -> None:
    kept, _, asked = forgetful(silent="p3")
    assert asked == {"p0", "p2"} and not kept


def test_as_long_as_one_has_not_answered_nothing_older_is_taken() -> None:
    swarm, plan = at_the_end(4)
    for name in ("p0", "p2"):
        swarm.hosts[name].absent_here = b"\xff"
    swarm.kill("p3")
    swarm.run(lambda: bool(swarm.hosts["p1"].reported("peer-silent")))
    cells = everything(plan, "p1")
    swarm.event("p1", found(cells))
    settle(swarm)
    said = plan.homes
    for _, part in asked_of(swarm, "p1", late=True):
        for index, mask in enumerate(part):
            assert not (mask & said.copies(index, ["p3"])[0]).any()


def test_who_falls_silent_is_replaced() -> None:
    swarm, plan = at_the_end(3, fraction="1")
    swarm.cut = lambda a, b, m: a == "p0" and isinstance(m, StreamStart)
    swarm.event("p1", found(everything(plan, "p1")))
    swarm.kill("p0")
    swarm.run(lambda: bool(swarm.hosts["p1"].reported("peer-silent")))
    settle(swarm)
    assert [source for source, _ in asked_of(swarm, "p1")] == ["p2"]


@pytest.mark.parametrize("number", [LAST - 1, LAST + 1])
def test_what_a_round_lacked_that_is_over_concerns_nobody(number: int) -> None:
    swarm, plan = at_the_end()
    swarm.event("p1", found(everything(plan, "p1"), number))
    settle(swarm)
    assert asked_of(swarm, "p1") == []


def test_a_round_does_not_wait_for_what_is_lacking_and_its_end_ends_it() -> None:
    swarm = started(3, fraction="1/2", rounds=8)
    host = swarm.hosts["p1"]
    swarm.run(lambda: host.peer.round is not None and host.peer.round.number == 3)
    swarm.cut = lambda a, b, m: isinstance(m, Request) and m.hop == Hop.RESTORE
    homes = host.plans[3].homes
    count = len(homes.version)
    cells = tuple(homes.copies(index, ["p1"])[0] for index in range(count))
    assert host.peer.round is not None
    waits = host.peer.round.waiting_for()
    swarm.event("p1", found(cells, 3))
    assert host.peer.exchange.pulls.of_hop(Hop.RESTORE)
    assert host.peer.round.waiting_for() == waits
    swarm.run(lambda: host.peer.round is not None and host.peer.round.number == 4)
    assert not host.peer.exchange.pulls.of_hop(Hop.RESTORE)
    assert host.sealed[-1]["stale_ranges"] == 0


@pytest.mark.parametrize("asked", [b"", b"\0\0\0\0", b"\xff" * 40, b"\x01"])
def test_who_names_nothing_that_there_is_gets_nothing(asked: bytes) -> None:
    swarm, plan = at_the_end()
    effects = []
    request = Request(900, Hop.RESTORE.value, LAST, plan.digest, "", 0, 1 << 20, asked)
    swarm.watch = lambda name, what, mark: effects.append((name, what))
    swarm.event("p0", e.Received("p2", request))
    refused = [w.message for n, w in effects if n == "p0" and isinstance(w, e.Send)]
    assert refused == [Refusal(900, "plan")]


def test_what_was_named_is_sent_and_no_more() -> None:
    swarm, plan = at_the_end()
    all_cells = tuple(version > 0 for version in plan.homes.version)
    effects = []
    swarm.watch = lambda name, what, mark: effects.append((name, what))
    odd = tuple(
        mask & (np.indices(mask.shape).sum(axis=0) % 2 == 1) for mask in all_cells
    )
    asked = pack_cells(odd)
    request = Request(900, "restore", LAST, plan.digest, "", 0, 1 << 20, asked)
    swarm.event("p0", e.Received("p2", request))
    (start,) = [w for n, w in effects if n == "p0" and isinstance(w, e.SendStart)]
    sent = sum(w.size for _, w in effects if isinstance(w, e.SendChunk))
    sizes = (cell_elements(plan.layout, each) for each in plan.layout.signatures)
    named = sum(int(s[mask].sum()) for s, mask in zip(sizes, odd, strict=True))
    assert start.stream.asked == asked and sent == 4 * named > 0
    assert sent == swarm._size(swarm.hosts["p0"], start.stream)[0]
