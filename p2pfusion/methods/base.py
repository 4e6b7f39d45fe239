"""The contract of a training method's pure side: who trains what, in which round.

A method is a frozen value built from the manifest's arguments. Its ``split`` is a pure
function of the context, the round and a member's rank, so any peer computes any peer's
split and nobody needs to send one. Integers only: no tensors, no clock, no state.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Protocol, TypeVar, runtime_checkable

from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.split.windows import exact_fraction

T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    """One peer of the roster, as far as planning is concerned."""

    peer: str
    split_fraction: Fraction
    announced: bytes = b""
    """What it has found out by itself and told everybody (``Announcing``); empty before
    that counts."""


@dataclass(frozen=True)
class PlanContext:
    """What all peers agree on. ``roster`` is ordered by rank."""

    seed: int
    rounds: int
    layout: Layout
    roster: tuple[Member, ...]

    @cached_property
    def fractions(self) -> tuple[Fraction, ...]:
        """The split fraction of every rank."""
        return tuple(member.split_fraction for member in self.roster)

    @cached_property
    def narrowest(self) -> Fraction:
        """The smallest split fraction."""
        return min(self.fractions)

    @cached_property
    def kept(self) -> dict[Hashable, object]:
        """What a method has found out for one rank and needs again for the next, under
        names that it chooses: with a thousand members nobody computes it for each."""
        return {}

    def once(self, name: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` gives, which is called only if nobody has asked for it yet."""
        try:
            found: T = self.kept[name]  # type: ignore[assignment]
        except KeyError:
            found = self.kept[name] = make()
        return found


class Method(Protocol):
    """Chooses every member's split in every round."""

    def split(self, context: PlanContext, round_index: int, rank: int) -> Split:
        """The split of the member with this rank; a function of its arguments alone.

        It may hold layers frozen (``split/depth.py``): those are not trained.
        """
        ...


@runtime_checkable
class Beginning(Protocol):
    """A method that also says how the model begins, in place of the model's own way."""

    def initial(self, layout: Layout) -> Layout:
        """The same model with other initial-value rules; ``ConfigError`` if it cannot
        begin so."""
        ...


@runtime_checkable
class Announcing(Protocol):
    """A method whose splits depend on what each peer finds out from its own data.

    The peer's trainer makes the announcement, once; it is part of the peer's signed
    record, counts from an epoch on, and stands in ``Member.announced``. Before that, a
    split must do without.
    """

    def check_announced(
        self, layout: Layout, split_fraction: Fraction, announced: bytes
    ) -> None:
        """``ConfigError`` if a member with this fraction cannot announce this."""
        ...

    def asks(self, layout: Layout, split_fraction: Fraction) -> dict[str, object]:
        """What the trainer of such a member is asked to find out, as plain data."""
        ...


@dataclass(frozen=True)
class Update:
    """What everybody knows of one peer's change of the model before it is added."""

    split_fraction: Fraction
    l1: float
    """The sum of the magnitudes of the change."""
    staleness: int
    """Rounds since the values from which it was trained."""
    distance: float
    """How far the whole model has moved in these rounds, as a sum of magnitudes."""


@runtime_checkable
class Shares(Protocol):
    """A method that adds shares of peers' changes to the model (*delta sum*), in place
    of the mean of their values: new = old + sum of share times change."""

    def shares(self, updates: Sequence[Update]) -> tuple[float, ...]:
        """The share of each of a round's updates; pure, and the same in any order."""
        ...

    def quorum(self, members: int) -> int:
        """With how many updates a round closes, of a roster of so many."""
        ...


@runtime_checkable
class Skipping(Protocol):
    """A method whose peers leave out frozen layers at random while they train."""

    @property
    def depth_dropout(self) -> float:
        """The chance of each frozen layer, anew in each step of training."""
        ...


def announcing(method: Method) -> Announcing | None:
    """The method, if its members announce something."""
    return method if isinstance(method, Announcing) else None


def sharing(method: Method) -> Shares | None:
    """The method, if it adds shares of changes.

    Where arguments decide that, a function makes an object of one of two classes.
    """
    return method if isinstance(method, Shares) else None


def skipping(method: Method) -> float:
    """The chance with which frozen layers are left out; 0 with most methods."""
    return method.depth_dropout if isinstance(method, Skipping) else 0.0


def initial_layout(method: Method, layout: Layout) -> Layout:
    """The layout of the manifest of a swarm that is founded with this method."""
    return method.initial(layout) if isinstance(method, Beginning) else layout


def split_fraction(value: object, where: str) -> Fraction:
    """A number in (0, 1] as an exact fraction; ``ConfigError`` naming ``where``."""
    try:
        fraction = exact_fraction(value)
    except ValueError:
        fraction = Fraction(0)
    if not 0 < fraction <= 1:
        raise ConfigError(
            f"{where}: the split fraction is not a number in (0, 1]",
            hint="0.5 trains half of every width; 1 trains the whole model",
        )
    return fraction
