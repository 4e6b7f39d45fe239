"""What the trainer needs of a set of records, whatever they are.

Three kinds implement it: ``Examples`` (images), ``Texts`` (texts with a label each) and
``Passages`` (running text, in which every next token is an answer).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from p2pfusion.training.data.vocabulary import Coding, Vocabulary
from p2pfusion.training.traits import Traits

NO_ANSWER = -100
"""The target where there is nothing to foretell; torch's losses pass over it."""


class Records(Protocol):
    """A set of records that a model can be trained or evaluated on."""

    @property
    def traits(self) -> Traits:
        """What these records ask of a model."""
        ...

    @property
    def vocabulary(self) -> Vocabulary | None:
        """What their tokens mean; None for images."""
        ...

    @property
    def labels(self) -> Tensor | None:
        """The class of each record; None for running text."""
        ...

    @property
    def documents(self) -> np.ndarray | None:
        """For running text: which document each record is of, ascending."""
        ...

    def __len__(self) -> int: ...

    def answer_counts(self, classes: int) -> np.ndarray:
        """How often each of so many classes is the answer; absent ones count 0."""
        ...

    def select(self, indices: np.ndarray) -> Records:
        """The records at these positions, in this order."""
        ...

    def batch(self, chosen: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the records at these positions, on the device.

        Targets are (B,) or (B, T) int64; ``NO_ANSWER`` marks places without one.
        """
        ...


Loader = Callable[[str | None, str], Records | None]
"""A kind's loader, called with the path and ``train`` or ``test``; None if there is no
such part."""

TextLoader = Callable[[str | None, str, Coding], Records | None]
"""The same for a kind of text, which is also told how text becomes tokens."""
