"""The tree over what an offer gives: every leaf has a proof, nothing else has one."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from p2pfusion.limits import MAX_ROSTER
from p2pfusion.protocol.merkle import (
    EMPTY,
    HASH_BYTES,
    MAX_PROOF_BYTES,
    holds,
    leaf,
    proof,
    root,
)

some = st.lists(st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES), min_size=1)


@given(some, st.data())
def test_every_leaf_has_a_proof(leaves: list[bytes], data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(leaves) - 1))
    shown = proof(leaves, position)
    assert holds(root(leaves), leaves[position], shown)
    assert len(shown) <= MAX_PROOF_BYTES


@given(some, st.data(), st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES))
def test_nothing_else_has_one(
    leaves: list[bytes], data: st.DataObject, other: bytes
) -> None:
    """Neither another leaf with a good proof, nor a good leaf with a changed one."""
    position = data.draw(st.integers(0, len(leaves) - 1))
    shown = proof(leaves, position)
    if other != leaves[position]:
        assert not holds(root(leaves), other, shown)
    changed = data.draw(st.binary(max_size=len(shown) + HASH_BYTES))
    assume(changed != shown)
    assert not holds(root(leaves), leaves[position], changed)


def test_the_largest_swarm_fits_the_longest_proof() -> None:
    leaves = [leaf(f"p{number}", bytes(32)) for number in range(MAX_ROSTER)]
    for position in (0, 1, MAX_ROSTER - 1):
        shown = proof(leaves, position)
        assert len(shown) == MAX_PROOF_BYTES
        assert holds(root(leaves), leaves[position], shown)


def test_a_leaf_says_for_whom_it_is() -> None:
    """What one reducer gets proves nothing to another; names cannot be shifted."""
    assert leaf("p1", b"x" * 32) != leaf("p2", b"x" * 32)
    assert leaf("p1", b"2" + b"x" * 31) != leaf("p12", b"x" * 31)


def test_no_leaves_have_a_root_that_nothing_leads_to() -> None:
    assert root([]) == EMPTY
    assert not holds(EMPTY, leaf("p1", bytes(32)), b"")
