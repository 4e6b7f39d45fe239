"""How text becomes tokens: levels, vocabularies, and the rule that makes one.

A vocabulary belongs to a swarm, not to a peer: the model's outputs mean its tokens. The
founder makes it of its own training text; it travels in the manifest and is written
into every exported model. The same text gives the same vocabulary on every machine:
tokens are ordered by how often they occur, the most frequent first, and by code points
where that is equal.

Levels: ``word`` splits at white space and ends every line of running text with
``<eos>``; ``character`` takes Unicode characters; ``byte`` takes bytes, and needs no
list. Token 0 is padding in all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import numpy as np

from p2pfusion.errors import ConfigError
from p2pfusion.limits import MAX_VOCABULARY, MAX_VOCABULARY_BYTES

LEVELS = ("word", "character", "byte")
PAD, UNKNOWN, END = "<pad>", "<unk>", "<eos>"
BYTE_SHIFT = 1
"""Byte b is token b + 1, because token 0 is padding."""

SPECIAL = {"word": (PAD, UNKNOWN, END), "character": (PAD, UNKNOWN), "byte": (PAD,)}


@dataclass(frozen=True)
class Vocabulary:
    """What the tokens mean. ``tokens``: the text of each, empty for bytes."""

    level: str
    tokens: tuple[str, ...] = ()

    def __len__(self) -> int:
        return 256 + BYTE_SHIFT if self.level == "byte" else len(self.tokens)

    @classmethod
    def of(cls, level: str, counts: Mapping[str, int], size: int) -> Vocabulary:
        """The ``size`` commonest pieces, those with a meaning of their own included."""
        if level == "byte":
            return cls(level)
        special = SPECIAL[level]
        found = [piece for piece in counts if piece not in special]
        found.sort(key=lambda piece: (-counts[piece], piece))
        fitting = found[: max(0, size - len(special))]
        return cls(level, _bounded([*special, *fitting]))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        # Padding is no text: who writes "<pad>" means an unknown word.
        return {text: number for number, text in enumerate(self.tokens) if text != PAD}

    def encode(self, pieces: Iterable[str]) -> np.ndarray:
        """Tokens (N,) of pieces, as ``pieces`` cuts a text; unknown ones are 1."""
        number, unknown = self._numbers.get, self.tokens.index(UNKNOWN)
        return np.fromiter((number(each, unknown) for each in pieces), np.uint16)

    def encode_bytes(self, text: bytes) -> np.ndarray:
        """Tokens of text as it lies in a file, at level ``byte``."""
        return np.frombuffer(text, np.uint8).astype(np.uint16) + BYTE_SHIFT

    def to_data(self) -> dict[str, object]:
        """Plain values, for the manifest."""
        listed: dict[str, object] = {"tokens": list(self.tokens)} if self.tokens else {}
        return {"level": self.level, **listed}


@dataclass(frozen=True)
class Coding:
    """How a swarm turns text into records; images need none of it."""

    vocabulary: Vocabulary | None = None
    """The swarm's; None: made of the text that is loaded."""
    level: str | None = None
    """Of the vocabulary to make; None: as the kind of data has it."""
    size: int = MAX_VOCABULARY
    """Tokens of the vocabulary to make, at most."""
    length: int | None = field(default=None, kw_only=True)
    """Tokens of one record; None: as the kind of data has it."""

    @classmethod
    def from_data(cls, data: Mapping[str, object], *, length: object = None) -> Coding:
        """From the swarm's ``vocabulary`` and the model's argument ``length``, if any.

        ``ConfigError`` names the key.
        """
        unknown = set(data) - {"level", "size", "tokens"}
        if unknown:
            raise ConfigError(f"vocabulary.{min(unknown)}: unknown key")
        level, size = data.get("level"), data.get("size", MAX_VOCABULARY)
        if level is not None and level not in LEVELS:
            raise ConfigError(
                f"vocabulary.level: {level!r} is not one of {', '.join(LEVELS)}"
            )
        whole = isinstance(size, int) and not isinstance(size, bool)
        if not whole or not len(SPECIAL["word"]) < size <= MAX_VOCABULARY:  # type: ignore[operator]
            raise ConfigError(
                f"vocabulary.size: {size!r} is not a whole number from 4 to "
                f"{MAX_VOCABULARY}"
            )
        return cls(
            _given(level, data.get("tokens", ())),
            None if level is None else str(level),
            int(size),  # type: ignore[call-overload]
            length=length if isinstance(length, int) and length > 0 else None,
        )

    def level_of(self, usual: str) -> str:
        """The level to read text at, where ``usual`` is the kind's own."""
        if self.vocabulary is not None:
            return self.vocabulary.level
        return self.level or usual

    def vocabulary_of(self, level: str, counts: Mapping[str, int]) -> Vocabulary:
        """The swarm's vocabulary, or the one that these counts make."""
        return self.vocabulary or Vocabulary.of(level, counts, self.size)


def _given(level: object, tokens: object) -> Vocabulary | None:
    if level == "byte" and not tokens:
        return Vocabulary("byte")
    if not isinstance(tokens, (list, tuple)):
        raise ConfigError("vocabulary.tokens: not a list")
    if not tokens:
        return None
    special = SPECIAL.get(str(level), ())
    good = (
        level in ("word", "character")
        and all(isinstance(each, str) for each in tokens)
        and tuple(tokens[: len(special)]) == special
        and len(tokens) <= MAX_VOCABULARY
    )
    if not good:
        raise ConfigError(
            f"vocabulary.tokens: not the tokens of a vocabulary of level {level!r}",
            hint="leave them out: the founder makes them of its own text",
        )
    if len(set(tokens)) < len(tokens):
        raise ConfigError("vocabulary.tokens: a token is there twice")
    return Vocabulary(str(level), tuple(tokens))


def _bounded(tokens: list[str]) -> tuple[str, ...]:
    """As many as a manifest may carry: running web addresses are long words."""
    ends = accumulate(len(token.encode()) for token in tokens)
    return tuple(
        token
        for token, end in zip(tokens, ends, strict=True)
        if end <= MAX_VOCABULARY_BYTES
    )


def pieces(text: str, level: str) -> Iterable[str]:
    """What a text is cut into, before it has numbers; not for bytes."""
    return text if level == "character" else text.split()


def lines_of(text: str, level: str) -> Iterable[str]:
    """The pieces of running text: at level ``word`` every line ends with ``END``."""
    if level == "character":
        return text
    lines = text.removesuffix("\n").split("\n")
    return (piece for line in lines for piece in (*line.split(), END))


def counted(texts: Iterable[Iterable[str]]) -> Counter[str]:
    """How often each piece occurs."""
    counts: Counter[str] = Counter()
    for each in texts:
        counts.update(each)
    return counts
