"""From an ordinary module to a layout, and to dense modules of any widths.

Both graphs of the module (``graphs.py``) are read operator by operator (``calls.py``
and the rules); what is left free is an axis (``axes.py``). ``Trace.build`` then makes a
dense module (``network.py``) from rewritten graphs (``cutting.py``). Nothing is
believed that has not been computed: ``checking.py`` compares a trace with its module.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from p2pfusion.errors import ConfigError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.models.base import Width, cut_width
from p2pfusion.training.tracing.axes import (
    Held,
    dimension_of,
    find_layout,
    settle_axes,
)
from p2pfusion.training.tracing.blame import line_of_node
from p2pfusion.training.tracing.calls import Call, Spread, new_shape
from p2pfusion.training.tracing.checking import check_trace
from p2pfusion.training.tracing.cutting import Cutter, Reading
from p2pfusion.training.tracing.factors import (
    BatchMixedError,
    Factor,
    Shape,
    fresh,
    hold,
)
from p2pfusion.training.tracing.graphs import (
    CONSTANT,
    PARAMETER,
    RECORDS,
    Input,
    Program,
    write_down,
)
from p2pfusion.training.tracing.network import Constant, Network, Run
from p2pfusion.training.tracing.rest import Rest, rest_of
from p2pfusion.training.tracing.width_rules import rule_of

HINTS = "layout_hints"
"""The attribute of a module that says what tracing cannot know."""
WHOLE = "whole"
"""Its only key: patterns of names of parameters of which nothing may be cut."""

MODES = (True, False)
"""In training, and otherwise."""

DATA = "the data decides how large it is"
LOGITS = "the logits follow it"
UNREAD = "nothing reads it"
HINTED = "layout_hints says so"


@dataclass(frozen=True)
class Trace:
    """A module as data and graphs, without its values."""

    layout: Layout
    held: tuple[Held, ...]
    """What is whole in every sub-model, and why."""
    shape: tuple[int, ...]
    """Of the logits of one record."""
    axes: Mapping[Factor, str]
    constants: tuple[Constant, ...]
    statistics: frozenset[str]
    """Parameters that no gradient trains: running means and variances."""
    scalars: frozenset[str]
    """Parameters without a dimension; the layout gives them one of 1."""
    rest: Rest
    """What the module's state dictionary has beside the layout."""
    programs: Mapping[bool, tuple[Program, Spread]]
    """What is computed in training, and otherwise."""

    def build(self, sizes: Mapping[str, int]) -> Network:
        """The dense module with these widths; zeros for values.

        ``ConfigError`` if an axis cannot have such a width.
        """
        full = {axis.name: axis.size for axis in self.layout.axes}
        widths = {name: cut_width(sizes, name, full[name]) for name in full}
        places = {name: IndexSet.span(0, width) for name, width in widths.items()}
        segments = Split.of(places).segments(self.layout)
        return Network(
            shapes=[
                (parameter.name, segment.shape)
                for parameter, segment in zip(
                    self.layout.parameters, segments, strict=True
                )
            ],
            statistics=self.statistics,
            scalars=self.scalars,
            constants=self.constants,
            full_sizes=full,
            places=places,
            runs={mode: self._run(mode, widths) for mode in self.programs},
        )

    def _run(self, mode: bool, widths: Mapping[str, int]) -> Run:
        program, spread = self.programs[mode]
        sizes = {factor: widths[name] for factor, name in self.axes.items()}
        cutter = Cutter(program, spread, sizes)
        graph = cutter.cut()
        readings = tuple(_width(each, self.axes) for each in cutter.readings)
        return Run(graph, program.inputs, readings)


def _width(reading: Reading, names: Mapping[Factor, str]) -> Width:
    return Width(
        names[reading.axis],
        size=reading.size,
        full_size=reading.full_size,
        scaled=True,
        across=reading.across,
    )


def trace(module: nn.Module, example: Tensor) -> Trace:
    """The trace of a module for records like ``example``, (B, ...) with B of 2 or more.

    ``ConfigError`` says in one line why there is none.
    """
    assert len(example) > 1, "one record would look like what is broadcast"
    _check_parameters(module)
    with _buffers_kept(module):
        written = {mode: write_down(module, example, training=mode) for mode in MODES}
    statistics = _statistics(written[True])
    values = _values(module, statistics)
    programs = {mode: _naming(each, statistics) for mode, each in written.items()}
    constants = {
        name: value
        for each in programs.values()
        for name, value in each.constants.items()
    }
    shapes = {name: new_shape(value) for name, value in (values | constants).items()}
    spreads = {mode: _spread(each, shapes) for mode, each in programs.items()}
    own = {name: shapes[name] for name in values}
    _follow_hints(module, own)
    _hold_unread(programs.values(), own)
    settle_axes(own)
    found = find_layout(own, values, _layers(programs[True], list(own)))
    names = {factor: name for name, factor in found.axes.items()}
    traced = Trace(
        layout=found.layout,
        held=found.held,
        shape=programs[False].result[1:],
        axes=names,
        constants=tuple(
            Constant(name, value, tuple(dimension_of(f, names) for f in shapes[name]))
            for name, value in constants.items()
        ),
        statistics=statistics,
        scalars=frozenset(name for name, value in values.items() if not value.dim()),
        rest=rest_of(module, values),
        programs={mode: (programs[mode], spreads[mode]) for mode in MODES},
    )
    check_trace(module, example, found.layout, values, traced.build, traced.constants)
    return traced


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Running the module in training changes running means and variances; they are to
    begin as they were built."""
    before = {name: value.clone() for name, value in module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in module.named_buffers():
                value.copy_(before[name])


def _check_parameters(module: nn.Module) -> None:
    """Only what can travel: float32, and not too little of it."""
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            raise ConfigError(
                f"parameter {name} of the model is {parameter.dtype}, not float32",
                hint="build the model with torch's default type",
            )


def _statistics(program: Program) -> frozenset[str]:
    """Buffers that training changes: running means and variances, and no others.

    ``ConfigError`` names one of another kind. Counters, which are whole numbers, are
    left to themselves: they are never read.
    """
    inputs = dict(zip(program.placeholders, program.inputs, strict=True))
    found = set()
    for node in program.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, OpOverload):
            continue
        call = Call.of(node)
        if call.name in ("batch_norm", "instance_norm"):
            means = (call.tensor("running_mean"), call.tensor("running_var"))
            found |= {inputs[each].name for each in means if each is not None}
        changed = inputs.get(call.first) if call.node.all_input_nodes else None
        if call.name.endswith("_") and changed is not None:
            _check_counter(program, changed)
    return frozenset(found)


def _check_counter(program: Program, changed: Input) -> None:
    value = program.constants.get(changed.name)
    if value is None or value.is_floating_point():
        raise ConfigError(
            f"training changes {changed.name} of the model other than by gradients",
            hint="of buffers, only running means and variances can be averaged",
        )


def _values(module: nn.Module, statistics: frozenset[str]) -> dict[str, Tensor]:
    """All that travels, in the order in which a module with these names has it."""
    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    found: dict[str, Tensor] = {}
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        own = [*part._parameters, *part._buffers]
        for name in (prefix + each for each in own):
            if name in parameters:
                found[name] = parameters[name].detach()
            elif name in statistics:
                found[name] = buffers[name]
    return found


def _naming(program: Program, statistics: frozenset[str]) -> Program:
    """The same program; running means and variances are parameters."""
    inputs = tuple(
        Input(PARAMETER, each.name)
        if each.kind == CONSTANT and each.name in statistics
        else each
        for each in program.inputs
    )
    kept = {n: v for n, v in program.constants.items() if n not in statistics}
    return replace(program, inputs=inputs, constants=kept)


def _spread(program: Program, shapes: Mapping[str, Shape]) -> Spread:
    """The factors of all tensors of a graph."""
    spread = Spread()
    for node, each in zip(program.placeholders, program.inputs, strict=True):
        if each.kind == RECORDS:
            spread.shapes[node] = _records(node)
        else:
            spread.shapes[node] = shapes[each.name]
            spread.fixed.add(node)
    for node in program.graph.nodes:
        if node.op == "call_function":
            _follow(spread, node)
        elif node.op == "output":
            (answer,) = node.all_input_nodes
            batch, *rest = spread.shape(answer)
            if not any(factor.is_batch for factor in batch) or len(batch) != 1:
                raise BatchMixedError
            for factors in rest:
                hold(factors, LOGITS)
    return spread


def _records(node: fx.Node) -> Shape:
    count, *rest = node.meta["val"].shape
    return ((Factor(count, DATA, is_batch=True),), *(fresh(n, DATA) for n in rest))


def _follow(spread: Spread, node: fx.Node) -> None:
    if node.target is operator.getitem:
        several, place = spread.shapes[node.all_input_nodes[0]], node.args[1]
        assert isinstance(several, list) and isinstance(place, int)
        spread.shapes[node] = several[place]
    elif isinstance(node.target, OpOverload):
        call = Call.of(node)
        spread.shapes[node] = rule_of(call.name)(spread, call)
    else:
        where = line_of_node(node)
        raise ConfigError(
            f"the model cannot be traced{where}: {node.target} has no rule"
        )
    if all(each in spread.fixed for each in node.all_input_nodes):
        spread.fixed.add(node)


def _follow_hints(module: nn.Module, shapes: Mapping[str, Shape]) -> None:
    """Holds what the module's own hints name; ``ConfigError`` for other hints."""
    hints = getattr(module, HINTS, {})
    if not isinstance(hints, Mapping) or set(hints) - {WHOLE}:
        raise ConfigError(
            f"{HINTS} of the model has other keys than {WHOLE!r}",
            hint=f'for example {HINTS} = {{"{WHOLE}": ["encoder.*"]}}',
        )
    for pattern in hints.get(WHOLE, ()):
        named = [name for name in shapes if fnmatchcase(name, pattern)]
        if not named:
            raise ConfigError(f"{HINTS} of the model: no parameter is like {pattern!r}")
        for name in named:
            for factors in shapes[name]:
                hold(factors, HINTED)


def _hold_unread(programs: Iterable[Program], shapes: Mapping[str, Shape]) -> None:
    """A width that no operator reads is nobody's."""
    read = {
        each.name
        for program in programs
        for node, each in zip(program.placeholders, program.inputs, strict=True)
        if node.users
    }
    for name, shape in shapes.items():
        if name not in read:
            for factors in shape:
                hold(factors, UNREAD)


def _layers(program: Program, names: list[str]) -> dict[str, int]:
    """The layer of every parameter: modules count from the input, as they are read."""
    order = {node: place for place, node in enumerate(program.graph.nodes)}
    first: dict[str, int] = {}
    for node, each in zip(program.placeholders, program.inputs, strict=True):
        if each.kind == PARAMETER:
            read = min((order[user] for user in node.users), default=len(order))
            owner = each.name.rpartition(".")[0]
            first[owner] = min(read, first.get(owner, read))
    owners = {name: name.rpartition(".")[0] for name in names}
    ranks = {read: rank for rank, read in enumerate(sorted(set(first.values())))}
    return {name: ranks[first[owner]] for name, owner in owners.items()}
