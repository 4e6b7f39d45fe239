"""The [data] table as options, and one peer's own records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from p2pfusion.errors import ConfigError
from p2pfusion.training.data import DataOptions, load, own_records
from p2pfusion.training.data.examples import Examples
from tests.training.samples import write_idx_directory


def digits_share(index: int, **options: object) -> tuple[Examples, Examples | None]:
    chosen = DataOptions.from_data(
        {
            "kind": "digits",
            "partition": {"rule": "dirichlet", "share": f"{index}/4"},
            **options,
        }
    )
    records = load(chosen, "train")
    assert records is not None
    return own_records(records, chosen, seed=1)


def rows(*parts: Examples | None) -> list[tuple[int, ...]]:
    return sorted(
        tuple(image.flatten().tolist())
        for part in parts
        if part is not None
        for image in part.images
    )


def test_shares_and_validation_together_are_the_training_part() -> None:
    parts = [part for n in range(4) for part in digits_share(n, validation=0.2)]
    whole = load(DataOptions("digits"), "train")
    assert rows(*parts) == rows(whole)


def test_without_validation_all_records_are_for_training() -> None:
    for fraction in (0, None, 0.0001):
        training, validation = digits_share(2, validation=fraction)
        assert validation is None
        assert len(training) > 100


def test_without_partition_everything_is_the_peers_own() -> None:
    options = DataOptions.from_data({"kind": "digits", "validation": 0.1})
    records = load(options, "train")
    assert records is not None
    training, validation = own_records(records, options, seed=0)
    assert validation is not None
    assert (len(training), len(validation)) == (1442 - 144, 144)


def test_a_limit_is_per_part(tmp_path: Path) -> None:
    write_idx_directory(tmp_path, train=30, test=12)
    data = {"kind": "idx", "path": str(tmp_path), "limit": {"train": 7}}
    options = DataOptions.from_data(data)
    train, test = load(options, "train"), load(options, "test")
    assert train is not None and test is not None
    assert (len(train), len(test)) == (7, 12)
    again = load(options, "train")
    assert again is not None and torch.equal(train.images, again.images)
    more = DataOptions.from_data({**data, "limit": {"train": 1000, "test": 5}})
    train, test = load(more, "train"), load(more, "test")
    assert train is not None and test is not None
    assert (len(train), len(test)) == (30, 5)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({}, "data.kind"),
        ({"kind": 3}, "data.kind"),
        ({"kind": "digits", "path": 3}, "data.path"),
        ({"kind": "digits", "partition": "0/4"}, "data.partition"),
        ({"kind": "digits", "partition": {"share": "5/4"}}, "data.partition.share"),
        ({"kind": "digits", "validation": 1}, "data.validation"),
        ({"kind": "digits", "validation": "some"}, "data.validation"),
        ({"kind": "digits", "limit": 5}, "data.limit"),
        ({"kind": "digits", "limit": {"train": 0}}, "data.limit.train"),
        ({"kind": "digits", "limit": {"all": 1}}, "data.limit"),
        ({"kind": "digits", "sharing": 1}, "data.sharing"),
    ],
)
def test_wrong_options_name_their_key(data: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DataOptions.from_data(data)
    assert caught.value.message.startswith(f"{key}: ")


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'mnist'") as caught:
        load(DataOptions("mnist"), "train")
    assert "fashion-mnist" in caught.value.hint


def test_validation_differs_between_shares_and_seeds() -> None:
    options = DataOptions("digits", validation=0.3)
    records = load(options, "train")
    assert records is not None
    one, other = (own_records(records, options, seed)[0].labels for seed in (1, 2))
    assert not np.array_equal(one.numpy(), other.numpy())
