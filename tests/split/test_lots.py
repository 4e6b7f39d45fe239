"""Lots: everybody knows the order, and nobody chooses it."""

from __future__ import annotations

import hashlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.split.lots import by_lot

PEERS = [f"peer-{number}" for number in range(8)]

peer_sets = st.sets(st.sampled_from(PEERS), min_size=1)


@given(st.integers(0, 2**63 - 1), st.integers(0, 1000), peer_sets)
def test_the_order_is_that_of_hashes_in_whatever_order_one_asks(
    seed: int, round_index: int, peers: set[str]
) -> None:
    def lot(peer: str) -> str:
        text = f"p2pfusion cook {seed} {round_index} {peer}"
        return hashlib.sha256(text.encode()).hexdigest()

    found = by_lot("cook", seed, round_index, peers)
    assert list(found) == sorted(peers, key=lot)
    assert by_lot("cook", seed, round_index, sorted(peers)) == found


@given(st.integers(0, 1000), peer_sets, peer_sets)
def test_who_is_missing_moves_nobody_else(
    round_index: int, peers: set[str], others: set[str]
) -> None:
    everybody = by_lot("cook", 3, round_index, peers | others)
    some = by_lot("cook", 3, round_index, peers)
    assert some == tuple(peer for peer in everybody if peer in peers)


def test_everybody_is_first_about_equally_often() -> None:
    rounds = 800
    firsts = Counter(by_lot("cook", 1, t, PEERS)[0] for t in range(rounds))
    assert set(firsts) == set(PEERS)
    assert max(firsts.values()) < 1.5 * rounds / len(PEERS)


def test_lots_for_different_things_have_nothing_in_common() -> None:
    def firsts(what: str) -> list[str]:
        return [by_lot(what, 1, t, PEERS)[0] for t in range(800)]

    same = sum(a == b for a, b in zip(firsts("cook"), firsts("guest"), strict=True))
    assert 60 < same < 140
