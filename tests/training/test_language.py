"""Kinds of running text: which files, which parts, which documents."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from p2pfusion.errors import DataError
from p2pfusion.training.data import Coding, mapping
from p2pfusion.training.data.language import text, tiny_shakespeare, wikitext_2
from p2pfusion.training.data.mapping import is_mapped
from p2pfusion.training.data.passages import Passages

CPU = torch.device("cpu")
CHARACTERS = Coding(level="character", length=4)
BYTES = Coding(level="byte", length=4)


def written(records: Passages) -> str:
    """The text of records at level character, but for its first character."""
    _, targets = records.batch(torch.arange(len(records)), CPU)
    return "".join(records.vocabulary.tokens[t] for t in targets[targets >= 0].tolist())


def test_nine_tenths_of_a_file_are_for_training(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0123456789" * 10)
    train = text(str(path), "train", CHARACTERS)
    assert train is not None
    test = text(str(path), "test", Coding(train.vocabulary, length=4))
    assert test is not None
    assert written(train) == ("0123456789" * 9)[1:]
    assert written(test) == "123456789"


def test_files_of_a_directory_are_documents(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("b" * 20)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a" * 10))
    (tmp_path / ".hidden").write_text("c" * 10)
    for coding in (CHARACTERS, BYTES):
        train = text(str(tmp_path), "train", coding)
        assert train is not None
        assert train.documents.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    train = text(str(tmp_path), "train", CHARACTERS)
    assert train is not None and written(train) == "a" * 8 + "b" * 18


def test_bytes_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(200)))
    train = text(str(path), "train", BYTES)
    assert train is not None
    _, targets = train.batch(torch.arange(len(train)), CPU)
    assert targets[targets >= 0].tolist() == list(range(2, 181))


def test_a_large_plain_file_of_bytes_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "MAPPED_FROM_BYTES", 1000)
    path, packed = tmp_path / "a.txt", tmp_path / "a.txt.gz"
    path.write_bytes(b"some text " * 200)
    packed.write_bytes(gzip.compress(path.read_bytes()))
    mapped, read = (text(str(p), "train", BYTES) for p in (path, packed))
    assert mapped is not None and read is not None
    assert is_mapped(mapped.text) and not is_mapped(read.text)
    chosen = mapped.select(np.arange(5, 60))
    assert is_mapped(chosen.text)
    one, other = (r.batch(torch.arange(len(r)), CPU) for r in (mapped, read))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"good \xff", "line 1, byte 5: not UTF-8"), (b"a", "not two tokens")],
)
def test_what_is_no_text_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        text(str(path), "train", CHARACTERS)
    assert str(path) in caught.value.message


def test_an_empty_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no files"):
        text(str(tmp_path), "train", CHARACTERS)


ARTICLES = (
    " \n = One = \n \n Words of one . \n \n = = A section = = \n \n More . \n"
    " \n = Two = \n \n a = b = c \n"
)


@pytest.mark.parametrize("level", ["word", "character", "byte"])
def test_articles_are_documents(level: str, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(ARTICLES)
    found = wikitext_2(str(tmp_path), "train", Coding(level=level, length=5))
    assert found is not None
    assert set(found.documents.tolist()) == {0, 1}


def test_the_test_part_is_read_with_the_training_words(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(" a b \n")
    (tmp_path / "test.txt.gz").write_bytes(gzip.compress(b" b c \n"))
    test = wikitext_2(str(tmp_path), "test", Coding())
    assert test is not None
    assert written(test) == "<unk><eos>"


def test_wikitext_2_is_whole(benchmark_data: Path) -> None:
    """The published counts, but for the first token, which nothing foretells."""
    directory = str(benchmark_data / "wikitext-2")
    train = wikitext_2(directory, "train", Coding())
    assert train is not None
    assert len(train.vocabulary) == 33_278 + 1  # padding
    assert train.answer_counts(33_279).sum() == 2_088_628 - 1
    test = wikitext_2(directory, "test", Coding(train.vocabulary))
    assert test is not None
    assert test.answer_counts(33_279).sum() == 245_569 - 1
    # 600 articles and 60, as published, and nothing in them that looks like another.
    assert [int(part.documents.max()) + 1 for part in (train, test)] == [600, 60]


def test_tiny_shakespeare_is_whole(benchmark_data: Path) -> None:
    train, test = (
        tiny_shakespeare(str(benchmark_data / "tiny-shakespeare/input.txt"), part, c)
        for part, c in (("train", Coding()), ("test", Coding()))
    )
    assert train is not None and test is not None
    assert len(train.vocabulary) == 65 + 2
    answers = [int(part.answer_counts(67).sum()) for part in (train, test)]
    assert sum(answers) == 1_115_394 - 2
