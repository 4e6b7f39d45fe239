"""Running text as records of a fixed length, in which every next token is an answer.

The text is one array of tokens, in memory or mapped from a file; a record is a window
of it, cut when a batch wants it. The windows of a document follow each other without
gap or overlap, so every token but the first of all is foretold exactly once, from
what stands before it in its window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from p2pfusion.training.data.records import NO_ANSWER
from p2pfusion.training.data.vocabulary import Vocabulary
from p2pfusion.training.traits import Traits

DEFAULT_LENGTH = 64
"""Tokens of a record where the model does not say how many."""

COUNTED_AT_ONCE = 1 << 12
"""Records whose answers are counted together: a mapped text may exceed memory."""


@dataclass(frozen=True)
class Passages:
    """Windows of ``text``: from ``starts`` to before ``stops``, at most ``length``.

    ``shift`` is added to what lies in ``text`` to make a token of it. ``documents`` has
    the document of each window.
    """

    text: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    documents: np.ndarray
    vocabulary: Vocabulary
    length: int
    shift: int = 0

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def traits(self) -> Traits:
        """What this text asks of a model: a logit for every token, at every place."""
        size = len(self.vocabulary)
        return Traits("language", (self.length,), size, size)

    @property
    def labels(self) -> None:
        """A window has no class."""
        return None

    def answer_counts(self, classes: int) -> np.ndarray:
        """How often each token is the answer."""
        counts = np.zeros(classes, np.int64)
        for start in range(0, len(self), COUNTED_AT_ONCE):
            _, targets = self._windows(np.s_[start : start + COUNTED_AT_ONCE])
            counts += np.bincount(targets[targets != NO_ANSWER], minlength=classes)
        return counts

    def select(self, indices: np.ndarray) -> Passages:
        """The windows at these positions, in this order; the text is shared."""
        return Passages(
            self.text,
            self.starts[indices],
            self.stops[indices],
            self.documents[indices],
            self.vocabulary,
            self.length,
            self.shift,
        )

    def batch(self, chosen: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Tokens (B, length) and the ones after each, both int64, on the device."""
        inputs, targets = self._windows(chosen.numpy())
        return torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device)

    def _windows(self, chosen: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        starts, stops = self.starts[chosen], self.stops[chosen]
        places = starts[:, None] + np.arange(self.length + 1)  # (B, length + 1)
        inside = places[:, :-1] < stops[:, None]
        np.minimum(places, len(self.text) - 1, out=places)
        tokens = self.text[places].astype(np.int64) + self.shift
        inputs = np.where(inside, tokens[:, :-1], 0)
        return inputs, np.where(inside, tokens[:, 1:], NO_ANSWER)


def passages(
    text: np.ndarray,
    ends: Sequence[int],
    vocabulary: Vocabulary,
    *,
    length: int | None,
    shift: int = 0,
) -> Passages | None:
    """All windows of a text whose documents end before ``ends``; None if it has none.

    A text of one document has no parts that belong together: each window then counts
    as a document.
    """
    length = length or DEFAULT_LENGTH
    starts, stops, documents = [], [], []
    begin = 0
    for document, end in enumerate(ends):
        # The last token of all has none after it.
        found = np.arange(begin, min(end, len(text) - 1), length)
        starts.append(found)
        stops.append(np.minimum(found + length, min(end, len(text) - 1)))
        documents.append(np.full(len(found), document))
        begin = end
    if not sum(len(found) for found in starts):
        return None
    owners = np.concatenate(documents)
    if len(ends) == 1:
        owners = np.arange(len(owners))
    return Passages(
        text,
        np.concatenate(starts),
        np.concatenate(stops),
        owners,
        vocabulary,
        length,
        shift,
    )
