"""Every record is in exactly one share, and every peer computes the same shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.training.data.partition import (
    MIN_SHARE,
    RULES,
    Partition,
    deal,
    limited,
    share,
    validation_records,
)

BY_CLASS = [rule for rule in RULES if rule != "by-document"]
label_arrays = st.lists(st.integers(0, 5), min_size=30, max_size=200).map(np.array)
rules = st.sampled_from(BY_CLASS)
seeds = st.integers(0, 2**63)
alphas = st.sampled_from([0.001, 0.1, 0.5, 10.0, 1e6])


def partition(rule: str, index: int, of: int, **options: float) -> Partition:
    return Partition.from_data({"rule": rule, "share": f"{index}/{of}", **options})


@given(label_arrays, rules, st.integers(1, 30), st.integers(2, 9), alphas, seeds)
def test_shares_are_a_partition_and_large_enough(
    labels: np.ndarray, rule: str, of: int, shards: int, alpha: float, seed: int
) -> None:
    options = {"alpha": alpha, "shards": max(shards, -(-6 // of))}
    shares = [
        share(labels, partition(rule, index, of, **options), seed)
        for index in range(of)
    ]
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(labels)))
    assert min(map(len, shares)) >= min(MIN_SHARE, len(labels) // of)


@given(label_arrays, rules, st.integers(2, 8), seeds)
def test_the_dealing_follows_from_seed_and_labels(
    labels: np.ndarray, rule: str, of: int, seed: int
) -> None:
    first, last = (
        partition(rule, 0, of, shards=3),
        partition(rule, of - 1, of, shards=3),
    )
    assert (deal(labels, first, seed) == deal(labels.copy(), last, seed)).all()


def test_another_seed_deals_otherwise() -> None:
    labels = np.arange(300) % 10
    for rule in BY_CLASS:
        chosen = partition(rule, 0, 4, shards=5)
        assert (deal(labels, chosen, 0) != deal(labels, chosen, 1)).any()


@given(st.integers(1, 40), st.integers(40, 200), seeds)
def test_iid_shares_differ_by_one_record_at_most(
    of: int, count: int, seed: int
) -> None:
    sizes = np.bincount(deal(np.zeros(count, int), partition("iid", 0, of), seed))
    assert sizes.max() - sizes.min() <= 1


@given(st.integers(1, 20), st.integers(1, 10), seeds)
def test_every_share_holds_exactly_k_classes(of: int, shards: int, seed: int) -> None:
    labels = np.arange(4000) % 10
    chosen = partition("shards", 0, of, shards=shards)
    if shards * of < 10:
        with pytest.raises(ConfigError, match=r"data\.partition\.shards"):
            deal(labels, chosen, seed)
        return
    owners = deal(labels, chosen, seed)
    held = [len(np.unique(labels[owners == index])) for index in range(of)]
    assert held == [shards] * of
    holders = [len(np.unique(owners[labels == label])) for label in range(10)]
    assert max(holders) - min(holders) <= 1


def test_small_alpha_is_skewed_and_large_alpha_is_even() -> None:
    labels = np.arange(5000) % 10

    def largest_part(alpha: float) -> float:
        owners = deal(labels, partition("dirichlet", 0, 5, alpha=alpha), 7)
        counts = np.array(
            [np.bincount(owners[labels == k], minlength=5) for k in range(10)]
        )
        return float((counts.max(axis=1) / counts.sum(axis=1)).mean())

    assert largest_part(1e6) < 0.21
    assert 0.3 < largest_part(0.5) < 0.8
    assert largest_part(0.01) > 0.9


def test_the_dealing_never_changes() -> None:
    """Peers of one swarm may run other versions: these values are for good."""
    labels = np.arange(40) % 4
    recorded = {
        "iid": "2102100111020202020011122120011212102020",
        "dirichlet": "2212222121202122201001220112021101220200",
        "shards": "0212121212120202021202021212020212021202",
    }
    for rule, owners in recorded.items():
        found = deal(labels, partition(rule, 0, 3, shards=2), 5)
        assert "".join(map(str, found)) == owners


def test_too_few_records() -> None:
    with pytest.raises(DataError, match="3 records cannot be dealt to 4 shares"):
        deal(np.arange(3), partition("iid", 0, 4), 0)


def by_document(documents: np.ndarray, of: int, seed: int) -> np.ndarray:
    return deal(None, partition("by-document", 0, of), seed, documents=documents)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 8), seeds)
def test_every_share_is_a_run_of_whole_documents(
    sizes: list[int], of: int, seed: int
) -> None:
    documents = np.repeat(np.arange(len(sizes)), sizes)
    if len(sizes) < of:
        with pytest.raises(DataError, match="cannot be dealt"):
            by_document(documents, of, seed)
        return
    owners = by_document(documents, of, seed)
    assert sorted(set(owners.tolist())) == list(range(of))
    assert np.count_nonzero(np.diff(owners)) == of - 1
    holders = [set(owners[documents == d].tolist()) for d in range(len(sizes))]
    assert all(len(each) == 1 for each in holders)


@given(st.integers(40, 200), st.integers(1, 20), seeds)
def test_documents_of_one_record_give_equal_runs(
    count: int, of: int, seed: int
) -> None:
    sizes = np.bincount(by_document(np.arange(count), of, seed))
    assert sizes.max() - sizes.min() <= 1


def test_which_run_a_peer_gets_is_the_seeds_choice() -> None:
    found = {tuple(by_document(np.arange(40), 4, seed)) for seed in range(12)}
    assert len(found) > 1


def test_a_rule_that_the_records_do_not_allow() -> None:
    for rule in ("dirichlet", "shards"):
        with pytest.raises(ConfigError, match="deals by class") as caught:
            deal(None, partition(rule, 0, 2), 0, documents=np.arange(30))
        assert "by-document" in caught.value.hint
    with pytest.raises(ConfigError, match="is for running text"):
        deal(np.arange(30), partition("by-document", 0, 2), 0)


def test_without_a_rule_the_records_say_how_they_are_dealt() -> None:
    usual = Partition.from_data({"share": "0/2"})
    labels = np.arange(30) % 3
    expected = deal(labels, partition("dirichlet", 0, 2), 1)
    assert (deal(labels, usual, 1) == expected).all()
    documents = np.arange(30)
    found = deal(None, usual, 1, documents=documents)
    assert (found == by_document(documents, 2, 1)).all()
    even = deal(None, partition("iid", 0, 2), 1, documents=documents)
    assert np.bincount(even).tolist() == [15, 15]


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"share": "5/4"}, "share"),
        ({"share": "4/4"}, "share"),
        ({"share": "-1/4"}, "share"),
        ({"share": "0/0"}, "share"),
        ({"share": "0/99999"}, "share"),
        ({"share": "1 of 4"}, "share"),
        ({"share": 0.25}, "share"),
        ({}, "share"),
        ({"share": "0/4", "rule": "random"}, "rule"),
        ({"share": "0/4", "alpha": 0}, "alpha"),
        ({"share": "0/4", "alpha": "much"}, "alpha"),
        ({"share": "0/4", "shards": 0}, "shards"),
        ({"share": "0/4", "shards": 1.5}, "shards"),
        ({"share": "0/4", "rules": "iid"}, "rules"),
    ],
)
def test_wrong_settings_name_their_key(data: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^data\.partition\.{key}: "):
        Partition.from_data(data)


def test_missing_settings_take_their_defaults() -> None:
    found = Partition.from_data({"share": "1/3", "alpha": None, "shards": None})
    assert found == Partition(rule=None, index=1, of=3, alpha=0.5, shards=2)


@given(st.integers(1, 500), st.floats(0, 1, exclude_max=True), seeds)
def test_validation_takes_its_fraction_and_leaves_some(
    count: int, fraction: float, seed: int
) -> None:
    mask = validation_records(count, fraction, seed, 3)
    assert mask.sum() == min(int(fraction * count), count - 1)
    assert (mask == validation_records(count, fraction, seed, 3)).all()


@given(st.integers(1, 500), st.data())
def test_a_limit_keeps_so_many_different_records(
    count: int, data: st.DataObject
) -> None:
    limit = data.draw(st.integers(1, count))
    chosen = limited(count, limit)
    assert len(chosen) == len(set(chosen.tolist())) == limit
    assert (np.diff(chosen) > 0).all()
    assert set(chosen.tolist()) <= set(limited(count, min(count, limit + 5)).tolist())
