"""What a comparison is made of: a task, and an arm that is run on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

Table = Mapping[str, object]

ROUNDS = 40
"""Of nearly every task."""


@dataclass(frozen=True)
class Task:
    """Data, model and training; ``widths`` are the model arguments that are cut."""

    data: str
    model: str
    widths: Mapping[str, int | tuple[int, ...]]
    options: Table
    rates: Mapping[str, float]
    """Learning rates of the ``whole`` model, the ``small`` one, and a ``split``, and of
    arms, by name, that do better with another than their kind's."""
    arguments: Table = field(default_factory=dict)
    higher_is_better: bool = True

    def model_arguments(self, fraction: Fraction) -> dict[str, object]:
        """Of a model that is so wide, of the whole one's width."""

        def cut(width: int | tuple[int, ...]) -> object:
            if isinstance(width, tuple):
                return [int(each * fraction) for each in width]
            return int(width * fraction)

        cuts = {key: cut(width) for key, width in self.widths.items()}
        return {**self.arguments, **cuts}


@dataclass(frozen=True)
class Arm:
    """One row of the table. ``width`` of the model: whole, or as small as a split."""

    title: str
    method: str
    small: bool = False
    options: Callable[[Fraction], Table] = lambda fraction: {}
    arguments: Callable[[Fraction], Table] = lambda fraction: {}


def plainly(title: str, method: str, **options: object) -> Arm:
    """An arm whose options do not depend on the fraction."""
    words = {f"--{key.replace('_', '-')}": value for key, value in options.items()}
    return Arm(title, method, options=lambda _: words)
