"""A trace is compared with its module before anybody uses it.

Two comparisons on the example's records, both outside training, where nothing is drawn:
the whole model, with more records than it was traced with; and the sub-model of
every second part of every axis, without factors, with the module itself in which all
other values are zero. A rule that is wrong for this module is found here, and so is a
module that computes with the number of records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from p2pfusion.errors import ConfigError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.models.base import Located, Width
from p2pfusion.training.tracing.network import Constant

RELATIVE = 1e-3
"""Of the largest logit: sums in another order differ by far less."""

Build = Callable[[Mapping[str, int]], Located]
Values = Mapping[str, Tensor]


def every_second(layout: Layout) -> Split:
    """Every second cell of every axis."""
    return Split.of(
        {
            axis.name: axis.cells(IndexSet.from_indices(range(0, axis.cell_count, 2)))
            for axis in layout.axes
        }
    )


def inside(shape: tuple[int, ...], sets: tuple[IndexSet, ...]) -> Tensor:
    """Ones where all indices are in the sets, of that shape; else zeros."""
    mask = torch.ones(shape)
    for dim, indices in enumerate(sets[: len(shape)]):
        row = torch.zeros(shape[dim])
        row[list(indices)] = 1.0
        mask = mask * row.reshape([-1] + [1] * (len(shape) - dim - 1))
    return mask


def silenced(
    layout: Layout, split: Split, values: Values, constants: tuple[Constant, ...]
) -> dict[str, Tensor]:
    """All values of the full model, zero outside a split."""
    found = {}
    segments = split.segments(layout)
    for parameter, segment in zip(layout.parameters, segments, strict=True):
        value = values[parameter.name]
        found[parameter.name] = value * inside(tuple(value.shape), segment.sets)
    sizes = {axis.name: axis.size for axis in layout.axes}
    for constant in constants:
        sets = tuple(
            d.expand(split[d.axis], sizes[d.axis])
            if d.axis
            else IndexSet.span(0, d.size)
            for d in constant.dimensions
        )
        if any(d.axis for d in constant.dimensions):
            mask = inside(tuple(constant.value.shape), sets)
            value = constant.value
            found[constant.name] = (value * mask).to(value.dtype)
    return found


@torch.no_grad()
def check_trace(
    module: nn.Module,
    example: Tensor,
    layout: Layout,
    values: Values,
    build: Build,
    constants: tuple[Constant, ...],
) -> None:
    """``ConfigError`` if what was traced does not compute what the module computes."""
    was_training = module.training
    module.eval()
    try:
        _check_whole(module, torch.cat([example, example[1:]]), layout, values, build)
        _check_half(module, example, layout, values, build, constants)
    finally:
        module.train(was_training)


def _check_whole(
    module: nn.Module, records: Tensor, layout: Layout, values: Values, build: Build
) -> None:
    network = filled(build, layout, Split.full(layout), values)
    try:
        found = network(records)
    except (RuntimeError, IndexError, ValueError) as error:
        raise _counts_records(str(error)) from error
    if not _alike(found, _logits(module(records))):
        raise _counts_records("the logits differ")


def _counts_records(why: str) -> ConfigError:
    return ConfigError(
        "what was traced of the model fails for a batch of another size: "
        + why.splitlines()[0],
        hint="its shapes must not be made of the number of records",
    )


def _check_half(
    module: nn.Module,
    records: Tensor,
    layout: Layout,
    values: Values,
    build: Build,
    constants: tuple[Constant, ...],
) -> None:
    split = every_second(layout)
    network = filled(build, layout, split, values)
    without_factors(network)
    zeroed = silenced(layout, split, values, constants)
    if not _alike(
        network(records), _logits(functional_call(module, zeroed, (records,)))
    ):
        raise ConfigError(
            "a part of the model does not compute what the model computes where the "
            "rest is zero",
            hint='hold what cannot be cut: layout_hints = {"whole": ["name.*"]}',
        )


def filled(build: Build, layout: Layout, split: Split, values: Values) -> Located:
    """The dense module of a split with the values of the full model."""
    network = build(split.sizes()).eval()
    network.locate(split)
    named = dict(network.named_parameters())
    segments = split.segments(layout)
    with torch.no_grad():
        for parameter, segment in zip(layout.parameters, segments, strict=True):
            value = values[parameter.name]
            for dim, indices in enumerate(segment.sets[: value.dim()]):
                value = value.index_select(dim, torch.tensor(list(indices)))
            mine = named[parameter.name]
            mine.copy_(value.reshape(mine.shape))
    return network


def without_factors(network: nn.Module) -> None:
    """Sums are no larger than those of the full model in which the rest is zero."""
    for part in network.modules():
        if isinstance(part, Width):
            part.factor = 1.0


def _logits(found: object) -> Tensor:
    logits = found["logits"] if isinstance(found, Mapping) else found
    assert isinstance(logits, Tensor)
    return logits


def _alike(found: Tensor, expected: Tensor) -> bool:
    bound = RELATIVE * max(1e-3, float(expected.abs().max()))
    return torch.allclose(found, expected, rtol=0.0, atol=bound, equal_nan=True)
