"""Evictions and rosters: majorities of observers, epoch by epoch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.limits import KEPT_ROSTERS
from p2pfusion.protocol.fold import Fold, Stay, Words, is_most
from p2pfusion.protocol.messages import NEVER
from p2pfusion.protocol.observers import circle, neighbours, place

SWARM = "s"


def watching(peers: set[str], peer: str) -> set[str]:
    return set(neighbours(circle(SWARM, peers), (place(SWARM, peer), peer)))


def slow(
    stays: dict[str, Stay], words: Words, last: int
) -> tuple[list[set[str]], dict[str, int]]:
    """Every epoch's roster from the one before, one epoch at a time."""
    rosters: list[set[str]] = []
    evicted: dict[str, int] = {}
    for epoch in range(last + 1):
        before = rosters[-1] if rosters else set()
        new: dict[str, int] = {}
        for peer in words.keys() - evicted.keys():
            said = {by: since for by, since in words[peer].items() if since <= epoch}
            back = {by for by in said if by in stays and is_former(stays[by], said[by])}
            observers = watching(before | back, peer)
            if 2 * len(observers & said.keys()) > len(observers):
                new[peer] = epoch
        evicted |= new
        rosters.append(
            {
                peer
                for peer, stay in stays.items()
                if stay.from_epoch <= epoch < stay.until_epoch
                and not (peer in evicted and evicted[peer] <= epoch)
            }
        )
    return rosters, evicted


def is_former(stay: Stay, epoch: int) -> bool:
    return epoch < stay.from_epoch < stay.until_epoch


LAST = 12


@st.composite
def swarms(draw: st.DrawFn, most: int = 7) -> tuple[dict[str, Stay], Words]:
    """Peers that come and go, and accusations that count against their stays."""
    peers = [f"p{n}" for n in range(draw(st.integers(1, most)))]
    begins = st.sampled_from([0, 0, 0, 0, 2, 5, 9])
    ends = st.sampled_from([NEVER, NEVER, NEVER, 4, 8])
    stays = {peer: Stay(draw(begins), draw(ends)) for peer in peers}
    words: dict[str, dict[str, int]] = {}
    for peer in draw(st.lists(st.sampled_from(peers), max_size=3, unique=True)):
        others = [other for other in peers if other != peer]
        for by in (
            draw(st.lists(st.sampled_from(others), unique=True)) if others else []
        ):
            epoch = stays[peer].from_epoch + draw(st.integers(0, 6))
            words.setdefault(peer, {})[by] = epoch
    return stays, words


def check(stays: dict[str, Stay], words: Words) -> None:
    fold = Fold(SWARM, stays, words)
    rosters, evicted = slow(stays, words, LAST)
    for epoch, expected in enumerate(rosters):
        assert set(fold.present(epoch)) == expected, epoch
        ranks = [(stays[peer].from_epoch, peer) for peer in fold.present(epoch)]
        assert ranks == sorted(ranks)
        for peer in stays:
            assert set(fold.observers(peer, epoch)) == watching(expected, peer)
    for peer, epoch in fold.evicted.items():
        assert epoch > LAST or evicted[peer] == epoch
    for peer, epoch in evicted.items():
        # Who is out by its own word cannot be put out.
        assert fold.evicted.get(peer) == epoch or epoch >= stays[peer].until_epoch


@given(swarms())
def test_rosters_are_what_the_slow_obvious_version_says(
    swarm: tuple[dict[str, Stay], Words],
) -> None:
    check(*swarm)


@given(swarms(most=30), st.randoms(use_true_random=False))
def test_so_are_those_of_swarms_in_which_not_everybody_watches_everybody(
    swarm: tuple[dict[str, Stay], Words], random
) -> None:
    stays, words = swarm
    victims = random.sample(sorted(stays), min(3, len(stays)))
    for victim in victims:
        near = sorted(watching(set(stays), victim))
        some = random.sample(near, random.randint(0, len(near)))
        begin = stays[victim].from_epoch
        words = {**words, victim: {by: begin + random.randint(0, 4) for by in some}}
    check(stays, words)


# --- Majorities ----------------------------------------------------------------------

MAJORITIES = [
    # How many members, how many accuse one of them, and whether that puts it out.
    *((1, 0, False), (2, 0, False), (2, 1, True)),
    *((3, 1, False), (3, 2, True)),
    *((4, 1, False), (4, 2, True)),
    *((5, 1, False), (5, 2, False), (5, 3, True)),
    *((17, 8, False), (17, 9, True)),
    *((18, 8, False), (18, 9, True), (100, 8, False), (100, 9, True)),
]


@pytest.mark.parametrize(("members", "accusers", "expected"), MAJORITIES)
def test_more_than_half_of_the_observers_put_somebody_out(
    members: int, accusers: int, expected: bool
) -> None:
    peers = {f"p{n}" for n in range(members)}
    by = sorted(watching(peers, "p0"))[:accusers]
    stays = dict.fromkeys(peers, Stay(0))
    fold = Fold(SWARM, stays, {"p0": dict.fromkeys(by, 3)} if by else {})
    assert ("p0" in fold.present(2)) and ("p0" in fold.present(3)) is not expected
    assert fold.evicted == ({"p0": 3} if expected else {})


def test_of_many_only_the_observers_count() -> None:
    peers = {f"p{n}" for n in range(100)}
    others = sorted(peers - {"p0"} - watching(peers, "p0"))
    fold = Fold(SWARM, dict.fromkeys(peers, Stay(0)), {"p0": dict.fromkeys(others, 3)})
    assert fold.evicted == {}


def test_half_is_not_most() -> None:
    assert not is_most(0, 0) and not is_most(1, 2) and is_most(2, 3)


# --- Over time -----------------------------------------------------------------------


def of(*peers: str, **stays: Stay) -> dict[str, Stay]:
    return {**dict.fromkeys(peers, Stay(0)), **stays}


def test_a_word_counts_from_its_epoch_and_the_latest_of_a_majority_decides() -> None:
    fold = Fold(SWARM, of(*"abcde"), {"e": {"a": 3, "b": 7, "c": 5}})
    assert fold.evicted == {"e": 7}
    assert "e" in fold.present(6) and "e" not in fold.present(7)


def test_who_is_out_observes_nobody_from_the_next_epoch_on() -> None:
    words = {"e": dict.fromkeys("abc", 3), "d": {"a": 3, "e": 4}}
    assert Fold(SWARM, of(*"abcde"), words).evicted == {"e": 3}, "1 of 3 that are in"
    words["d"]["b"] = 4
    assert Fold(SWARM, of(*"abcde"), words).evicted == {"e": 3, "d": 4}


def test_two_at_once_are_judged_by_the_roster_before_both() -> None:
    words = {"d": dict.fromkeys("abe", 3), "e": dict.fromkeys("abd", 3)}
    assert Fold(SWARM, of(*"abcde"), words).evicted == {"d": 3, "e": 3}


def test_a_minority_becomes_a_majority_when_the_others_leave() -> None:
    stays = of(*"abe", c=Stay(0, 5), d=Stay(0, 5))
    fold = Fold(SWARM, stays, {"e": {"a": 3, "b": 3}})
    assert fold.evicted == {"e": 6}, "the observers of an epoch are of the one before"


def test_an_accusers_word_outlives_its_own_return() -> None:
    """b has helped to put d out, was put out itself, and comes back: d does not."""
    words = {"d": {"a": 3, "b": 3}}
    assert Fold(SWARM, of(*"abcd"), words).evicted == {"d": 3}
    assert Fold(SWARM, of(*"acd", b=Stay(9)), words).evicted == {"d": 3}
    said_since = {"d": {"a": 3, "b": 10}}
    assert Fold(SWARM, of(*"acd", b=Stay(9)), said_since).evicted == {"d": 10}


def test_who_was_never_in_for_an_epoch_is_in_no_roster() -> None:
    fold = Fold(
        SWARM, of("a", "b", c=Stay(5, 5), d=Stay(7, 3)), {"b": {"a": 2, "c": 2}}
    )
    assert all(not {"c", "d"} & set(fold.present(epoch)) for epoch in range(9))
    assert fold.evicted == {"b": 2}, "a alone is all its observers"


def test_an_epoch_that_never_comes_evicts_nobody() -> None:
    fold = Fold(SWARM, of("a", "b", c=Stay(NEVER)), {"b": {"a": NEVER}})
    assert fold.evicted == {} and fold.present(NEVER - 1) == ("a", "b")


def test_few_rosters_are_remembered() -> None:
    fold = Fold(SWARM, of("a", "b"), {})
    for epoch in range(3 * KEPT_ROSTERS):
        assert fold.present(epoch) == ("a", "b") and fold.observers("a", epoch) == (
            "b",
        )
        assert len(fold._present) <= KEPT_ROSTERS and len(fold._circles) <= KEPT_ROSTERS


# --- Kept up to date -----------------------------------------------------------------


@given(swarms(most=24), st.data())
def test_a_fold_that_is_kept_up_to_date_is_that_of_all_that_is_known(
    swarm: tuple[dict[str, Stay], Words], data: st.DataObject
) -> None:
    """Whatever was asked in between, and whatever was said before."""
    stays, words = swarm
    fold, known = Fold(SWARM), dict[str, Stay]()
    said: dict[str, dict[str, int]] = {}
    peers = sorted(stays)
    for peer in data.draw(st.permutations(peers)):
        fold.stays(peer, stays[peer])
    known.update(stays)
    news = [(p, by, since) for p, each in words.items() for by, since in each.items()]
    epochs = st.integers(0, LAST)
    for victim in data.draw(st.lists(st.sampled_from(peers), max_size=4)):
        near = sorted(watching(set(stays), victim))
        news += [(victim, by, data.draw(epochs)) for by in near]
    rosters = [fold.present(epoch) for epoch in range(LAST)]
    for peer, by, from_epoch in data.draw(st.permutations(news)):
        kind = data.draw(st.sampled_from(["said", "said", "said", "unsaid", "stay"]))
        if kind == "said":
            said[peer] = {**said.get(peer, {}), by: from_epoch}
        elif kind == "unsaid":
            said[peer] = {}
        else:
            begin = data.draw(epochs)
            known[peer] = Stay(begin, data.draw(st.sampled_from([begin + 3, NEVER])))
        since = fold.stays(peer, known[peer])
        since = min(since, fold.accused(peer, said.get(peer, {})))
        assert rosters[:since] == [fold.present(e) for e in range(min(since, LAST))]
        anew = Fold(SWARM, known, {p: each for p, each in said.items() if each})
        rosters = [anew.present(epoch) for epoch in range(LAST)]
        if data.draw(st.booleans()) or since == NEVER:
            assert fold.evicted == anew.evicted
            for epoch in range(LAST):
                assert fold.present(epoch) == anew.present(epoch)
                assert fold.observers(peer, epoch) == anew.observers(peer, epoch)


def test_too_few_accusers_are_no_news_of_rosters_and_neither_are_those_after() -> None:
    peers = {f"p{n}" for n in range(100)}
    by = sorted(watching(peers, "p0"))
    fold = Fold(SWARM, dict.fromkeys(peers, Stay(0)))
    changes = [fold.accused("p0", dict.fromkeys(by[:n], 3)) for n in range(1, 9)]
    assert changes == [NEVER] * 8 and fold.evicted == {}
    assert fold.accused("p0", dict.fromkeys(by[:9], 3)) == 3
    assert fold.evicted == {"p0": 3}
    later = dict.fromkeys(by[:9], 3) | dict.fromkeys(by[9:], 4)
    assert fold.accused("p0", later) == NEVER and fold.evicted == {"p0": 3}
    assert fold.accused("p0", {}) == 3 and fold.evicted == {}


def test_rosters_of_epochs_before_a_change_are_kept_as_they_are() -> None:
    fold = Fold(SWARM, {f"p{n}": Stay(0) for n in range(4)})
    rosters = [fold.present(epoch) for epoch in range(8)]
    assert fold.stays("new", Stay(6)) == 6
    assert all(fold.present(epoch) is rosters[epoch] for epoch in range(6))
    assert fold.present(6) == (*rosters[6], "new")
    assert fold.stays("p1", Stay(0, 4)) == 4
    assert all(fold.present(epoch) is rosters[epoch] for epoch in range(4))
    assert fold.accused("p2", dict.fromkeys(("p0", "p1", "p3"), 3)) == 3
    assert fold.present(2) is rosters[2] and "p2" not in fold.present(3)
    assert fold.stays("late", Stay(7)) == 0, "its own words may be from a former stay"
