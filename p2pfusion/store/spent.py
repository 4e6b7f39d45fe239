"""What a peer's noise has told of its data so far: one small file, never set back.

The trainer writes it before it uses the noise that it counts, so a crash can only count
noise that nobody saw. Who reads it is the daemon. The sum of the inverse squares of all
noise multipliers says everything: so many Gaussian mechanisms, one after the other, are
one with the multiplier ``inverse_squares ** -0.5`` (Dong, Roth and Su, Gaussian
Differential Privacy, 2022, Cor. 3.3).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from p2pfusion.errors import VerificationError
from p2pfusion.store.files import new_file, write_at

DAMAGED = (
    "restore it from a backup; to begin anew is to forget what was told, and right for "
    "other data only"
)


@dataclass(frozen=True)
class Spent:
    """Rounds that were contributed, and what follows from them."""

    rounds: int = 0
    inverse_squares: float = 0.0
    delta: float = 0.0
    epsilon: float = 0.0
    """By ``delta``, as a float that is not too small."""
    next_epsilon: float = 0.0
    """What it would be after one round more."""

    @classmethod
    def read(cls, path: Path) -> Spent:
        """What a file says; nothing, if there is none. ``VerificationError``."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            spent = cls(**found)
            numbers = [float(value) for value in asdict(spent).values()]
            good = all(math.isfinite(each) and each >= 0 for each in numbers)
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError) as error:
            raise VerificationError(f"{path}: {error}", hint=DAMAGED) from None
        if not good:
            raise VerificationError(f"{path}: a number is impossible", hint=DAMAGED)
        return spent

    def write(self, path: Path) -> None:
        """Replaces the file, and returns when that is durable."""
        with new_file(path, durable=True) as file:
            write_at(file, json.dumps(asdict(self)).encode(), 0)
