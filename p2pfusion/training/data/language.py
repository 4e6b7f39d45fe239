"""Running text: one loader per kind.

Each finds the files and the documents in them, and the rest is the same for all: the
vocabulary is made or given, and the text becomes one array of tokens, a document after
the other. A single plain file that is read byte by byte stays where it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from p2pfusion.errors import DataError
from p2pfusion.training.data.benchmarks import benchmark_directory, needed
from p2pfusion.training.data.formats import read_content, read_text
from p2pfusion.training.data.mapping import map_array
from p2pfusion.training.data.passages import Passages, passages
from p2pfusion.training.data.vocabulary import (
    BYTE_SHIFT,
    Coding,
    Vocabulary,
    counted,
    lines_of,
)

TRAINING_PART = 0.9
"""Of every file without a test part, the first nine tenths are for training."""

_ARTICLE = re.compile(r"^ = [^=\n]+ = \n \n", re.MULTILINE)
"""The heading of an article; those of its sections have more signs."""


def text(path: str | None, part: str, coding: Coding) -> Passages | None:
    """Any UTF-8 text file, or all files of a directory; each is one document."""
    place = needed(path, "text", "a text file, or a directory of text files")
    return _from_files(place, part, coding, "word")


def tiny_shakespeare(path: str | None, part: str, coding: Coding) -> Passages | None:
    """The benchmark's one file of plays, read by characters."""
    instead = 'use kind = "text" with the path of input.txt'
    place = (
        Path(path)
        if path
        else benchmark_directory("tiny-shakespeare", instead) / "input.txt"
    )
    return _from_files(place, part, coding, "character")


def wikitext_2(path: str | None, part: str, coding: Coding) -> Passages | None:
    """Wikipedia articles, read by words; every article is a document."""
    instead = "give the directory of train.txt and test.txt as path"
    directory = Path(path) if path else benchmark_directory("wikitext-2", instead)
    file = _file(directory, f"{part}.txt")
    if coding.level_of("word") == "byte":
        content = read_content(file)
        starts = _article_starts(content.decode("latin-1"))
        ends = [*starts[1:], len(content)]
        return _checked(_in_bytes(np.frombuffer(content, np.uint8), ends, coding), file)
    whole = read_text(file)
    learn = [whole]
    if part == "test" and coding.vocabulary is None:
        learn = [read_text(_file(directory, "train.txt"))]
    starts = _article_starts(whole)
    articles = [whole[a:b] for a, b in pairwise([*starts, len(whole)])]
    return _checked(_in_pieces(articles, learn, coding, "word"), file)


def running_text(documents: Sequence[str], coding: Coding) -> Passages | None:
    """Texts that are at hand already, each a document, read by words; None if there are
    not two tokens."""
    if coding.level_of("word") == "byte":
        contents = [each.encode() for each in documents]
        ends = np.cumsum([len(each) for each in contents]).tolist()
        joined = np.frombuffer(b"".join(contents), np.uint8)
        return _in_bytes(joined, ends, coding)
    return _in_pieces(documents, documents, coding, "word")


def _article_starts(whole: str) -> list[int]:
    """Where articles begin; what stands before the first heading belongs to it."""
    found = [match.start() for match in _ARTICLE.finditer(whole)]
    return [0, *found[1:]]


def _file(directory: Path, name: str) -> Path:
    for file in (directory / name, directory / f"{name}.gz"):
        if file.is_file():
            return file
    raise DataError(f"{directory}: neither {name} nor {name}.gz is there")


def _from_files(
    place: Path, part: str, coding: Coding, usual_level: str
) -> Passages | None:
    """The training or the test part of every file."""
    files = _files(place)
    if coding.level_of(usual_level) == "byte":
        contents = [_content(file) for file in files]
        kept = [_part_of(content, part) for content in contents]
        ends = np.cumsum([len(each) for each in kept]).tolist()
        joined = kept[0] if len(kept) == 1 else np.concatenate(kept)
        found = _in_bytes(joined, ends, coding)
    else:
        wholes = [read_text(file) for file in files]
        learn = [_text_part(whole, "train") for whole in wholes]
        kept_texts = [_text_part(whole, part) for whole in wholes]
        found = _in_pieces(kept_texts, learn, coding, usual_level)
    return found if part == "test" else _checked(found, place)


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    files = sorted(
        file
        for file in place.iterdir()
        if file.is_file() and not file.name.startswith(".")
    )
    if not files:
        raise DataError(
            f"{place}: there are no files",
            hint="kind text reads what lies in the directory itself",
        )
    return files


def _content(file: Path) -> np.ndarray:
    """Bytes of a file, mapped if it is a large plain one."""
    mapped = None
    if file.suffix != ".gz" and file.is_file():
        shape = (file.stat().st_size,)
        mapped = map_array(file, shape, np.dtype(np.uint8), 0)
    return np.frombuffer(read_content(file), np.uint8) if mapped is None else mapped


def _part_of(content: np.ndarray, part: str) -> np.ndarray:
    border = int(TRAINING_PART * len(content))
    return content[:border] if part == "train" else content[border:]


def _text_part(whole: str, part: str) -> str:
    border = int(TRAINING_PART * len(whole))
    return whole[:border] if part == "train" else whole[border:]


def _in_bytes(content: np.ndarray, ends: list[int], coding: Coding) -> Passages | None:
    vocabulary = Vocabulary("byte")
    return passages(content, ends, vocabulary, length=coding.length, shift=BYTE_SHIFT)


def _in_pieces(
    documents: Sequence[str], learn: Sequence[str], coding: Coding, usual_level: str
) -> Passages | None:
    """Documents as tokens; ``learn`` is what a vocabulary is made of if need be."""
    level = coding.level_of(usual_level)
    vocabulary = coding.vocabulary
    if vocabulary is None:
        counts = counted(lines_of(each, level) for each in learn)
        vocabulary = coding.vocabulary_of(level, counts)
    parts = [vocabulary.encode(lines_of(each, level)) for each in documents]
    ends = np.cumsum([len(each) for each in parts]).tolist()
    tokens = np.concatenate(parts)
    return passages(tokens, ends, vocabulary, length=coding.length)


def _checked(found: Passages | None, place: Path) -> Passages:
    if found is None:
        raise DataError(
            f"{place}: there are not two tokens to learn from",
            hint="running text needs a token and one that follows it",
        )
    return found
