"""Tables of labelled texts, and what is wrong with those that cannot be used."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from p2pfusion.errors import DataError
from p2pfusion.training.data import Coding
from p2pfusion.training.data.tables import csv, sst2, tsv


def test_quotes_are_characters_in_a_tsv_and_quotes_in_a_csv(tmp_path: Path) -> None:
    rows, commas = tmp_path / "a.tsv", tmp_path / "a.csv"
    rows.write_text('sentence\tlabel\n"so" , it\t1\n')
    commas.write_text('label,text\n0,"so, ""it"""\n')
    found, other = (
        tsv(str(rows), "train", Coding()),
        csv(str(commas), "train", Coding()),
    )
    assert found is not None and other is not None
    assert set(found.vocabulary.tokens[3:]) == {'"so"', ",", "it"}
    assert set(other.vocabulary.tokens[3:]) == {"so,", '"it"'}
    assert (found.labels.tolist(), other.labels.tolist()) == ([1], [0])


def test_a_file_alone_has_no_test_part(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(b"text\tlabel\na b\t3\n"))
    assert tsv(str(path), "test", Coding()) is None
    found = tsv(str(path), "train", Coding())
    assert found is not None and found.traits.classes == 4


def test_the_test_part_is_read_with_the_training_words(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("text\tlabel\na b c\t0\n")
    (tmp_path / "test.tsv").write_text("text\tlabel\nd a\t0\n")
    found = tsv(str(tmp_path), "test", Coding())
    assert found is not None
    assert [found.vocabulary.tokens[t] for t in found.tokens[0]] == [
        *("<unk>", "a"),
        "<pad>",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text\tclass\na\t0\n", "the header has"),
        ("text\tlabel\n", "no records"),
        ("text\tlabel\na\t0\nb\n", "record 1 has 1 fields"),
        ("text\tlabel\na\tgood\n", "record 0 has the label 'good'"),
        ("text\tlabel\na\t0\nb\t-1\n", "record 1 has the label '-1'"),
        ("text\tlabel\na\t99999999\n", "record 0 has the label"),
    ],
)
def test_what_is_wrong_is_named(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(content)
    with pytest.raises(DataError, match=said) as caught:
        tsv(str(path), "train", Coding())
    assert str(path) in caught.value.message


def test_sst2_is_whole(benchmark_data: Path) -> None:
    directory = str(benchmark_data / "sst2")
    train = sst2(directory, "train", Coding())
    assert train is not None
    test = sst2(directory, "test", Coding(train.vocabulary, length=52))
    assert test is not None
    assert train.answer_counts(2).tolist() == [26_786, 33_828]
    assert test.answer_counts(2).tolist() == [428, 444]
