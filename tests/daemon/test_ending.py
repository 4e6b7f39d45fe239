"""How a daemon ends: at once, or politely."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p2pfusion.daemon.ending import Ending
from p2pfusion.protocol.events import Tick
from tests.daemon.running import ALONE, Running, running


@pytest.fixture
def busy() -> Iterator[Running]:
    """A swarm of one in a round that does not end while we look."""
    swarm = {**ALONE, "rounds": 3, "local_epochs": 10_000}
    with running(data={"kind": "digits"}, swarm=swarm) as made:
        made.ask("wait", **{"for": "round=0"})
        yield made


def ending(made: Running) -> Ending:
    return made.node.ending


def turn(made: Running) -> None:
    made.node.handle(Tick())
    made.node._turn(made.wake)


def test_told_to_stop_it_stops(busy: Running) -> None:
    busy.ask("stop")
    assert ending(busy).is_now and ending(busy).error is None


def test_who_asks_again_does_not_wait(busy: Running) -> None:
    ending(busy).ask(1_000.0)
    turn(busy)
    assert not ending(busy).is_now
    state = busy.ask("status")["state"]
    assert isinstance(state, dict) and state["code"] == "draining"
    ending(busy).ask()
    assert ending(busy).is_now


def test_a_round_that_takes_too_long_is_abandoned(busy: Running) -> None:
    busy.ask("stop", drain_s=0.3)
    busy.turn_until(lambda: ending(busy).is_now)
    kinds = [event["kind"] for event in busy.node.chronicle.since(0)]
    assert kinds[-1] == "draining"


def test_a_round_that_ends_in_time_is_sealed_first() -> None:
    with running(data={"kind": "digits"}, swarm={**ALONE, "rounds": 400}) as made:
        made.ask("wait", **{"for": "round=1"})
        ending(made).ask(60.0)
        sealed = len(made.node.history.rounds(1_000))
        made.turn_until(lambda: ending(made).is_now)
        # One may end before the request is taken up; then the next is let end.
        assert 1 <= len(made.node.history.rounds(1_000)) - sealed <= 2


def test_who_has_nothing_to_finish_stops_at_once() -> None:
    with running() as made:
        ending(made).ask(1_000.0)
        turn(made)
        assert ending(made).is_now
