"""The slow, obvious meaning of a sub-model: the module itself, with zeros elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.models.base import Width
from p2pfusion.training.tracing import Trace
from p2pfusion.training.tracing.checking import filled, silenced, without_factors


def randomise(module: nn.Module) -> None:
    """Every value random, also those that begin as a constant; variances positive."""
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.4, generator=random)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(generator=random)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0, generator=random)


def values_of(module: nn.Module, layout: Layout) -> dict[str, Tensor]:
    """What travels, by name."""
    found = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {p.name: found[p.name].detach() for p in layout.parameters}


def assert_silenced(
    module: nn.Module,
    traced: Trace,
    split: Split,
    records: Tensor,
    *,
    training: bool,
    double: bool = True,
) -> None:
    """Values and gradients of the sub-model are the module's own with zeros outside.

    ``double``: in float64, so that another order of sums hides nothing.
    """
    layout = traced.layout
    module = copy.deepcopy(module).train(training)
    dtype = torch.float64 if double else torch.float32
    module.to(dtype)
    exact = records.to(dtype) if records.is_floating_point() else records
    values = values_of(module, layout)
    small = filled(traced.build, layout, split, values).to(dtype).train(training)
    with torch.no_grad():
        for name, tensor in small.named_parameters():
            tensor.copy_(cut(values[name], layout, split, name).reshape(tensor.shape))
    without_factors(small)
    whole = {
        name: value.clone().requires_grad_(name not in traced.statistics)
        for name, value in values.items()
    }
    zeroed = silenced(layout, split, whole, traced.constants)
    zeroed = {n: v.to(dtype) if v.is_floating_point() else v for n, v in zeroed.items()}
    expected = logits(functional_call(module, zeroed, (exact,)))
    found = small(exact)
    close = {"rtol": 1e-9, "atol": 1e-9} if double else {"rtol": 2e-3, "atol": 2e-4}
    torch.testing.assert_close(found, expected, **close)
    for each in (found, expected):
        each.square().mean().backward()
    for name, parameter in small.named_parameters():
        if name in traced.statistics:
            continue
        gradient = whole[name].grad
        assert gradient is not None and parameter.grad is not None, name
        mine = cut(gradient, layout, split, name).reshape(parameter.shape)
        torch.testing.assert_close(parameter.grad, mine, **close)


def cut(value: Tensor, layout: Layout, split: Split, name: str) -> Tensor:
    """The split's part of one parameter."""
    index = [p.name for p in layout.parameters].index(name)
    for dim, places in enumerate(split.segment(layout, index).sets[: value.dim()]):
        value = value.index_select(dim, torch.tensor(list(places)))
    return value


def logits(found: object) -> Tensor:
    chosen = found["logits"] if isinstance(found, Mapping) else found
    assert isinstance(chosen, Tensor)
    return chosen


def factors(network: nn.Module) -> list[Width]:
    return [part for part in network.modules() if isinstance(part, Width)]
