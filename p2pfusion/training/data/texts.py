"""Texts with one label each, as rows of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from p2pfusion.training.data.vocabulary import (
    Coding,
    Vocabulary,
    counted,
    pieces,
)
from p2pfusion.training.traits import Traits

MOST_TOKENS = 128
"""Tokens of a text that are looked at, where the model does not say how many."""


@dataclass(frozen=True)
class Texts:
    """Tokens (N, length), 0 after a text's end, and labels (N,) of int64."""

    tokens: Tensor
    labels: Tensor
    vocabulary: Vocabulary

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def traits(self) -> Traits:
        """What these texts ask of a model."""
        classes = int(self.labels.max()) + 1
        shape = (self.tokens.shape[1],)
        return Traits("text", shape, classes, len(self.vocabulary))

    @property
    def documents(self) -> None:
        """Each text stands for itself."""
        return None

    def answer_counts(self, classes: int) -> np.ndarray:
        """Texts of each class."""
        return np.bincount(self.labels.numpy(), minlength=classes)

    def select(self, indices: np.ndarray) -> Texts:
        """The texts at these positions, in this order, as a copy."""
        chosen = torch.from_numpy(np.ascontiguousarray(indices, dtype=np.int64))
        return Texts(self.tokens[chosen], self.labels[chosen], self.vocabulary)

    def batch(self, chosen: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Tokens (B, length) and labels (B,), both int64, on the device."""
        tokens = self.tokens[chosen].to(device, torch.int64)
        return tokens, self.labels[chosen].to(device)


def texts(
    written: Sequence[str], labels: Sequence[int], coding: Coding, usual_level: str
) -> Texts:
    """Texts as tokens; a longer one is cut after the record's length."""
    level = coding.level_of(usual_level)
    if level == "byte":
        vocabulary = Vocabulary(level)
        rows = [vocabulary.encode_bytes(each.encode()) for each in written]
    else:
        cut = [list(pieces(each, level)) for each in written]
        vocabulary = coding.vocabulary_of(level, counted(cut))
        rows = [vocabulary.encode(each) for each in cut]
    longest = max(1, *(len(row) for row in rows))
    length = coding.length or min(longest, MOST_TOKENS)
    tokens = np.zeros((len(rows), length), np.int32)
    for row, found in zip(tokens, rows, strict=True):
        row[: len(found)] = found[:length]
    return Texts(torch.from_numpy(tokens), torch.tensor(labels), vocabulary)
