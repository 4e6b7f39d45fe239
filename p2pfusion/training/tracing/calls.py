"""One operator of a graph, with its arguments by name, and what follows its dimensions.

``Spread`` remembers the factors of every tensor of a graph (``factors.py``). A *rule*
takes a spread and a call and gives the shapes of what the operator returns, having
unified and held what it must.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, fx
from torch._ops import OpOverload

from p2pfusion.training.tracing.factors import (
    Factors,
    Shape,
    fresh,
    hold,
    leaves,
    size,
    unify,
)

Shapes = Shape | list[Shape]
"""Of one tensor, or of several."""

POSITIONS = "it counts positions, which are not made of parameters"


@dataclass(frozen=True)
class Call:
    """A node that calls an operator."""

    node: fx.Node
    name: str
    """Of the operator, without overload: ``linear``."""
    arguments: Mapping[str, object]
    """All of them, by the names of the schema, defaults included."""

    @classmethod
    def of(cls, node: fx.Node) -> Call:
        """Of a node whose target is an operator of torch."""
        target = node.target
        assert isinstance(target, OpOverload)
        arguments: dict[str, object] = {}
        for place, argument in enumerate(target._schema.arguments):
            default = argument.default_value if argument.has_default_value() else None
            given = node.args[place] if place < len(node.args) else default
            arguments[argument.name] = node.kwargs.get(argument.name, given)
        return cls(node, target._schema.name.partition("::")[2], arguments)

    def tensor(self, key: str) -> fx.Node | None:
        """A tensor among the arguments, if it is given."""
        found = self.arguments.get(key)
        return found if isinstance(found, fx.Node) else None

    def whole(self, key: str) -> int:
        """A whole number."""
        found = self.arguments[key]
        assert isinstance(found, int)
        return found

    def wholes(self, key: str) -> list[int]:
        """A list of whole numbers; of one alone, too."""
        found = self.arguments[key]
        return [found] if isinstance(found, int) else list(found or [])  # type: ignore[call-overload]

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of what it returns."""
        return tuple(self.node.meta["val"].shape)

    @property
    def first(self) -> fx.Node:
        """The first tensor among the arguments: for most operators the only one."""
        return self.node.all_input_nodes[0]


Rule = Callable[["Spread", Call], Shapes]


@dataclass
class Spread:
    """The shapes of all tensors of one graph so far."""

    shapes: dict[fx.Node, Shapes] = field(default_factory=dict)
    fixed: set[fx.Node] = field(default_factory=set)
    """Tensors that follow from parameters and constants alone: weights."""

    def shape(self, node: fx.Node | None) -> Shape:
        """The factors of a tensor, as they are now."""
        assert node is not None
        found = self.shapes[node]
        assert isinstance(found, tuple)
        return tuple(leaves(factors) for factors in found)

    def broadcast(self, nodes: Sequence[fx.Node], length: int) -> list[Factors]:
        """Unifies tensors from the last dimension on; ``length`` dimensions."""
        return aligned([self.shape(node) for node in nodes], length)

    def hold_all(self, nodes: Sequence[fx.Node], reason: str) -> None:
        """Nothing of these tensors can be cut."""
        for node in nodes:
            found = self.shapes[node]
            for shape in found if isinstance(found, list) else [found]:
                for factors in shape:
                    hold(factors, reason)


def new_shape(value: Tensor, reason: str = "") -> Shape:
    """Factors for a tensor of which nothing is known."""
    return tuple(fresh(length, reason) for length in value.shape)


def place(dim: int, length: int) -> int:
    """A dimension counted from the front."""
    return dim % length if length else 0


def aligned(shapes: Iterable[Shape], length: int) -> list[Factors]:
    """Unifies shapes from the last dimension on, as operators broadcast them; the last
    ``length`` dimensions of what comes of it."""
    out: list[Factors] = [()] * length
    for shape in shapes:
        for back in range(1, len(shape) + 1):
            if size(leaves(shape[-back])) == 1:
                continue
            if out[-back]:
                unify(out[-back], shape[-back])
            else:
                out[-back] = shape[-back]
    return out
