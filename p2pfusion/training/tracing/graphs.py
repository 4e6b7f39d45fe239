"""What a module computes, as two graphs of torch's operators: in training, and else.

``torch.export`` runs the module once on tensors without values and writes down every
operator. What Python decides from values it cannot write down; that is an error, which
becomes one line here. Every graph is flat, and its inputs are named.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx.node import Argument

from p2pfusion.errors import ConfigError
from p2pfusion.training.tracing.blame import line_of_error, line_of_node

PARAMETER, CONSTANT, RECORDS = "parameter", "constant", "records"

ANSWER = "logits"
"""Of outputs that are no tensor this one counts, by the name that libraries use."""

_UNDECIDED = "GuardOnDataDependentSymNode"
"""torch's error for a decision that its tracer cannot take; it tells of symbols that
nobody has written."""

_PREFIX = "model."
_SWITCHES = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
"""Regions of a graph, and where in their arguments the region itself stands."""


@dataclass(frozen=True)
class Input:
    """What a placeholder of a graph stands for: a parameter or a constant by name (a
    buffer is one), or the records."""

    kind: str
    name: str = ""


@dataclass(frozen=True)
class Program:
    """One graph. ``inputs`` are its placeholders, in order; it gives the logits."""

    graph: fx.Graph
    inputs: tuple[Input, ...]
    constants: Mapping[str, Tensor]

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of the logits of the records that were traced."""
        (answer,) = [node for node in self.graph.nodes if node.op == "output"]
        (logits,) = answer.all_input_nodes
        return tuple(logits.meta["val"].shape)

    @property
    def placeholders(self) -> list[fx.Node]:
        """The nodes of the inputs."""
        return [node for node in self.graph.nodes if node.op == "placeholder"]


class _Answering(nn.Module):
    """A module whose output is a tensor, whatever else it gives beside the logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, records: Tensor) -> Tensor:
        """The logits: (B, classes) or (B, T, classes)."""
        found = self.model(records)
        if isinstance(found, Mapping):
            found = found.get(ANSWER, found)
        if not isinstance(found, Tensor) or found.dim() < 2:
            raise _no_tensor(found)
        return found


def _no_tensor(found: object) -> ConfigError:
    what = type(found).__name__
    if isinstance(found, Tensor):
        what = f"a tensor of shape {tuple(found.shape)}"
    return ConfigError(
        f"the model gives {what}, where a tensor of logits is needed",
        hint=f"its forward must return (B, classes), or a mapping with {ANSWER!r}",
    )


def write_down(module: nn.Module, example: Tensor, *, training: bool) -> Program:
    """The module's graph for records like ``example``; ``ConfigError`` if there is
    none, in one line."""
    was_training = module.training
    module.train(training)
    try:
        with torch.no_grad():
            _Answering(module)(example)  # its own errors are clearer without the tracer
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the model fails on records of shape {tuple(example.shape)[1:]}"
            f"{line_of_error(error)}: {_line(error)}",
            hint="its forward takes one batch of records, and nothing else",
        ) from error
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            found = torch.export.export(_Answering(module), (example,), strict=False)
    except Exception as error:  # whatever the model's own code may raise
        raise ConfigError(
            f"the model cannot be traced{line_of_error(error)}: {_line(error)}",
            hint="what it computes may follow from shapes, never from values: no "
            "branches on tensors and no shapes that depend on data",
        ) from error
    finally:
        module.train(was_training)
    unsettled = [node for node in found.graph.nodes if not _is_settled(node)]
    if unsettled:
        first = unsettled[0]
        raise ConfigError(
            f"the model cannot be traced{line_of_node(first)}: the shape of what "
            f"{first.target} gives follows from values",
            hint="every record must take the same way through it",
        )
    return _Flat(module, found, "training" if training else "evaluation").program()


def _is_settled(node: fx.Node) -> bool:
    """Whether all that is known of a node are plain numbers."""
    values = node.meta.get("val", ())
    for value in values if isinstance(values, (list, tuple)) else [values]:
        if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return False
        if isinstance(value, Tensor) and not all(type(n) is int for n in value.shape):
            return False
    return True


def _line(error: Exception) -> str:
    if type(error).__name__ == _UNDECIDED:
        return "which way it takes follows from values"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


class _Flat:
    """An exported program without regions, and with names for its inputs."""

    def __init__(self, module: nn.Module, exported: ExportedProgram, of: str) -> None:
        """``of``: which graph it is; both may call a constant the same."""
        self._exported, self._of = exported, of
        self._graph = fx.Graph()
        self._first = _first_names(module)
        self._constants: dict[str, Tensor] = {}

    def program(self) -> Program:
        """Inputs, operators, the logits."""
        env: dict[fx.Node, Argument] = {}
        inputs = []
        specs = iter(self._exported.graph_signature.input_specs)
        for node in self._exported.graph.nodes:
            if node.op == "placeholder":
                spec = next(specs)
                inputs.append(self._input(spec.kind, spec.target or ""))
                env[node] = self._graph.node_copy(node)
        (answer,) = self._copy(self._exported.graph_module, env)
        self._graph.output(answer)
        return Program(self._graph, tuple(inputs), self._constants)

    def _input(self, kind: InputKind, target: str) -> Input:
        name = target.removeprefix(_PREFIX)
        if kind == InputKind.PARAMETER:
            return Input(PARAMETER, self._first[name])
        if kind == InputKind.USER_INPUT:
            return Input(RECORDS)
        found = self._exported.state_dict.get(target)
        value = self._exported.constants[target] if found is None else found
        assert isinstance(value, Tensor), "records are the only other input"
        if kind != InputKind.BUFFER:
            name = f"{name} in {self._of}"
        self._constants[name] = value.detach().clone()
        return Input(CONSTANT, name)

    def _copy(
        self, owner: fx.GraphModule, env: dict[fx.Node, Argument]
    ) -> tuple[Argument, ...]:
        """Copies the operators of one graph; what it gives."""
        for node in owner.graph.nodes:
            if node.op == "output":
                found = fx.map_arg(node.args[0], lambda n: env[n])
                assert isinstance(found, (list, tuple)), "a graph gives several values"
                return tuple(found)
            if node.op != "call_function" or _is_check(node):
                continue
            name = getattr(node.target, "__name__", "")
            if name in _SWITCHES:
                env[node] = self._region(owner, node, name, env)
            elif name == "getitem" and isinstance(env[_node(node, 0)], tuple):
                env[node] = _member(env[_node(node, 0)], node.args[1])
            else:
                env[node] = self._graph.node_copy(node, lambda n: _the_node(env[n]))
        raise AssertionError("a graph has an output")

    def _region(
        self,
        owner: fx.GraphModule,
        node: fx.Node,
        name: str,
        env: dict[fx.Node, Argument],
    ) -> tuple[Argument, ...]:
        """A region in which gradients or precision are switched, as plain operators."""
        place = _SWITCHES[name]
        region = getattr(owner, str(_node(node, place).target))
        inner = [n for n in region.graph.nodes if n.op == "placeholder"]
        count = len(node.args)
        given = [env[_node(node, at)] for at in range(place + 1, count)]
        found = self._copy(region, dict(zip(inner, given, strict=True)))
        if name == "wrap_with_autocast" or node.args[0]:
            return found
        return tuple(self._detached(_the_node(each)) for each in found)

    def _detached(self, value: fx.Node) -> fx.Node:
        stopped = self._graph.call_function(torch.ops.aten.detach.default, (value,))
        stopped.meta = dict(value.meta)
        return stopped


def _member(several: Argument, place: Argument) -> Argument:
    assert isinstance(several, tuple) and isinstance(place, int)
    found: Argument = several[place]
    return found


def _node(node: fx.Node, place: int) -> fx.Node:
    """An argument of an operator that is the value of another."""
    return _the_node(node.args[place])


def _the_node(value: Argument) -> fx.Node:
    assert isinstance(value, fx.Node)
    return value


def _first_names(module: nn.Module) -> dict[str, str]:
    """Every name of a parameter, and the first one of the same parameter."""
    first: dict[int, str] = {}
    found = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        found[name] = first.setdefault(id(parameter), name)
    return found


def _is_check(node: fx.Node) -> bool:
    return "_assert" in str(node.target) or "_guards" in str(node.target)
