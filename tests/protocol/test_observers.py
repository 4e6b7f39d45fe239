"""Who watches whom: drawn by hashes, mutual, and few of many."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.limits import OBSERVERS
from p2pfusion.protocol.observers import (
    AROUND,
    circle,
    distance,
    neighbours,
    observed,
    place,
)

names = st.sets(st.integers(0, 500).map(lambda n: f"p{n}"), min_size=1, max_size=60)


def watching(peers: set[str], peer: str, swarm: str = "s") -> tuple[str, ...]:
    return neighbours(circle(swarm, peers), (place(swarm, peer), peer))


def slow(peers: set[str], peer: str) -> set[str]:
    """Walking round the circle from a peer, one step after another, both ways."""
    others = peers - {peer}
    if len(others) <= OBSERVERS:
        return others
    here = (place("s", peer), peer)
    spots = sorted((place("s", other), other) for other in others)
    after = [s for s in spots if s > here] + [s for s in spots if s < here]
    half = OBSERVERS // 2
    return {other for _, other in [*after[:half], *after[::-1][:half]]}


@given(names, st.integers(0, 500).map(lambda n: f"p{n}"))
def test_observers_are_what_the_slow_obvious_version_says(
    peers: set[str], anybody: str
) -> None:
    for peer in (*sorted(peers)[:5], anybody):
        found = watching(peers, peer)
        assert len(found) == len(set(found)) == min(OBSERVERS, len(peers - {peer}))
        assert set(found) == slow(peers, peer)


@given(names)
def test_whoever_is_watched_watches_back(peers: set[str]) -> None:
    by = {peer: set(watching(peers, peer)) for peer in peers}
    for peer, observers in by.items():
        assert all(peer in by[other] for other in observers)


@given(names, names)
def test_of_another_roster_those_are_watched_whose_observers_one_is(
    peers: set[str], others: set[str]
) -> None:
    around, theirs = circle("s", peers), circle("s", others)
    by = {other: watching(peers, other) for other in others}
    for peer in (*sorted(peers)[:20], "nobody"):
        found = observed(around, theirs, (place("s", peer), peer))
        assert len(found) == len(set(found))
        assert set(found) == {other for other in others if peer in by[other]}


def test_all_others_watch_while_they_are_few() -> None:
    for count, watched_by in ((1, 0), (2, 1), (3, 2), (17, 16), (18, 16), (400, 16)):
        peers = {f"p{number}" for number in range(count)}
        assert len(watching(peers, "p0")) == watched_by


def test_neighbours_of_one_swarm_are_not_those_of_another() -> None:
    peers = {f"p{number}" for number in range(200)}
    same = set(watching(peers, "p0", "s")) & set(watching(peers, "p0", "t"))
    assert len(same) < OBSERVERS // 2


def test_who_comes_changes_only_its_neighbours_observers() -> None:
    peers = {f"p{number}" for number in range(300)}
    changed = [
        peer
        for peer in peers
        if set(watching(peers, peer)) != set(watching(peers | {"new"}, peer))
    ]
    assert set(changed) == set(watching(peers | {"new"}, "new"))


def test_places_spread_evenly() -> None:
    counts = Counter(place("s", f"p{n}") * 8 // AROUND for n in range(4_000))
    assert len(counts) == 8 and min(counts.values()) > 400


@given(st.integers(0, AROUND - 1), st.integers(0, AROUND - 1))
def test_distance_is_the_shorter_way_round(one: int, other: int) -> None:
    found = distance(one, other)
    assert found == distance(other, one) <= AROUND // 2
    assert (one + found) % AROUND == other or (other + found) % AROUND == one
