"""What data asks of a model: a task, the shape of one record, and how many answers."""

from __future__ import annotations

from dataclasses import dataclass

TASKS = {"image": 3, "text": 1, "language": 1}
"""What is learned, and how many numbers make a record's shape: images (C, H, W) and
texts (length,) each have one label; ``language`` has one after every token: the next
one."""


@dataclass(frozen=True)
class Traits:
    """What a set of records is like, as far as a model must know.

    ``classes``: labels are below it; the vocabulary's size where tokens are foretold.
    ``vocabulary``: tokens are below it; 0 for images.
    """

    task: str
    shape: tuple[int, ...]
    classes: int
    vocabulary: int = 0

    def __post_init__(self) -> None:
        assert len(self.shape) == TASKS[self.task]
