"""An objective of a user's own that wants more memory than any machine has, for as long
as a file is there: what refuses is torch's real allocator, at an instant that a test
chooses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

TOO_MANY_BYTES = 1 << 50


def loss(greedy: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy, after a look whether the file ``greedy`` is there."""

    def measure(logits: Tensor, targets: Tensor) -> Tensor:
        if Path(greedy).exists():
            torch.empty(TOO_MANY_BYTES, dtype=torch.uint8)
        return nn.functional.cross_entropy(logits, targets)

    return measure
