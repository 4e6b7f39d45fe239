"""The same text gives the same tokens everywhere, and every text has some."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError
from p2pfusion.limits import MAX_VOCABULARY, MAX_VOCABULARY_BYTES
from p2pfusion.training.data.vocabulary import (
    SPECIAL,
    Coding,
    Vocabulary,
    counted,
    lines_of,
    pieces,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def made_of(text: str, level: str = "word", size: int = 100) -> Vocabulary:
    return Vocabulary.of(level, counted([pieces(text, level)]), size)


def test_the_most_frequent_come_first_and_ties_by_code_point() -> None:
    assert made_of("b a c b a d b").tokens == (*SPECIAL["word"], "b", "a", "c", "d")
    assert made_of("zaz", "character").tokens == ("<pad>", "<unk>", "z", "a")


def test_the_order_of_the_text_does_not_matter() -> None:
    assert made_of("x y z y") == made_of("y z y x")


def test_the_size_counts_tokens_with_a_meaning_of_their_own() -> None:
    assert made_of("b a c b a d b", size=5).tokens[3:] == ("b", "a")


def test_a_vocabulary_fits_a_manifest() -> None:
    words = " ".join(f"{number:0>600}" for number in range(3000))
    size = sum(len(token) for token in made_of(words, size=MAX_VOCABULARY).tokens)
    assert MAX_VOCABULARY_BYTES - 600 < size <= MAX_VOCABULARY_BYTES


@given(texts, texts)
def test_encoding_finds_what_is_there_and_marks_the_rest(own: str, other: str) -> None:
    for level in ("word", "character"):
        vocabulary = made_of(own, level)
        for token, piece in zip(
            vocabulary.encode(pieces(other, level)), pieces(other, level), strict=True
        ):
            known = piece in pieces(own, level) or piece in SPECIAL[level]
            expected = piece if known and piece != "<pad>" else "<unk>"
            assert vocabulary.tokens[token] == expected


def test_bytes_are_shifted_past_padding() -> None:
    vocabulary = made_of("", "byte")
    assert (len(vocabulary), vocabulary.tokens) == (257, ())
    assert vocabulary.encode_bytes(b"\x00a\xff").tolist() == [1, 98, 256]


def test_lines_of_words_end_with_a_token() -> None:
    assert list(lines_of(" a b\n\nc\n", "word")) == [
        *("a", "b", "<eos>"),
        "<eos>",
        *("c", "<eos>"),
    ]
    assert "".join(lines_of("a\nb", "character")) == "a\nb"


@given(texts, st.sampled_from(["word", "character", "byte"]))
def test_plain_values_and_back(text: str, level: str) -> None:
    vocabulary = made_of(text, level)
    assert Coding.from_data(vocabulary.to_data()).vocabulary == vocabulary


def test_a_vocabulary_that_is_given_decides_the_level() -> None:
    coding = Coding.from_data(made_of("ab", "character").to_data(), length=8)
    assert coding.level_of("word") == "character"
    assert coding.length == 8
    assert Coding.from_data({}).level_of("word") == "word"
    assert Coding.from_data({"level": "byte"}).level_of("word") == "byte"


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"levels": "word"}, "levels"),
        ({"level": "sentence"}, "level"),
        ({"size": 3}, "size"),
        ({"size": True}, "size"),
        ({"size": MAX_VOCABULARY + 1}, "size"),
        ({"level": "word", "tokens": "abc"}, "tokens"),
        ({"level": "word", "tokens": ["a", "b", "c"]}, "tokens"),
        ({"level": "word", "tokens": [*SPECIAL["word"], 3]}, "tokens"),
        ({"level": "word", "tokens": [*SPECIAL["word"], "a", "a"]}, "tokens"),
        ({"level": "byte", "tokens": ["<pad>", "a"]}, "tokens"),
        ({"tokens": [*SPECIAL["word"], "a"]}, "tokens"),
    ],
)
def test_what_is_no_vocabulary_names_its_key(data: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Coding.from_data(data)
    assert caught.value.message.startswith(f"vocabulary.{key}: ")
