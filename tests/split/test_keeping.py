"""Keeping what nobody contributes to, against sets of single coordinates."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.split.grid import mask_segments
from p2pfusion.split.keeping import Cells, cells_to_keep, held_by, keepers
from p2pfusion.split.plan import ExchangePlan, Hop
from tests.split.histories import (
    Coordinate,
    History,
    coordinates,
    current,
    histories,
    last_plan,
)

slow = settings(max_examples=30)


def in_cells(plan: ExchangePlan, cells: Cells) -> set[Coordinate]:
    """The coordinates of masks over the grids; () stands for none."""
    if not cells:
        return set()
    pairs = zip(plan.layout.signatures, cells, strict=True)
    return coordinates(
        segment
        for signature, mask in pairs
        for segment in mask_segments(plan.layout, signature, mask)
    )


def newest_at(plan: ExchangePlan, peer: str) -> set[Coordinate]:
    """What a peer has newest, by the table."""
    masks = tuple(
        plan.homes.copies(index, [peer])[0]
        for index in range(len(plan.layout.signatures))
    )
    return in_cells(plan, masks)


@slow
@given(histories(round_count=4), st.data())
def test_what_nobody_contributed_is_asked_of_those_who_have_it(
    history: History, data: st.DataObject
) -> None:
    plan = last_plan(history)
    if not plan.peers:
        return
    reducer = data.draw(st.sampled_from(plan.peers))
    instead_of = data.draw(st.sampled_from(["", *plan.peers]))
    came = set(data.draw(st.lists(st.sampled_from(plan.peers)))) - {reducer}
    has_own = data.draw(st.booleans())
    cells = cells_to_keep(
        plan, reducer, instead_of=instead_of, came=came, has_own=has_own
    )
    ids = plan.reduced_by(reducer, instead_of=instead_of or None).tolist()
    bare = coordinates(plan.segments(ids))
    for source in came | ({reducer} if has_own else set()):
        bare -= current(history, source)
    versions = tuple(version > 0 for version in plan.homes.version)
    bare &= in_cells(plan, versions)
    assert in_cells(plan, cells) == bare - newest_at(plan, reducer)
    among = set(data.draw(st.lists(st.sampled_from(plan.peers)))) - {reducer}
    chosen = keepers(plan, cells, among)
    assert len(set(chosen)) == len(chosen) and set(chosen) <= among
    anywhere = set().union(*(newest_at(plan, peer) for peer in among))
    given_by = set()
    for source in chosen:
        part = in_cells(plan, held_by(plan.homes, cells, source))
        ends = {"source": source, "target": reducer}
        stream = plan.stream(Hop.KEEP, **ends, instead_of=instead_of or None)
        assert part and part <= coordinates(stream)
        given_by |= part
    assert given_by == in_cells(plan, cells) & anywhere
