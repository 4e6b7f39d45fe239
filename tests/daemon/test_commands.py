"""What a running peer answers, and when: one alone, turned by hand."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from p2pfusion.daemon.commands import MAX_TIMEOUT_S
from p2pfusion.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    WaitTimeoutError,
)
from p2pfusion.protocol.manifest import Manifest
from tests.daemon.running import ALONE, Running, running

DATA = {"kind": "digits", "validation": 0.2}


@pytest.fixture(scope="module")
def alone() -> Iterator[Running]:
    """A swarm of one that has trained all of its rounds."""
    with running(data=DATA, swarm=ALONE) as made:
        made.ask("wait", **{"for": "done"})
        yield made


@pytest.fixture(scope="module")
def nobody() -> Iterator[Running]:
    """A peer without a swarm."""
    with running(data=DATA) as made:
        yield made


# --- Waiting -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "condition", ["joined", "peers=1", "peers=0", "round=2", "done"]
)
def test_a_condition_that_holds_is_answered_at_once(
    alone: Running, condition: str
) -> None:
    found = alone.ask("wait", **{"for": condition})
    assert found == {"reached": condition, "round": 2}


@pytest.mark.parametrize("condition", ["peers=2", "round=3", "peers=" + "9" * 40])
def test_a_wait_that_is_too_long_says_what_it_waited_for(
    alone: Running, condition: str
) -> None:
    with pytest.raises(WaitTimeoutError, match=f"^{condition} did not come"):
        alone.ask("wait", **{"for": condition}, limit_s=0.05)


def test_who_has_no_swarm_says_so(nobody: Running) -> None:
    for condition in ("joined", "done", "round=0"):
        with pytest.raises(WaitTimeoutError, match="you: an address to join"):
            nobody.ask("wait", **{"for": condition}, limit_s=0.01)
    for command in ("plan", "export"):
        with pytest.raises(NotFoundError, match="no swarm yet"):
            nobody.ask(command, path="/tmp/model.safetensors")


NONSENSE = ("tea", "peers", "peers=", "peers=-1", "round=1.5", "done=1", "joined=")


@pytest.mark.parametrize("condition", ["", *NONSENSE])
def test_a_condition_that_means_nothing_is_refused(
    alone: Running, condition: str
) -> None:
    with pytest.raises(ConfigError):
        alone.ask("wait", **{"for": condition})


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), 1e300, "1", True, [1]]
)
@pytest.mark.parametrize(("command", "key"), [("wait", "limit_s"), ("rounds", "count")])
def test_a_number_that_is_none_is_refused(
    alone: Running, command: str, key: str, value: object
) -> None:
    with pytest.raises(ConfigError, match=key):
        alone.ask(command, **{"for": "peers=9", key: value})


def test_a_client_that_hangs_up_is_forgotten(alone: Running) -> None:
    with pytest.raises(WaitTimeoutError):
        # The client gives up first: the daemon would have waited for a month.
        long_s = 2 * MAX_TIMEOUT_S
        alone.ask("wait", **{"for": "peers=9"}, limit_s=long_s, timeout_s=0.05)
    alone.ask("status")
    assert alone.node.commands.deadline() == float("inf")


# --- Questions -----------------------------------------------------------------------


def test_the_plan_is_enough_to_split_offline(alone: Running) -> None:
    found = alone.ask("plan")
    manifest = Manifest.from_bytes(base64.b64decode(str(found["manifest"])))
    assert manifest == alone.node.peer.manifest
    assert found["swarm_id"] == manifest.swarm_id and found["round"] == 2
    me = alone.node.peer.gossip.me
    assert found["roster"] == [{"peer": me, "name": "me", "split_fraction": "1/2"}]


def test_rounds_come_oldest_first_and_no_more_than_asked(alone: Running) -> None:
    def numbers(**arguments: object) -> list[object]:
        rows = alone.ask("rounds", **arguments)["rounds"]
        assert isinstance(rows, list)
        return [row["number"] for row in rows]

    assert numbers() == numbers(count=9) == [0, 1]
    assert numbers(count=1) == numbers(count=0) == numbers(count=-4) == [1]


def test_an_unknown_command_is_refused(alone: Running) -> None:
    with pytest.raises(NotFoundError, match="'dance'"):
        alone.ask("dance")


def test_a_member_cannot_join_again(alone: Running) -> None:
    with pytest.raises(ConflictError, match="'alone'"):
        alone.ask("join", address="127.0.0.1:1")
