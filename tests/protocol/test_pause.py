"""Partitions: who goes on, who stands still, and how they find each other again."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.methods.base import Member
from p2pfusion.protocol import events as e
from p2pfusion.protocol.course import ALONE_AFTER_S, Standing
from p2pfusion.protocol.messages import Message
from p2pfusion.protocol.quorum import has_quorum
from p2pfusion.protocol.waiting import waiting_for
from tests.protocol.swarm import Swarm, started
from tests.protocol.test_peer import is_apart

NAMES = [f"p{number}" for number in range(6)]


def whole(a: str, b: str, message: Message) -> bool:
    """Nothing is lost."""
    return False


def numbers(swarm: Swarm, *names: str) -> list[int]:
    return [swarm.hosts[name].peer.course.round_index for name in names]


def standings(swarm: Swarm, *names: str) -> set[str]:
    return {swarm.hosts[name].peer.standing.value for name in names}


# --- Quorums -------------------------------------------------------------------------


@given(st.sets(st.sampled_from(NAMES)), st.integers(1, 6), st.integers(0, 3))
def test_of_two_parts_exactly_one_has_a_quorum(
    part: set[str], count: int, lost_count: int
) -> None:
    roster = [Member(name, 1) for name in NAMES[:count]]
    lost = set(NAMES[count - lost_count : count])
    there = {member.peer for member in roster} - lost
    rest = there - part
    quorums = [has_quorum(side, roster, lost) for side in (part & there, rest)]
    assert sum(quorums) == (1 if there else 2)


# --- Parts of a swarm ----------------------------------------------------------------


def parted(count: int, *apart: str, at: float = 5.2, **changes: object) -> Swarm:
    swarm = started(count, rounds=24, **changes)
    swarm.run_to(at)
    swarm.cut = is_apart(*apart)
    return swarm


@pytest.mark.parametrize("at", [5.02, 5.2, 5.6, 5.99, 6.01])
def test_the_majority_goes_on_and_the_minority_stands_still(at: float) -> None:
    swarm = parted(5, "p3", "p4", at=at)
    few, many = ("p3", "p4"), ("p0", "p1", "p2")
    stood = numbers(swarm, *few)
    swarm.run_to(20)
    assert min(numbers(swarm, *many)) > max(stood) + 3
    assert all(
        0 <= now - then <= 1
        for now, then in zip(numbers(swarm, *few), stood, strict=True)
    )
    assert standings(swarm, *few) == {"paused"}
    assert standings(swarm, *many) == {"running"}
    for name in few:
        host = swarm.hosts[name]
        assert waiting_for(host.peer, swarm.now) == dict.fromkeys(
            many, "no quorum: 2 of 5"
        )
        assert len(host.reported("paused")) == 1
        assert not host.sealed[-1]["missing"], "it has closed nothing for silence"


def test_after_a_partition_the_minority_catches_up_and_all_are_equal() -> None:
    swarm = parted(5, "p3", "p4")
    swarm.run_to(12)
    swarm.cut = whole
    swarm.run_until_done()
    tables = {host.homes[24].digest for host in swarm.hosts.values()}
    assert len(tables) == 1
    last = swarm.hosts["p0"].sealed[-1]
    assert last["contributors"] == sorted(swarm.hosts)
    reasons = [r.details["why"] for r in swarm.hosts["p3"].reported("catching-up")]
    assert reasons


def test_no_range_is_fused_twice_although_the_swarm_was_parted() -> None:
    swarm = parted(5, "p3", "p4")
    fused: dict[tuple[bytes, str], str] = {}

    def watch(name: str, what: e.Event | e.Effect, mark: str) -> None:
        if isinstance(what, e.CloseReduction):
            plan = swarm.hosts[name].plans[what.round_index]
            work = plan.digest, what.instead_of or name
            # A backup that also needs the range may do the work beside another.
            assert fused.setdefault(work, name) == name or what.instead_of

    swarm.watch = watch
    swarm.run_to(13)
    swarm.cut = whole
    swarm.run_until_done()
    assert fused


def test_of_two_halves_the_one_with_the_lowest_rank_goes_on() -> None:
    swarm = parted(4, "p0", "p3")
    swarm.run_to(18)
    assert standings(swarm, "p0", "p3") == {"running"}
    assert standings(swarm, "p1", "p2") == {"paused"}
    assert min(numbers(swarm, "p0", "p3")) > max(numbers(swarm, "p1", "p2")) + 3
    swarm.cut = whole
    swarm.run_until_done()
    assert swarm.hosts["p0"].sealed[-1]["contributors"] == ["p0", "p1", "p2", "p3"]


@pytest.mark.parametrize("killed", ["p0", "p1"])
def test_of_two_members_the_first_goes_on_alone(killed: str) -> None:
    swarm = started(2, rounds=8)
    swarm.run_to(2.5)
    swarm.kill(killed)
    (left,) = set(swarm.hosts) - {killed}
    swarm.run_to(30)
    standing = swarm.hosts[left].peer.standing
    assert standing is (Standing.DONE if left == "p0" else Standing.PAUSED)


def test_a_swarm_in_three_parts_waits_until_two_of_them_meet() -> None:
    swarm = started(5, rounds=24)
    swarm.run_to(5.2)
    parts = (("p0", "p1"), ("p2", "p3"), ("p4",))

    def cut(a: str, b: str, message: Message) -> bool:
        return all(not {a, b} <= set(part) for part in parts)

    swarm.cut = cut
    swarm.run_to(14)
    assert standings(swarm, *swarm.hosts) == {"paused"}
    stood = max(numbers(swarm, *swarm.hosts))
    parts = (("p0", "p1", "p2", "p3"), ("p4",))
    swarm.run_to(30)
    assert min(numbers(swarm, "p0", "p1", "p2", "p3")) > stood + 2
    swarm.cut = whole
    swarm.run_until_done()


def test_a_short_silence_of_most_changes_nothing() -> None:
    swarm = parted(4, "p3")
    swarm.run(lambda: bool(swarm.hosts["p3"].reported("peer-silent")))
    assert standings(swarm, "p3") == {"running"}
    swarm.cut = whole
    swarm.run_until_done()
    assert not swarm.hosts["p3"].reported("paused")


def test_by_fork_every_part_goes_on() -> None:
    swarm = parted(5, "p3", "p4", partition_policy="fork")
    swarm.run_to(20)
    assert standings(swarm, *swarm.hosts) == {"running"}
    assert min(numbers(swarm, "p3", "p4")) > 6


def test_the_last_round_needs_no_quorum() -> None:
    swarm = started(3, rounds=4)
    swarm.run(lambda: numbers(swarm, "p2") == [4])
    swarm.cut = is_apart("p2")
    swarm.run_until_done()
    assert not swarm.hosts["p2"].reported("paused")


# --- Restarts ------------------------------------------------------------------------


def test_after_a_restart_nobody_starts_without_a_quorum() -> None:
    swarm = started(3, rounds=8)
    swarm.run_to(2.5)
    for name in swarm.hosts:
        swarm.kill(name)
    swarm.run_to(4)
    swarm.restart("p1")
    swarm.run_to(60)
    host = swarm.hosts["p1"]
    assert not host.plans and host.peer.standing is Standing.PAUSED
    assert waiting_for(host.peer, swarm.now) == dict.fromkeys(
        ("p0", "p2"), "no quorum: 1 of 3"
    )
    swarm.restart("p2")
    back = swarm.now
    swarm.run(lambda: bool(host.plans) and bool(swarm.hosts["p2"].plans))
    assert swarm.now <= back + ALONE_AFTER_S + 1
    swarm.run_until_done()


def test_when_all_have_restarted_they_go_on_at_once() -> None:
    swarm = started(3, rounds=8)
    swarm.run_to(2.5)
    for name in swarm.hosts:
        swarm.kill(name)
    swarm.run_to(4)
    for name in list(swarm.hosts):
        swarm.restart(name)
    swarm.run(lambda: all(host.plans for host in swarm.hosts.values()))
    assert swarm.now < 4 + ALONE_AFTER_S
    swarm.run_until_done()
    for one, other in itertools.pairwise(swarm.hosts.values()):
        assert one.homes[8].digest == other.homes[8].digest
