"""Masked contributions: what reducers see, what they can compute, and what they cannot.

The slow version knows no masks: for every range it takes the mean of whoever
contributed, if that are enough.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from p2pfusion.daemon.masking import Hiding, Masks, Opening
from p2pfusion.fusion import MeanChange
from p2pfusion.fusion.ring import scale_for, to_ring
from p2pfusion.security.masks import add_mask
from p2pfusion.split.groups import FEWEST, groups, pack_missing
from p2pfusion.split.plan import ExchangePlan, Hop
from tests.split.histories import all_held_by
from tests.split.test_groups import plans

Floats = NDArray[np.float32]
STEP = 2.0**-21
"""Half a step of the ring for any number of holders here, and float32's rounding."""


def pair(one: str) -> Callable[[str], bytes]:
    """Secrets that two peers share and nobody else has."""
    return lambda other: hashlib.sha256(
        "+".join(sorted((one, other))).encode()
    ).digest()


@dataclass
class Table:
    """Everybody's masks and changes in one round, range by range."""

    plan: ExchangePlan
    policy: str = "withhold"
    masks: dict[str, Masks] = field(init=False)
    changes: dict[str, list[Floats]] = field(init=False)

    def __post_init__(self) -> None:
        self.masks = {p: Masks(self.policy, pair(p)) for p in self.plan.peers}
        random = np.random.default_rng(7)
        self.changes = {
            peer: [
                random.uniform(-1, 1, size).astype(np.float32)
                for size in self.plan.range_sizes.tolist()
            ]
            for peer in self.plan.peers
        }

    def values(self, peer: str, ids: NDArray[np.int64]) -> Floats:
        """A peer's changes of some ranges, one after the other."""
        none = np.zeros(0, np.float32)
        return np.concatenate([none, *(self.changes[peer][i] for i in ids.tolist())])

    def hiding(self, source: str, reducer: str) -> Hiding:
        """A holder's side."""
        return Hiding(self.plan, source, reducer, "", self.masks[source])

    def contribution(self, source: str, reducer: str) -> NDArray[np.uint32]:
        """What the reducer receives."""
        ids = self.plan.ranges(Hop.CONTRIBUTION, source=source, target=reducer)
        return self.hiding(source, reducer).hidden(self.values(source, ids))

    def fused(
        self,
        reducer: str,
        *,
        lost: frozenset[str] = frozenset(),
        silent: frozenset[str] = frozenset(),
    ) -> MeanChange:
        """What a reducer makes of it: of ``lost`` nothing came, of ``silent`` the
        contribution did and the seeds did not."""
        plan = self.plan
        opening = Opening(plan, reducer, "", self.masks[reducer])
        opening.own = reducer not in lost
        sources = set(plan.sources(Hop.CONTRIBUTION, reducer)) - lost
        for source in sorted(sources):
            opening.came(source, self.contribution(source, reducer))
        there = {*sources, *([reducer] if opening.own else [])}
        asked = pack_missing(plan, set(plan.peers) - there)
        for source in sorted(sources - silent):
            opening.told(source, asked, self.hiding(source, reducer).seeds(asked))
        total = MeanChange(plan.range_sizes[plan.reduced_by(reducer)])
        opening.fuse(total, lambda ids: self.values(reducer, ids))
        zeros = np.zeros(len(total.sums), np.float32)
        total.begin(np.arange(len(plan.reduced_by(reducer))), zeros)
        total.close()
        return total

    def assert_true(
        self, reducer: str, total: MeanChange, lost: frozenset[str] = frozenset()
    ) -> int:
        """Compares with the slow version; how many ranges were fused."""
        plan, start, count = self.plan, 0, 0
        for at, number in enumerate(plan.reduced_by(reducer).tolist()):
            holders = [p for i, p in enumerate(plan.peers) if plan.holders[i, number]]
            came = [peer for peer in holders if peer not in lost]
            small = len(holders) < FEWEST
            opens = self.policy == "clear" if small else len(came) >= FEWEST
            size = int(plan.range_sizes[number])
            found = total.result[start : start + size]
            start += size
            if not (opens and came):
                assert total.absent[at] and not found.any()
                continue
            count += 1
            mean = np.mean([self.changes[peer][number] for peer in came], axis=0)
            assert not total.absent[at] and total.weights[at] == len(came)
            np.testing.assert_allclose(found, mean, rtol=0, atol=STEP)
        return count


def whole(count: int) -> ExchangePlan:
    """So many peers that hold all of a model of some thousand parameters."""
    return all_held_by(f"p{n}" for n in range(count))


@settings(max_examples=40)
@given(plans(), st.sampled_from(["withhold", "clear"]), st.data())
def test_sums_are_those_of_whoever_contributed(
    plan: ExchangePlan, policy: str, data: st.DataObject
) -> None:
    table = Table(plan, policy)
    lost = frozenset(data.draw(st.sets(st.sampled_from(plan.peers))))
    for reducer in plan.peers:
        table.assert_true(reducer, table.fused(reducer, lost=lost), lost)


@pytest.mark.parametrize("lost", [(), ("p1",), ("p0",), ("p1", "p3"), ("p0", "p1")])
def test_of_five_one_or_two_may_drop_out(lost: tuple[str, ...]) -> None:
    table = Table(whole(5))
    for reducer in table.plan.peers:
        total = table.fused(reducer, lost=frozenset(lost))
        count = table.assert_true(reducer, total, frozenset(lost))
        assert count == len(table.plan.reduced_by(reducer))


def test_of_four_two_may_not() -> None:
    table = Table(whole(4))
    total = table.fused("p0", lost=frozenset({"p1", "p2"}))
    assert total.absent.all()
    assert (
        not table.hiding("p3", "p0").seeds(pack_missing(table.plan, ["p1", "p2"])).any()
    )


def test_who_has_contributed_and_is_silent_keeps_its_groups_shut() -> None:
    table = Table(whole(5))
    assert table.fused("p0", silent=frozenset({"p1"})).absent.all()
    # Where nobody hides there is nothing to open.
    clear = Table(whole(2), "clear")
    assert not clear.fused("p0", silent=frozenset({"p1"})).absent.any()


def test_masks_that_do_not_cancel_are_noticed() -> None:
    """As when a peer has another key than another one knows of."""
    table = Table(whole(4))
    table.masks["p2"] = Masks(
        "withhold", lambda other: hashlib.sha256(other.encode()).digest()
    )
    assert table.fused("p0").absent.all()


# --- What a reducer sees -------------------------------------------------------------


def test_captured_values_look_like_chance() -> None:
    table = Table(whole(4))
    captured, plain = [], []
    for reducer in table.plan.peers:
        for source in table.plan.sources(Hop.CONTRIBUTION, reducer):
            ids = table.plan.ranges(Hop.CONTRIBUTION, source=source, target=reducer)
            captured.append(table.contribution(source, reducer))
            plain.append(to_ring(table.values(source, ids), scale_for(4)))
    masked, values = np.concatenate(captured), np.concatenate(plain)
    assert (masked != values).mean() > 0.999
    for place in range(4):  # each byte of a number
        counts = np.bincount(masked.view(np.uint8)[place::4], minlength=256)
        expected = masked.size / 256
        # Of 255 degrees of freedom: 400 is more than six deviations away.
        assert ((counts - expected) ** 2 / expected).sum() < 400
    signed = masked.view(np.int32).astype(np.float64)
    assert abs(np.corrcoef(signed, values.view(np.int32))[0, 1]) < 5 / masked.size**0.5
    # Without masks the same tests find the changes at once.
    top = np.bincount(values.view(np.uint8)[3::4], minlength=256)
    assert ((top - expected) ** 2 / expected).sum() > 1000


def test_one_key_missing_is_as_good_as_all() -> None:
    """With all seeds but one of those that hide a contribution it stays hidden."""
    table = Table(whole(4))
    source, reducer = table.plan.sources(Hop.CONTRIBUTION, "p0")[0], "p0"
    seen = table.contribution(source, reducer)
    hiding = table.hiding(source, reducer)
    ids = table.plan.ranges(Hop.CONTRIBUTION, source=source, target=reducer)
    values = to_ring(table.values(source, ids), scale_for(4))
    (group,) = groups(table.plan, reducer)
    others = [p for p in group.hiders(0) if table.plan.peers[p] != source]
    me = table.plan.peers.index(source)
    for left in others:
        opened = seen.copy()
        add_mask(opened, hiding._own_seed(0), sign=-1)
        for other in others:
            if other != left:
                add_mask(
                    opened, hiding._pair_seed(0, other), sign=-1 if me < other else 1
                )
        assert (opened != values).mean() > 0.99


def test_a_stream_that_begins_again_has_the_same_bytes() -> None:
    table = Table(whole(4))
    secrets = iter([b"a" * 32, b"b" * 32, b"c" * 32, b"d" * 32, b"e" * 32])
    masks = Masks("withhold", lambda other: next(secrets))
    hiding = Hiding(table.plan, "p1", "p0", "", masks)
    ids = table.plan.ranges(Hop.CONTRIBUTION, source="p1", target="p0")
    values = table.values("p1", ids)
    np.testing.assert_array_equal(hiding.hidden(values), hiding.hidden(values))


def test_another_reducer_or_backup_gets_other_masks() -> None:
    table = Table(whole(4))
    plan, masks = table.plan, table.masks["p1"]
    (group,) = groups(plan, "p0")
    found = {
        Hiding(plan, "p1", "p0", instead_of, masks)._pair_seed(0, 2)
        for instead_of in ("", "p2", "p3")
    }
    found.add(Hiding(plan, "p1", "p3", "", masks)._pair_seed(0, 2))
    assert len(found) == 4 and len(group.holders) == 4


def test_seeds_of_those_who_are_there_are_never_told() -> None:
    table = Table(whole(5))
    hiding = table.hiding("p1", "p0")
    rows = hiding.seeds(pack_missing(table.plan, ["p3"])).reshape(-1, 8)
    told = [row.tobytes() for row in rows]
    (group,) = groups(table.plan, "p0")
    shared = {p: hiding._pair_seed(0, p) for p in group.hiders(0) if p != 1}
    assert [p for p, seed in shared.items() if seed in told] == [3]
