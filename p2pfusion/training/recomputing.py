"""Activation checkpointing: what the backward pass needs is computed a second time.

A model is a row of parts; of each only what comes in is kept, and the part runs again
when its gradients are due (Chen et al., arXiv 1604.06174). Gradients are the same, to
the bit. Parts are blocks where a model has them, and pieces of the graph of a traced
model, about as many as there are operators in each.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from torch import fx, nn
from torch._ops import OpOverload
from torch.utils.checkpoint import checkpoint

from p2pfusion.errors import ConfigError
from p2pfusion.training.tracing.network import Network

Run = Callable[..., object]


@contextlib.contextmanager
def recomputing(module: nn.Module) -> Iterator[None]:
    """While this lasts, the module's parts keep nothing but what comes in."""
    parts = _parts(module)
    for part, run in parts:
        part.forward = run
    try:
        yield
    finally:
        for part, _ in parts:
            del part.forward


def check_parts(module: nn.Module) -> None:
    """``ConfigError`` if the module has no parts."""
    if not _parts(module):
        raise ConfigError(
            "the model has no blocks that could be computed again",
            hint="leave out checkpointing, or train a smaller part of the model",
        )


def _parts(module: nn.Module) -> list[tuple[nn.Module, Run]]:
    if isinstance(module, Network):
        graph = module.training_graph
        return [(graph, _Pieces(graph.graph))]
    return [
        (block, partial(checkpoint, block.forward, use_reentrant=False))
        for group in module.modules()
        if isinstance(group, nn.ModuleList)
        for block in group
        if next(block.children(), None) is not None  # one layer alone is no block
    ]


@dataclass(frozen=True)
class _Piece:
    """Some operators in a row, what they need of those before, and what they give to
    those behind."""

    nodes: tuple[fx.Node, ...]
    needs: tuple[fx.Node, ...]
    gives: tuple[fx.Node, ...]
    again: bool
    """Whether it may run twice: what it computes does not depend on how often."""

    def __call__(self, *values: object) -> tuple[object, ...]:
        """Runs them."""
        known = dict(zip(self.needs, values, strict=True))
        for node in self.nodes:
            args = fx.map_arg(node.args, known.__getitem__)  # type: ignore[arg-type]
            kwargs = fx.map_arg(node.kwargs, known.__getitem__)  # type: ignore[arg-type]
            assert callable(node.target)
            known[node] = node.target(*args, **kwargs)
        return tuple(known[node] for node in self.gives)


class _Pieces:
    """A graph, piece by piece."""

    def __init__(self, graph: fx.Graph) -> None:
        nodes = list(graph.nodes)
        self._inputs = [node for node in nodes if node.op == "placeholder"]
        (self._output,) = (node for node in nodes if node.op == "output")
        computed = [node for node in nodes if node.op == "call_function"]
        self._pieces = [_piece(rows) for rows in _rows(computed)]

    def __call__(self, *given: object) -> object:
        """What the graph computes."""
        known = dict(zip(self._inputs, given, strict=True))
        for piece in self._pieces:
            values = [known[node] for node in piece.needs]
            run = partial(checkpoint, piece, use_reentrant=False)
            found = run(*values) if piece.again else piece(*values)
            known.update(zip(piece.gives, found, strict=True))
        return fx.map_arg(self._output.args[0], known.__getitem__)


def _rows(nodes: Sequence[fx.Node]) -> list[list[fx.Node]]:
    """Rows of about as many nodes as there are rows; none begins with what changes a
    value of the one before."""
    length = max(1, math.isqrt(len(nodes)))
    rows: list[list[fx.Node]] = []
    for node in nodes:
        if not rows or (len(rows[-1]) >= length and not _changes(node)):
            rows.append([])
        rows[-1].append(node)
    return rows


def _piece(nodes: Sequence[fx.Node]) -> _Piece:
    inside = set(nodes)
    needs = dict.fromkeys(
        given for node in nodes for given in node.all_input_nodes if given not in inside
    )
    gives = [node for node in nodes if any(user not in inside for user in node.users)]
    changed = {node.args[0] for node in nodes if _changes(node)}
    again = changed <= inside and not any(_counts(node) for node in nodes)
    return _Piece(tuple(nodes), tuple(needs), tuple(gives), again)


def _changes(node: fx.Node) -> bool:
    """Whether an operator changes what it is given."""
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _counts(node: fx.Node) -> bool:
    """Whether an operator moves running statistics every time."""
    return "batch_norm" in str(node.target)
