"""What is asked about leaving and recovering, and what would be lost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.daemon.departures import only_copies
from p2pfusion.errors import ConflictError, DeniedError, NotFoundError
from p2pfusion.split.homes import Homes
from tests.daemon.running import Running, running, turn_all, two_running
from tests.protocol.stage import small_layout

LAYOUT = small_layout()
PEERS = ("a", "b", "c")


@st.composite
def tables(draw: st.DrawFn) -> Homes:
    """Versions and copies of a small model, at random."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    empty = Homes.initial(LAYOUT).with_peers(PEERS)
    return Homes(
        PEERS,
        tuple(random.integers(0, 3, v.shape).astype(np.int32) for v in empty.version),
        empty.home,
        tuple(random.random(mask.shape) < 0.5 for mask in empty.newest),
    )


@given(tables(), st.sets(st.sampled_from([*PEERS, "never-there"])))
def test_what_only_some_have_is_counted_cell_by_cell(
    homes: Homes, lost: set[str]
) -> None:
    count = 0
    for index, signature in enumerate(LAYOUT.signatures):
        size = sum(LAYOUT.parameters[p].size for p in signature.parameters)
        cells = homes.version[index].size
        for place in np.ndindex(homes.version[index].shape):
            mask = homes.newest[index][(slice(None), *place)]
            owners = {p for p, has in zip(PEERS, mask, strict=True) if has}
            if homes.version[index][place] and owners and owners <= lost:
                count += size // cells
    assert only_copies(homes, LAYOUT, sorted(lost)) == count


def test_without_a_table_nothing_is_known() -> None:
    assert only_copies(None, LAYOUT, ["a"]) is None


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Running, Running]]:
    """Two nodes of one swarm, in round 0; the first one founded it."""
    with two_running() as nodes:
        yield nodes


def test_only_an_admin_declares_peers_lost(pair: tuple[Running, Running]) -> None:
    with pytest.raises(DeniedError, match="only an admin"):
        pair[1].ask("recover", dry_run=True)


def test_what_recovering_would_cost_is_said_and_nothing_done(
    pair: tuple[Running, Running],
) -> None:
    me, other = (each.node.peer.gossip.me for each in pair)
    with pytest.raises(ConflictError, match="nobody is to be declared lost"):
        pair[0].ask("recover", dry_run=True)
    found = pair[0].ask("recover", dry_run=True, peers=[other[:9]])
    assert [each["id"] for each in found["lost"]] == [other]  # type: ignore[attr-defined]
    assert found["staying"] == 1 and found["parameters_lost"] == 0
    assert not pair[0].node.peer.gossip.facts.lost
    with pytest.raises(ConflictError, match="this is you"):
        pair[0].ask("recover", dry_run=True, peers=[me])


def test_who_leaves_is_told_when_it_has_left_and_may_come_back(
    pair: tuple[Running, Running],
) -> None:
    first, second = pair
    ticket_future = first.begin("invite-create")
    turn_all(pair, ticket_future.done)
    ticket = ticket_future.result()["ticket"]  # type: ignore[index]
    assert second.ask("leave", dry_run=True)["members"] == 2
    told: list[object] = []
    future = second.begin("leave", on_event=told.append)
    turn_all(pair, future.done)
    assert future.result()["leave_epoch"] > 0 and told  # type: ignore[index]
    state = second.ask("status")["state"]
    assert isinstance(state, dict) and state["code"] == "left"
    joined = second.begin("join", address=ticket)
    turn_all(pair, joined.done)
    back = joined.result()["member_from_epoch"]  # type: ignore[index]
    turn_all(pair, lambda: second.node.peer.standing.value == "running")
    assert first.node.peer.gossip.epoch(first.node.now()) >= back - 1


def test_who_is_in_no_swarm_cannot_leave_one() -> None:
    with running() as made:
        for command in ("leave", "recover"):
            with pytest.raises(NotFoundError, match="no swarm"):
                made.ask(command)
