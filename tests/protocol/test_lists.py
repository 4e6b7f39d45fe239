"""Rounds that close with a list, in whole swarms: who closes, and what counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.protocol import events as e
from p2pfusion.protocol import messages as m
from p2pfusion.protocol.listed_round import NOT_LISTED, TAKEOVER_S, ListedRound
from p2pfusion.protocol.statements import sign_closing
from p2pfusion.protocol.waiting import waiting_for
from tests.methods.toy import SHARING, toy_methods
from tests.protocol.names import NamedKey
from tests.protocol.stage import Host
from tests.protocol.swarm import Swarm, small_manifest

FOREVER = 1e6


@pytest.fixture(autouse=True, scope="module")
def toys() -> Iterator[None]:
    """Manifests may name the toy method."""
    with toy_methods():
        yield


def swarm_of(count: int, *, least: int = 0, **changes: object) -> Swarm:
    """A swarm that closes rounds with so many updates; p0 trains everything."""
    changes = {"rounds": 6, "network": "local", "max_staleness": 3, **changes}
    arguments = {"least": least}
    manifest = small_manifest(
        method=SHARING, method_arguments=arguments, min_peers=count, **changes
    )
    swarm = Swarm(manifest)
    for number in range(count):
        fraction = "1/2" if number else "1"
        swarm.add(f"p{number}", fraction=fraction, training_s=1.0 + number / 10)
    swarm.found("p0")
    for number in range(1, count):
        swarm.join(f"p{number}", by="p0")
    return swarm


def alive(swarm: Swarm) -> list[Host]:
    return [host for host in swarm.hosts.values() if host.alive]


def listed(host: Host, number: int) -> ListedRound:
    round_ = host.peer.exchange.rounds[number]
    assert isinstance(round_, ListedRound)
    return round_


def everybody_in(swarm: Swarm, number: int) -> None:
    swarm.run(lambda: all(number in h.peer.exchange.rounds for h in alive(swarm)))


def contributors(swarm: Swarm) -> list[list[str]]:
    """By round, as everybody says."""
    said = [[row["contributors"] for row in host.sealed] for host in alive(swarm)]
    assert all(each == said[0] for each in said)
    return said[0]


def shares(swarm: Swarm, number: int) -> dict[str, float]:
    """Of a round's contributions, the same at all who have fused them."""
    found: dict[str, set[float]] = {}
    for host in swarm.hosts.values():
        for (of_round, source), weights in host.weights.items():
            if of_round == number:
                found.setdefault(source, set()).update(weights)
    assert all(len(weights) == 1 for weights in found.values())
    return {source: weights.pop() for source, weights in found.items()}


# --- With everybody there ------------------------------------------------------------


def test_a_round_closes_with_the_first_and_later_updates_count_later() -> None:
    swarm = swarm_of(4, least=3)
    swarm.hosts["p3"].training_s = 3.3
    swarm.run_until_done()
    assert contributors(swarm)[:3] == [["p0", "p1", "p2"]] * 2 + [["p0", "p1", "p3"]]
    assert swarm.hosts["p3"].offered_late == {2: 0, 5: 3}
    assert swarm.hosts["p2"].offered_late == {3: 2}, "offered, but not among the first"
    fresh, late = shares(swarm, 0), shares(swarm, 2)
    assert set(fresh.values()) == {1 / 3}
    # Each of four reducers has moved 0.5 in round 0; of round 1 those that were ready
    # in round 2 have said so.
    assert late["p1"] / late["p3"] == pytest.approx(1.0 + 4 * 0.5 + 3 * 0.5)
    for number in range(6):
        assert sum(shares(swarm, number).values()) <= 1.0 + 1e-9
    report = swarm.hosts["p0"].sealed[0]
    assert report["missing"] == [{"peer": "p3", "reason": NOT_LISTED}]
    assert report["shares"] == dict.fromkeys(["p0", "p1", "p2"], 1 / 3)
    assert report["closed_by"] in swarm.hosts
    assert not any(host.reported("too-slow") for host in alive(swarm))


def test_a_synchronous_swarm_counts_everybody() -> None:
    swarm = swarm_of(3, least=3)
    swarm.run_until_done()
    assert contributors(swarm) == [["p0", "p1", "p2"]] * 6
    assert all(not host.offered_late for host in alive(swarm))


@pytest.mark.parametrize("count", [1, 2])
def test_small_swarms_close_their_rounds(count: int) -> None:
    swarm = swarm_of(count)
    swarm.run_until_done()
    assert all(contributors(swarm))


def test_a_trainer_that_fails_is_not_waited_for() -> None:
    swarm = swarm_of(3, least=3)
    swarm.run(lambda: swarm.hosts["p1"].training == 0)
    swarm.event("p1", e.TrainingFailed(0, "out of memory"))
    swarm.run(lambda: bool(swarm.hosts["p0"].sealed))
    assert swarm.hosts["p0"].sealed[0]["contributors"] == ["p0", "p2"]
    assert swarm.now < 2.0


def test_who_trains_for_ever_is_given_up_after_the_deadline() -> None:
    swarm = swarm_of(3, least=3, rounds=2)
    swarm.hosts["p2"].training_s = FOREVER
    swarm.run_until_done()
    assert contributors(swarm)[:2] == [["p0", "p1"]] * 2


def test_people_are_told_whose_list_a_round_waits_for() -> None:
    swarm = swarm_of(3, least=3)
    swarm.hosts["p2"].training_s = FOREVER
    everybody_in(swarm, 0)
    swarm.run(lambda: len(listed(swarm.hosts["p0"], 0).offers) == 1)
    closer = listed(swarm.hosts["p0"], 0).closer()
    for name, host in swarm.hosts.items():
        waits = waiting_for(host.peer, swarm.now)
        if name == closer:
            assert waits["p2" if name != "p2" else "p1"] == "its offer"
        else:
            assert waits[closer].endswith("the closing list of round 0")


# --- Without somebody ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["p0", "p1", "p2", "p3"])
def test_any_peer_can_die(name: str) -> None:
    for at_s, least in ((0.5, 0), (1.13, 0), (1.15, 4)):
        swarm = swarm_of(4, least=least, rounds=2)
        swarm.run_to(at_s)
        swarm.kill(name)
        swarm.run_until_done(limit_s=200.0)
        assert all(host.sealed[-1]["round"] == 1 for host in alive(swarm))


@pytest.mark.parametrize("name", ["p0", "p1", "p2"])
def test_who_restarts_finds_its_way_back(name: str) -> None:
    swarm = swarm_of(3)
    swarm.run_to(1.15)
    swarm.kill(name)
    swarm.run_to(2.4)
    swarm.restart(name)
    swarm.run_until_done()
    assert all(host.peer.standing.value == "done" for host in alive(swarm))


def test_the_next_in_rank_takes_over_where_the_closer_says_nothing() -> None:
    swarm = swarm_of(4)
    everybody_in(swarm, 0)
    first, second, *_ = listed(swarm.hosts["p0"], 0).ranked
    swarm.cut = lambda a, b, message: (
        a == first and isinstance(message, m.SignedClosing)
    )
    others = [host for host in alive(swarm) if host.name != first]
    swarm.run(lambda: all(listed(host, 0).listing for host in others))
    assert {listed(host, 0).closed_by for host in others} == {second}
    assert swarm.now > 1.1 + TAKEOVER_S
    assert listed(swarm.hosts[first], 0).closed_by == first, "its own came first"
    swarm.run_until_done()


def test_a_list_that_was_lost_comes_with_the_next_request() -> None:
    swarm = swarm_of(4)
    everybody_in(swarm, 0)
    closer = listed(swarm.hosts["p0"], 0).ranked[0]
    victim = next(name for name in swarm.hosts if name != closer)
    lost: list[str] = []

    def cut(sender: str, target: str, message: m.Message) -> bool:
        if target != victim or not isinstance(message, m.SignedClosing) or lost:
            return False
        lost.append(sender)
        return True

    swarm.cut = cut
    swarm.run(lambda: bool(listed(swarm.hosts[victim], 0).listing))
    assert lost == [closer]
    assert listed(swarm.hosts[victim], 0).closed_by == closer
    swarm.run_until_done()


# --- Lists that should not be --------------------------------------------------------


def forged(
    swarm: Swarm, by: str, *, round_index: int = 0, **changes: object
) -> m.SignedClosing:
    """A list by whoever it is; empty unless it is told otherwise."""
    digest = swarm.hosts["p0"].plans[0].digest
    values: dict[str, object] = {"entries": (), "distances": (0.0,), **changes}
    said = m.ClosingList(round_index, digest, **values)  # type: ignore[arg-type]
    return m.SignedClosing(sign_closing(swarm.manifest.swarm_id, said, NamedKey(by)))


def test_a_list_out_of_turn_waits_for_those_before_it() -> None:
    swarm = swarm_of(4)
    everybody_in(swarm, 0)
    first, *_, last = listed(swarm.hosts["p0"], 0).ranked
    for host in alive(swarm):
        swarm.event(host.name, e.Received(last, forged(swarm, last)))
        assert listed(host, 0).listing is None
    swarm.run(lambda: all(listed(host, 0).listing for host in alive(swarm)))
    assert {listed(host, 0).closed_by for host in alive(swarm)} == {first}
    swarm.run_until_done()
    assert len(contributors(swarm)[0]) == 2


def test_the_first_list_that_was_taken_counts() -> None:
    swarm = swarm_of(4)
    everybody_in(swarm, 0)
    first, second, *_ = listed(swarm.hosts["p0"], 0).ranked
    victim = next(host for host in alive(swarm) if host.name not in (first, second))
    swarm.event(victim.name, e.Received(first, forged(swarm, first)))
    assert listed(victim, 0).closed_by == first and not listed(victim, 0).shares
    swarm.event(victim.name, e.Received(second, forged(swarm, second)))
    swarm.run_until_done()
    assert victim.sealed[0]["contributors"] == []


@pytest.mark.parametrize(
    ("by", "changes", "reason"),
    [
        ("p9", {}, "no member"),
        ("p1", {"entries": (m.ClosingEntry(9, bytes(8), 0, 1.0, 1.0),)}, "order"),
        ("p1", {"distances": (1.0,)}, "fresh"),
    ],
)
def test_a_list_that_cannot_be_is_an_error_of_its_sender(
    by: str, changes: dict[str, object], reason: str
) -> None:
    swarm = swarm_of(3)
    everybody_in(swarm, 0)
    swarm.event("p0", e.Received("p1", forged(swarm, by, **changes)))
    (report,) = swarm.hosts["p0"].reported("protocol-error")
    assert reason in str(report.details["reason"])
    assert listed(swarm.hosts["p0"], 0).listing is None


def test_a_list_that_came_early_is_looked_at_when_its_round_begins() -> None:
    swarm = swarm_of(3)
    everybody_in(swarm, 0)
    wrong = forged(swarm, "p1", round_index=1, distances=(2.0,))
    far = forged(swarm, "p1", round_index=4)
    for early in (wrong, far):
        swarm.event("p0", e.Received("p1", early))
    assert not swarm.hosts["p0"].reported("protocol-error")
    swarm.run_until_done()
    assert all(contributors(swarm))


attacks = st.tuples(
    st.floats(0.0, 1.0),
    st.sampled_from(["p0", "p1", "p2"]),
    st.sampled_from(["p0", "p1", "p2", "p9"]),
    st.integers(0, 8),
    st.lists(
        st.builds(
            m.ClosingEntry,
            *(st.integers(0, 3), st.just(bytes(8)), st.integers(0, 4)),
            *(st.floats(0.0, 1e300), st.floats(-1.0, 2.0)),
        ),
        max_size=3,
    ),
    st.lists(st.floats(0.0, 1e300), max_size=4),
)


@settings(max_examples=8)
@given(st.lists(attacks, max_size=12))
def test_no_list_from_anybody_is_too_much(story: list[tuple]) -> None:
    swarm = swarm_of(3)
    everybody_in(swarm, 0)
    for pause, victim, by, number, entries, distances in story:
        swarm.run_to(swarm.now + pause)
        there = {"entries": tuple(entries), "distances": (0.0, *distances)}
        message = forged(swarm, by, round_index=number, **there)
        round_ = swarm.hosts[victim].peer.round
        if round_ is not None and number % 2:  # one that fits the victim's plan
            said = m.ClosingList(round_.number, round_.plan.digest, *there.values())  # type: ignore[arg-type]
            signed = sign_closing(swarm.manifest.swarm_id, said, NamedKey(by))
            message = m.SignedClosing(signed)
        sender = "p1" if victim != "p1" else "p2"
        swarm.event(victim, e.Received(sender, message))
    swarm.run_until_done(limit_s=400.0)
