"""Whom many small disagreements give away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.fusion.agreement import (
    DECAY,
    MIN_ELEMENTS,
    MIN_NOTES,
    MIN_PEERS,
    MIN_RECALLS,
    THRESHOLD,
    Agreement,
    Deviation,
)


def noted(rounds: int, **peers: tuple[float, float]) -> Agreement:
    """So many rounds in which everybody has the same cosine and length."""
    agreement = Agreement()
    for _ in range(rounds):
        for peer, (cosine, ratio) in peers.items():
            agreement.note(peer, Deviation(cosine, ratio, 100))
    return agreement


HONEST = {f"peer{n}": (0.6 + 0.05 * n, 1.0) for n in range(5)}


def test_who_differs_as_others_do_is_not_suspected() -> None:
    assert noted(50, **HONEST).suspects() == {}


@pytest.mark.parametrize(
    "lie", [(-0.9, 1.0), (0.0, 0.0), (0.7, 1000.0)], ids=["against", "nothing", "long"]
)
def test_liars_are_suspected_and_nobody_else(lie: tuple[float, float]) -> None:
    suspects = noted(MIN_NOTES, **HONEST, liar=lie).suspects()
    assert list(suspects) == ["liar"]
    assert suspects["liar"] > THRESHOLD


def recalled(rounds: int, elements: int, **news: float) -> Agreement:
    """Some who agree, and of what they say so much is new."""
    agreement = Agreement()
    for _ in range(rounds):
        for peer, share in news.items():
            told = Deviation(0.7, 1.0, 100, news=share, recalled=elements)
            agreement.note(peer, told)
    return agreement


FRESH = {"ann": 0.6, "bea": 0.3, "cid": 0.05, "dan": 0.1}
"""The third trains nearly the same again and again, but never the very same."""


@pytest.mark.parametrize("news", [0.0, 1e-9, 1e-6])
def test_who_repeats_itself_is_suspected_after_few_measurements(news: float) -> None:
    agreement = recalled(MIN_RECALLS, MIN_ELEMENTS, **FRESH, liar=news)
    assert list(agreement.suspects()) == ["liar"]


def test_that_takes_several_measurements_of_enough_elements() -> None:
    assert recalled(MIN_RECALLS - 1, 1000, **FRESH, liar=0.0).scores() == {}
    assert recalled(MIN_NOTES - 1, MIN_ELEMENTS - 1, **FRESH, liar=0.0).scores() == {}


def test_where_all_train_nearly_the_same_again_nobody_is_suspected() -> None:
    told = {f"peer{n}": 10.0**-n for n in range(3, 7)}
    assert recalled(50, 1000, **told).suspects() == {}


def test_short_changes_are_no_lie() -> None:
    """Who has little data takes few steps."""
    assert noted(50, **HONEST, small=(0.7, 0.001)).suspects() == {}


def test_nobody_is_judged_by_a_few_measurements() -> None:
    assert noted(MIN_NOTES - 1, **HONEST, liar=(-1.0, 1.0)).scores() == {}


def test_nobody_is_judged_by_a_few_elements() -> None:
    agreement = Agreement()
    for number in range(60):
        elements = MIN_ELEMENTS - 1 if number % 2 else MIN_ELEMENTS
        for peer, (cosine, ratio) in {**HONEST, "liar": (-1.0, 1.0)}.items():
            agreement.note(peer, Deviation(cosine, ratio, elements))
    assert agreement.scores() == {}


def test_nobody_is_judged_among_too_few() -> None:
    few = dict(list(HONEST.items())[: MIN_PEERS - 2])
    assert noted(50, **few, liar=(-1.0, 1.0)).scores() == {}


def test_who_is_not_there_any_more_is_nobody_to_be_compared_with() -> None:
    agreement = noted(MIN_NOTES, **HONEST, liar=(-1.0, 1.0))
    left = sorted(HONEST)[: MIN_PEERS - 2]
    assert agreement.suspects([*left, "peer4", "liar"]).keys() == {"liar"}
    assert agreement.suspects([*left, "liar"]) == {}
    assert agreement.suspects(HONEST) == {}


def test_what_is_long_past_is_forgiven_and_forgotten() -> None:
    agreement = noted(MIN_NOTES, **HONEST, liar=(-1.0, 1.0))
    assert "liar" in agreement.suspects()
    for _ in range(200):
        agreement.note("liar", Deviation(0.7, 1.0, 100))
    assert agreement.suspects() == {}
    agreement.forget("liar")
    assert "liar" not in agreement.scores()


def test_nothing_shared_is_nothing_measured() -> None:
    agreement = noted(MIN_NOTES, **HONEST, liar=(0.7, 1.0))
    before = agreement.scores()
    agreement.note("liar", Deviation(-1.0, 1.0, 0))
    assert agreement.scores() == before


@given(
    st.dictionaries(
        st.sampled_from("abcdefgh"),
        st.lists(
            st.tuples(
                st.floats(-1, 1), st.floats(0, 1e6), st.integers(MIN_ELEMENTS, 1000)
            ),
            min_size=MIN_NOTES,
            max_size=MIN_NOTES + 5,
        ),
        min_size=MIN_PEERS,
    )
)
def test_scores_follow_the_means_that_forget(
    notes: dict[str, list[tuple[float, float, int]]],
) -> None:
    """Against sums that are made anew: who lies farther from the median has more."""
    agreement = Agreement()
    for peer, several in notes.items():
        for cosine, ratio, elements in several:
            agreement.note(peer, Deviation(cosine, ratio, elements))
    means = {}
    for peer, several in notes.items():
        weights = [n * DECAY**age for age, (_, _, n) in enumerate(reversed(several))]
        cosines = [cosine for cosine, _, _ in reversed(several)]
        pairs = zip(cosines, weights, strict=True)
        means[peer] = sum(c * w for c, w in pairs) / sum(weights)
    scores = agreement.scores()
    assert scores.keys() == notes.keys()
    assert all(score >= 0 for score in scores.values())
    worst = min(means, key=lambda peer: means[peer])
    best = max(means, key=lambda peer: means[peer])
    same = {peer: [(c, 1.0, n) for c, _, n in each] for peer, each in notes.items()}
    plain = Agreement()
    for peer, several in same.items():
        for cosine, ratio, elements in several:
            plain.note(peer, Deviation(cosine, ratio, elements))
    found = plain.scores()
    assert found[worst] == pytest.approx(max(found.values()), abs=1e-9)
    assert found[best] == 0
