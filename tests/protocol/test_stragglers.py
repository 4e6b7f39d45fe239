"""Who is too slow for the others again and again is not waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.protocol.attendance import Attendance
from p2pfusion.protocol.lateness import Lateness, Pace
from p2pfusion.protocol.messages import NEVER, Offer
from p2pfusion.protocol.stragglers import TOO_SLOW_ROUNDS, Stragglers
from p2pfusion.protocol.stream import StreamKey
from p2pfusion.protocol.transfer import Pull
from p2pfusion.split.plan import Hop
from tests.protocol.swarm import Swarm, started

ROUND_S, WAIT_S, ROUNDS = 10.0, 2.0, 40


def offer(number: int, samples: int = 5, late: int = 0) -> Offer:
    base = number - late if late else NEVER
    return Offer(number, bytes(16), samples, 1.0, 1.0, 1.0, base)


# --- The rule ------------------------------------------------------------------------

Said = tuple[float, int, int] | None
"""How long after the others, with how many samples, how many rounds late."""

saids = st.none() | st.tuples(
    st.sampled_from([-1.0, 0.0, 1.0, 3.0]), st.sampled_from([0, 5]), st.integers(0, 3)
)


def slow(history: list[Said], staleness: int, number: int) -> bool:
    """Whether nobody waits in a round, from all rounds before it."""
    times, offered_in = 0, -1
    for round_index, said in enumerate(history):
        after_s, samples, late = said or (float("inf"), 0, 0)
        late = min(late, round_index, staleness)
        was_late = after_s > 0
        if samples:
            offered_in = round_index
            was_late = late > 0 and after_s + late * ROUND_S > WAIT_S
        if was_late:
            times += 1
        elif samples:
            times = 0
    last_chance = number in (offered_in + 1 + staleness, ROUNDS - 1)
    return times >= TOO_SLOW_ROUNDS and not last_chance


@given(st.lists(saids, max_size=20), st.integers(1, 4))
def test_a_straggler_is_what_the_slow_obvious_version_says(
    history: list[Said], staleness: int
) -> None:
    stragglers = Stragglers(staleness, ROUNDS, 0.0)
    for number, said in enumerate(history):
        half_at, seen = ROUND_S * number, None
        if said is not None:
            late = min(said[2], number, staleness)
            seen = half_at + said[0], offer(number, said[1], late)
        stragglers.sealed(number, half_at, WAIT_S, {"p": seen, "q": None}, own=False)
        for later in (number + 1, number + 2, number + staleness, ROUNDS - 1):
            known = slow(history[: number + 1], staleness, later)
            assert ("p" in stragglers.in_round(later)) is known


def test_without_staleness_everybody_is_waited_for() -> None:
    stragglers = Stragglers(0, ROUNDS, 0.0)
    for number in range(10):
        stragglers.sealed(number, 0.0, WAIT_S, {"p": None}, own=False)
    assert not stragglers.in_round(10)


# --- What it means for a round -------------------------------------------------------


def pace(*slow_ones: str) -> Pace:
    """Of one for whom these are stragglers in round 5."""
    lateness = Lateness(minimum_s=WAIT_S, maximum_s=50.0, mads=0.0)
    lateness.note(0.0)
    found = Pace(lateness, 4, True, 1.0, Stragglers(3, ROUNDS, WAIT_S))
    for number in range(5):
        late = dict.fromkeys(slow_ones)
        found.stragglers.sealed(number, 0.0, WAIT_S, late, own=False)
    return found


def contribution(source: str) -> Pull:
    key = StreamKey(Hop.CONTRIBUTION.value, 5, source, "a")
    return Pull(1, key, bytes(16), 100, 0.0)


def test_a_straggler_is_given_up_with_the_last_offer_of_the_others() -> None:
    for slow_ones in ((), ("d",)):
        round_ = Attendance(
            pace(*slow_ones), {"b", "c", "d"}, True, 0.0, me="a", number=5
        )
        round_.own(10.0, trained=True)
        round_.offered("b", offer(5), 11.0)
        assert round_.due(contribution("d")) == 10.0 + 50.0
        round_.offered("c", offer(5), 11.5)
        assert round_.due(contribution("d")) == (11.5 if slow_ones else 11.5 + WAIT_S)
        why = round_.why(contribution("d"))
        assert why == (
            "slow: too late for 5 rounds in a row, not waited for"
            if slow_ones
            else "slow: no offer within 2.0 s"
        )
        round_.offered("d", offer(5), 11.7)
        assert round_.due(contribution("d")) == 11.5 + 50.0, "it came all the same"


def test_nobody_is_given_up_for_a_straggler_before_those_who_are_waited_for() -> None:
    round_ = Attendance(pace("d"), {"b", "c", "d", "e"}, True, 0.0, me="a", number=5)
    round_.own(10.0, trained=True)
    round_.offered("b", offer(5), 10.5)
    round_.offered("c", offer(5), 11.0)
    for peer in ("d", "e"):
        assert round_.due(contribution(peer)) == 11.0 + WAIT_S


def test_a_straggler_gives_itself_up_when_all_others_have_offered() -> None:
    for me in ("a", "d"):
        round_ = Attendance(pace("d"), {"b", "c"}, True, 0.0, me=me, number=5)
        round_.offered("b", offer(5), 11.0)
        assert round_.given_up_at() is None
        round_.offered("c", offer(5), 11.5)
        assert round_.given_up_at() == (11.5 if me == "d" else 11.5 + WAIT_S)


@pytest.mark.parametrize("what", ["nothing", "at once", "in vain", "at last"])
def test_only_who_was_waited_for_was_too_late(what: str) -> None:
    """Values may be here before their offer, and whose trainer starts says so soon."""
    paced = pace()
    for number in range(5, 9):
        round_ = Attendance(paced, {"b", "c", "d"}, True, 0.0, me="a", number=number)
        round_.own(10.0, trained=True)
        round_.offered("b", offer(number), 10.5)
        round_.offered("c", offer(number), 10.6)
        if what == "in vain":
            round_.given_up(contribution("d"), 10.6 + WAIT_S)
        elif what != "nothing":
            at = 10.7 if what == "at once" else 10.6 + WAIT_S
            round_.offered("d", offer(number, samples=0), at)
        round_.sealed(offer(number))
    slow_ones = {"d"} if what in ("in vain", "at last") else set[str]()
    assert paced.stragglers.in_round(10) == slow_ones


# --- Swarms --------------------------------------------------------------------------


def with_slow_peer(training_s: float, count: int = 4, **changes: object) -> Swarm:
    """Peers of which the last takes so long to train where the others take a second."""
    swarm = started(count, rounds=24, **changes)
    swarm.hosts[f"p{count - 1}"].training_s = training_s
    return swarm


@pytest.mark.parametrize("training_s", [3.0, 5.0, 8.0, 40.0])
def test_rounds_take_as_long_as_the_others_need(training_s: float) -> None:
    swarm = with_slow_peer(training_s)
    swarm.run_until_done()
    *rows, _ = swarm.hosts["p0"].sealed
    held_up = [row for row in rows if row["seconds"] > 1.1]
    counted = [row["round"] for row in rows if "p3" in row["contributors"]]
    # Once it is known, only for what would be lost otherwise, and in vain only once.
    in_vain = [r for r in held_up if r["round"] > 6 and r["round"] not in counted]
    assert len(in_vain) <= 1
    assert bool(counted) is (training_s < 10.0)
    for row in rows[8:]:
        if row["round"] not in counted and row not in held_up:
            (missing,) = row["missing"]
            assert missing["peer"] == "p3"
            assert missing["reason"].endswith("rounds in a row, not waited for")


def test_what_a_straggler_trains_counts_as_often_as_it_is_ready() -> None:
    swarm = with_slow_peer(3.0)
    swarm.run_until_done()
    rows = swarm.hosts["p0"].sealed
    seconds = sum(row["seconds"] for row in rows)
    counted = sum("p3" in row["contributors"] for row in rows)
    assert counted >= seconds / 3.0 - 2


@pytest.mark.parametrize("training_s", [1.0, 1.3])
def test_who_is_fast_enough_again_is_waited_for_again(training_s: float) -> None:
    swarm = with_slow_peer(5.0)
    swarm.run(lambda: swarm.hosts["p0"].peer.course.round_index == 10)
    assert swarm.hosts["p0"].peer.course.pace.stragglers.in_round(11)
    swarm.hosts["p3"].training_s = training_s
    swarm.run_until_done()
    for host in swarm.hosts.values():
        for row in host.sealed[18:]:
            assert len(row["contributors"]) == 4 and not row["missing"]
            late = [o["base_round"] < row["round"] for o in row["offers"].values()]
            assert not any(late)


def test_of_two_the_slow_one_knows_itself_that_it_is() -> None:
    swarm = with_slow_peer(5.0, count=2)
    swarm.run_until_done()
    *rows, _ = swarm.hosts["p0"].sealed
    assert sum(row["seconds"] > 1.1 for row in rows) < len(rows) / 3
    assert any("p1" in row["contributors"] for row in rows[8:])
