"""Averages that come a round late: who trains ahead, when, and what comes of it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from p2pfusion.errors import ConfigError
from p2pfusion.methods import build_method
from p2pfusion.protocol import events as e
from p2pfusion.protocol.delay import LOOKED_AT, check_delay, stays
from p2pfusion.protocol.manifest import Manifest
from tests.protocol.stage import small_layout, small_manifest
from tests.protocol.swarm import Swarm, started

ROUNDS = 6
STAYS: dict[str, object] = {"method": "fedavg", "method_arguments": {}}


def late(count: int = 3, **changes: object) -> Swarm:
    """Peers whose splits never move; training takes one second."""
    told = {**STAYS, "delay": 1, "rounds": ROUNDS, "deadline_min_s": 5.0, **changes}
    return started(count, fraction="1", **told)


class Watched:
    """When each peer began to train a round, and when it sealed one."""

    def __init__(self, swarm: Swarm) -> None:
        self.begun: dict[tuple[str, int], tuple[float, bool]] = {}
        self.sealed: dict[tuple[str, int], float] = {}

        def watch(name: str, what: e.Event | e.Effect, mark: str) -> None:
            if isinstance(what, e.StartTraining):
                self.begun[name, what.round_index] = swarm.now, what.goes_on
            elif isinstance(what, e.Seal):
                self.sealed[name, what.next_round - 1] = swarm.now

        swarm.watch = watch


def test_the_next_round_is_trained_while_one_is_exchanged() -> None:
    swarm = late()
    watched = Watched(swarm)
    swarm.run_until_done()
    for name in swarm.hosts:
        assert watched.begun[name, 0][1] is False
        for number in range(1, ROUNDS):
            at, goes_on = watched.begun[name, number]
            assert goes_on and at < watched.sealed[name, number - 1]
        assert swarm.hosts[name].trained == list(range(ROUNDS))


def test_everybody_contributes_to_every_round_and_none_takes_longer() -> None:
    took = {}
    for delay in (0, 1):
        swarm = late(delay=delay)
        swarm.network.jitter_s = 0.3
        swarm.run_until_done()
        took[delay] = swarm.now
        for host in swarm.hosts.values():
            assert [d["contributors"] for d in host.sealed] == [
                sorted(swarm.hosts)
            ] * ROUNDS
    # Without the delay a round lasts for its training and its exchange, with it for
    # the longer of the two.
    assert took[1] < took[0] - 0.3 * (ROUNDS - 1)


def test_nobody_is_more_than_one_round_ahead() -> None:
    """A peer that has trained two rounds waits until the first is sealed."""
    swarm = late()
    swarm.hosts["p2"].training_s = 2.5
    watched = Watched(swarm)
    swarm.run_until_done()
    for name in swarm.hosts:
        for number in range(2, ROUNDS):
            assert watched.begun[name, number][0] >= watched.sealed[name, number - 2]


def test_a_split_that_moves_is_trained_when_its_values_are_here() -> None:
    arguments = {"shift": "blocks", "start": "dense", "dwell": 3}
    swarm = started(4, rounds=9, delay=1, method="msfusion", method_arguments=arguments)
    watched = Watched(swarm)
    swarm.run_until_done()
    for name, host in swarm.hosts.items():
        for before, number in pairwise(range(9)):
            at, goes_on = watched.begun[name, number]
            assert goes_on is (number % 3 > 0)
            assert goes_on is (host.splits[before] == host.splits[number])
            assert goes_on is (at < watched.sealed[name, before])


def test_what_fails_ahead_is_missing_from_its_round_alone() -> None:
    swarm = late()
    host = swarm.hosts["p1"]
    finished: list[int] = []
    given = swarm.event

    def event(name: str, what: e.Event) -> None:
        if name == "p1" and isinstance(what, e.TrainingFinished):
            finished.append(what.round_index)
            if what.round_index == 2:
                assert host.peer.round is not None and host.peer.round.number == 1
                what = e.TrainingFailed(2, "out of memory")
        given(name, what)

    swarm.event = event  # type: ignore[method-assign]
    swarm.hosts["p2"].training_s = 1.5  # so that p1 is done while round 1 goes on
    swarm.run_until_done()
    assert finished == list(range(ROUNDS))
    for number, details in enumerate(swarm.hosts["p0"].sealed):
        assert ("p1" in details["contributors"]) is (number != 2)
    assert host.sealed[2]["missing"] == [{"peer": "p1", "reason": "out of memory"}]


def test_who_was_away_offers_what_it_had_trained_ahead_where_it_comes_back() -> None:
    """Its round went on without it: what it gave there counts later, with less
    weight."""
    swarm = late(4, max_staleness=3, rounds=12)
    swarm.hosts["p3"].training_s = 9.0
    swarm.run_until_done()
    slow = swarm.hosts["p3"]
    assert slow.offered_late
    assert all(number > base for number, base in slow.offered_late.items())
    assert len(set(slow.trained)) == len(slow.trained)


def test_a_peer_that_restarts_trains_its_round_anew() -> None:
    swarm = late(4, rounds=10)
    swarm.run(lambda: len(swarm.hosts["p1"].sealed) == 3)
    swarm.kill("p1")
    swarm.run_to(swarm.now + 0.1)
    swarm.restart("p1")
    swarm.run_until_done()
    assert swarm.hosts["p1"].sealed[-1]["round"] == 9
    assert "p1" in swarm.hosts["p0"].sealed[-1]["contributors"]


# --- Where it can be -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wire_dtype": "int8"}, "changes"),
        ({"method": "msfusion", "method_arguments": {"dwell": 1}}, "no split stays"),
        ({"method": "federated-dropout"}, "no split stays"),
        ({"delay": 2}, "from 0 to 1"),
        ({"delay": -1}, "from 0 to 1"),
    ],
)
def test_a_swarm_where_it_means_nothing_is_refused(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        small_manifest(**{**STAYS, "delay": 1, **changes})


def test_what_compares_with_the_averages_needs_them_in_time() -> None:
    method, layout = build_method("fedavg", {}), small_layout()
    with pytest.raises(ConfigError, match="compares with what a peer received"):
        check_delay(method, layout, "contrastive", "values")


def test_a_manifest_without_delay_has_the_bytes_of_before() -> None:
    plain = small_manifest(**STAYS)
    assert b"delay" not in plain.to_bytes().replace(b"staleness", b"")
    delayed = small_manifest(**STAYS, delay=1)
    assert delayed.swarm_id != plain.swarm_id
    assert Manifest.from_bytes(delayed.to_bytes()) == delayed


@pytest.mark.parametrize(
    ("method", "arguments", "stay"),
    [
        ("heterofl", {}, True),
        ("fedrolex", {}, False),
        ("msfusion", {"dwell": 0}, True),
        ("msfusion", {"dwell": LOOKED_AT - 1}, True),
        ("msfusion", {"shift": "tied", "start": "dense", "dwell": 2}, True),
        ("msfusion", {"shift": "skewed", "start": "dense"}, False),
    ],
)
def test_methods_whose_splits_stay(
    method: str, arguments: dict[str, object], stay: bool
) -> None:
    assert stays(build_method(method, arguments), small_layout()) is stay
