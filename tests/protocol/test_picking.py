"""Choosing a few of many: always the same ones, all of them equally often."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.protocol.picking import pick


@given(st.sets(st.text(max_size=3), max_size=9), st.integers(0, 9), st.text())
def test_the_chosen_are_some_of_them(peers: set[str], count: int, salt: str) -> None:
    chosen = pick(sorted(peers), count, salt)
    assert len(chosen) == len(set(chosen)) == min(count, len(peers))
    assert set(chosen) <= peers and chosen == pick(sorted(peers), count, salt)


def test_everybody_is_chosen_about_equally_often() -> None:
    peers = [f"p{number}" for number in range(100)]
    counts = Counter(x for turn in range(2_000) for x in pick(peers, 3, f"{turn}"))
    assert len(counts) == 100 and max(counts.values()) < 2 * 60
