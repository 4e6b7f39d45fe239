"""Dimensions of tensors as products of factors, and which factors are the same width.

A dimension is a list of *factors*, the slowest first, whose sizes multiply to its own:
queries, keys and values of four heads are 3 x 4 x 16 rows. Two factors that always have
to be cut alike are *unified*; a factor that turns out to be a product is *split*; one
that must stay whole is *held*, with the reason. Whatever is not held at the end, and is
a dimension of a parameter, is an axis.

Size 1 has no factors, so what is broadcast follows nothing. Plain Python: no tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod

from p2pfusion.errors import ConfigError

Factors = tuple["Factor", ...]
"""One dimension."""
Shape = tuple[Factors, ...]
"""One tensor."""


class BatchMixedError(ConfigError):
    """The number of records in a batch is part of something else."""

    def __init__(self) -> None:
        super().__init__(
            "the model mixes the batch's dimension with others",
            hint="its first dimension must stay apart: one record, one row of outputs",
        )


class Factor:
    """Part of a dimension. Equal only to itself; ``leaves`` finds what became of it."""

    def __init__(self, size: int, reason: str = "", *, is_batch: bool = False) -> None:
        self.size = size
        self.is_batch = is_batch
        self._reason = reason
        self._became: Factors = ()

    def leaves(self) -> Iterator[Factor]:
        """What it is now: itself, the factor it was unified with, or its parts."""
        if not self._became:
            yield self
        for part in self._became:
            yield from part.leaves()

    @property
    def reason(self) -> str:
        """Why it is held whole; empty if it is not. Of a leaf."""
        return self._reason

    def hold(self, reason: str) -> None:
        """It has to stay whole; the first reason counts."""
        for leaf in self.leaves():
            leaf._reason = leaf._reason or reason

    def join(self, other: Factor) -> None:
        """Both are leaves of one size: from now on they are one."""
        if self is other:
            return
        other._reason = other._reason or self._reason
        other.is_batch = other.is_batch or self.is_batch
        self._became = (other,)

    def split(self, first: int) -> None:
        """A leaf becomes two, the slower of which has this size."""
        if self.is_batch:
            raise BatchMixedError
        parts = (first, self.size // first)
        self._became = tuple(Factor(size, self._reason) for size in parts)


def leaves(factors: Iterable[Factor]) -> Factors:
    """What a dimension consists of now."""
    return tuple(leaf for factor in factors for leaf in factor.leaves())


def size(factors: Iterable[Factor]) -> int:
    """The dimension's size."""
    return prod(factor.size for factor in factors)


def hold(factors: Iterable[Factor], reason: str) -> None:
    """All of a dimension has to stay whole."""
    for factor in factors:
        factor.hold(reason)


def fresh(length: int, reason: str = "") -> Factors:
    """A new dimension of that length; without a reason it can be cut so far."""
    return (Factor(length, reason),) if length != 1 else ()


def unify(one: Iterable[Factor], other: Iterable[Factor]) -> None:
    """Two dimensions of one size are cut alike from now on.

    Where no product of factors is a refinement of both, both are held.
    """
    mine, theirs = leaves(one), leaves(other)
    while mine and theirs:
        a, b = mine[0], theirs[0]
        if a.size == b.size:
            a.join(b)
            mine, theirs = mine[1:], theirs[1:]
        elif a.size % b.size == 0:
            a.split(b.size)
        elif b.size % a.size == 0:
            b.split(a.size)
        else:
            _give_up((*mine, *theirs))
            return
        mine, theirs = leaves(mine), leaves(theirs)
    assert not mine and not theirs, "only dimensions of one size are unified"


def regroup(factors: Iterable[Factor], sizes: Sequence[int]) -> Shape:
    """The same factors as dimensions of these sizes, split where a border lies inside.

    Where that cannot be, all are held and new ones, held too, stand in their place.
    """
    rest = leaves(factors)
    groups: list[Factors] = []
    for wanted in sizes:
        group: list[Factor] = []
        while wanted > 1:
            first = rest[0]
            if first.size > wanted and first.size % wanted == 0:
                first.split(wanted)
                rest = leaves(rest)
            elif wanted % first.size == 0:
                group.append(first)
                wanted //= first.size
                rest = rest[1:]
            else:
                _give_up((*rest, *group, *(f for g in groups for f in g)))
                return tuple(fresh(each, UNEVEN) for each in sizes)
        groups.append(tuple(group))
    return tuple(groups)


UNEVEN = "it is reshaped in a way that does not keep its parts together"


def _give_up(factors: Sequence[Factor]) -> None:
    if any(leaf.is_batch for leaf in leaves(factors)):
        raise BatchMixedError
    hold(factors, UNEVEN)
