"""What comes of what the trainer was asked: the answers, and failures for good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from p2pfusion.errors import P2PFusionError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split

Fields = Mapping[str, object]


@dataclass(frozen=True)
class Described:
    """The layout of the founder's model, its arguments and vocabulary, completed."""

    layout: Layout
    arguments: Fields
    vocabulary: Fields
    is_deep: bool
    """Whether methods can leave out layers of the model."""
    versions: Fields
    """Packages from outside that the swarm's code is of."""


@dataclass(frozen=True)
class Trained:
    """A round's offer is on disk."""

    round_index: int
    offer: Path
    split: Split
    since: Path | None
    """The offer from which it went on, if it did."""
    samples: int
    loss: float
    is_measured: bool
    """Whether its accuracy is measured now; a ``Measured`` follows in any case."""
    norm: float
    seconds: float
    l1: float


@dataclass(frozen=True)
class Measured:
    """How good a trained round is on the data that is held back, by itself."""

    round_index: int
    accuracy: float | None
    """None: it could not be measured."""
    reason: str = ""
    """Why not."""


@dataclass(frozen=True)
class FoundOut:
    """What this peer has to announce, at a split fraction."""

    split_fraction: str
    announced: bytes


@dataclass(frozen=True)
class Fitted:
    """Of the splits that the trainer was asked about, this one fits into memory."""

    chosen: int


@dataclass(frozen=True)
class NotFoundOut:
    """There is nothing to announce, and it is not tried again."""

    reason: str


@dataclass(frozen=True)
class NotTrained:
    """A round gave nothing."""

    round_index: int
    reason: str
    cause: str = ""
    """The name of the error, if the trainer told one."""


@dataclass(frozen=True)
class TooLarge:
    """Some rounds in a row, memory did not suffice: this peer should train less."""

    reason: str


@dataclass(frozen=True)
class Fatal:
    """The trainer cannot do its work here, whatever is tried."""

    error: P2PFusionError


Outcome = (
    Described
    | Fitted
    | Trained
    | Measured
    | FoundOut
    | NotFoundOut
    | NotTrained
    | TooLarge
    | Fatal
)
