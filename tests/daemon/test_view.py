"""What the web page is told: the present, and the past after what it knows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p2pfusion.daemon.view import AT_ONCE
from p2pfusion.errors import ConfigError
from tests.daemon.running import ALONE, Running, running

DATA = {"kind": "digits", "validation": 0.2}
ROUNDS = AT_ONCE + 2


@pytest.fixture(scope="module")
def alone() -> Iterator[Running]:
    """A swarm of one that has trained all of its rounds."""
    swarm = {**ALONE, "rounds": ROUNDS, "local_steps": 1}
    with running(data=DATA, swarm=swarm) as made:
        made.ask("wait", **{"for": "done"})
        yield made


def numbers(rows: object) -> list[int]:
    assert isinstance(rows, list)
    return [row["number"] for row in rows]


def test_the_past_comes_in_instalments_and_each_part_once(alone: Running) -> None:
    first = alone.ask("view")
    assert first["at_once"] == AT_ONCE
    assert numbers(first["rounds"]) == numbers(first["windows"]) == [*range(AT_ONCE)]
    second = alone.ask("view", round=AT_ONCE - 1, window=AT_ONCE - 1)
    assert numbers(second["rounds"]) == [*range(AT_ONCE, ROUNDS)]
    # Each with its accuracy, though that is measured after the round is given away.
    rows = [*first["rounds"], *second["rounds"]]  # type: ignore[misc]
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    # After the last round is one more, in which everybody gets what it keeps.
    assert numbers(second["windows"])[:2] == [*range(AT_ONCE, ROUNDS)]
    newest = numbers(second["events"])[-1]
    third = alone.ask("view", round=ROUNDS, window=ROUNDS, event=newest)
    assert third["rounds"] == third["windows"] == third["events"] == []


def test_the_present_is_that_of_the_other_commands(alone: Running) -> None:
    view, peers = alone.ask("view"), alone.ask("peers")
    assert view["peers"] == peers["peers"]
    status = view["status"]
    assert isinstance(status, dict) and status.keys() == alone.ask("status").keys()
    assert view["axes"] == [{"name": "h1", "size": 16, "cell_size": 1}]
    (row, *_) = view["windows"]  # type: ignore[misc]
    ((peer, (cells,)),) = row["masks"].items()
    assert (peer, cells.bit_count()) == (status["self"]["id"], 8)  # half of them


def test_a_row_is_told_when_its_accuracy_is_known(alone: Running) -> None:
    history = alone.node.history
    history.measured_now = 3
    try:
        assert numbers(alone.ask("view")["rounds"]) == [0, 1, 2]
        assert len(alone.ask("rounds", count=ROUNDS)["rounds"]) == ROUNDS  # type: ignore[arg-type]
    finally:
        history.measured_now = None
    assert numbers(alone.ask("view", round=2)["rounds"])[0] == 3


def test_without_a_swarm_there_is_a_view_too() -> None:
    with running(data=DATA) as nobody:
        view = nobody.ask("view")
        assert view["axes"] == view["rounds"] == view["windows"] == []
        with pytest.raises(ConfigError, match="'round' is no number"):
            nobody.ask("view", round="x")
