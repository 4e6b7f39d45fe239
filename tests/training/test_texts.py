"""Texts become rows of one length, padded and cut."""

from __future__ import annotations

import pytest

from p2pfusion.training.data.texts import MOST_TOKENS, texts
from p2pfusion.training.data.vocabulary import Coding, Vocabulary

WORDS = Vocabulary("word", ("<pad>", "<unk>", "<eos>", "good", "film"))


def test_rows_end_with_padding_and_unknown_words_are_marked() -> None:
    found = texts(["good film", "a film"], [1, 0], Coding(WORDS, length=4), "word")
    assert found.tokens.tolist() == [[3, 4, 0, 0], [1, 4, 0, 0]]
    assert found.labels.tolist() == [1, 0]
    traits = found.traits
    assert (traits.task, traits.shape, traits.classes) == ("text", (4,), 2)
    assert traits.vocabulary == 5


def test_long_texts_are_cut() -> None:
    found = texts(["good good film"], [0], Coding(WORDS, length=2), "word")
    assert found.tokens.tolist() == [[3, 3]]


def test_without_a_length_the_longest_text_gives_it() -> None:
    assert texts(["a", "a b c"], [0, 1], Coding(), "word").traits.shape == (3,)
    longer = ["a " * (MOST_TOKENS + 5)]
    assert texts(longer, [0], Coding(), "word").traits.shape == (MOST_TOKENS,)
    assert texts([""], [0], Coding(), "word").tokens.tolist() == [[0]]


@pytest.mark.parametrize("level", ["character", "byte"])
def test_other_levels(level: str) -> None:
    found = texts(["äb"], [0], Coding(level=level), "word")
    assert found.vocabulary.level == level
    assert found.traits.shape == ((2,) if level == "character" else (3,))
