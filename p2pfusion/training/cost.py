"""What one training step costs, measured on the module itself.

FLOPs count two per multiply-add of convolutions and matrix products, and a backward
pass as two forward passes; norms and activations are not counted. Attention counts as
two matrix products over all pairs of tokens, also where half of them are not looked at.
Saved activations are the distinct tensors that autograd keeps for the backward pass,
parameters excluded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.data.records import Records
from p2pfusion.training.models import find_model
from p2pfusion.training.submodel import build

BACKWARD_FORWARDS = 2
"""A backward pass multiplies twice as often: for the inputs and for the weights."""


def _attention_flops(
    queries: Sequence[int],
    keys: Sequence[int],
    values: Sequence[int],
    *others: object,
    out_shape: object = None,
    **options: object,
) -> int:
    """Of two products: (B, heads, T, d) with keys, and the result with values."""
    pairs = 2 * math.prod(queries[:3]) * keys[2]
    return pairs * (queries[3] + values[3])


_OTHER_KERNELS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops
}
"""Kernels with matrix products inside that torch's own counter does not know."""


@dataclass(frozen=True)
class StepCost:
    """Of one training step: FLOPs per record, and bytes saved for one batch."""

    flops_per_example: int
    activation_bytes: int


def step_cost(
    model: str,
    arguments: Mapping[str, object],
    layout: Layout,
    split: Split,
    records: Records,
    batch: int,
) -> StepCost:
    """What a step costs on the sub-model of a split, with these records."""
    module = build(find_model(model), arguments, layout, split)
    chosen = torch.arange(min(batch, len(records)))
    inputs, _ = records.batch(chosen, torch.device("cpu"))
    flops = training_flops(module, inputs) // len(chosen)
    return StepCost(flops, saved_activation_bytes(module, inputs))


def training_flops(module: nn.Module, inputs: Tensor) -> int:
    """FLOPs of a forward and a backward pass over these inputs."""
    counter = FlopCounterMode(display=False, custom_mapping=_OTHER_KERNELS)
    with counter, torch.no_grad():
        module(inputs)
    return (1 + BACKWARD_FORWARDS) * int(counter.get_total_flops())


def saved_activation_bytes(module: nn.Module, inputs: Tensor) -> int:
    """Bytes that autograd keeps between the two passes over these inputs."""
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        # The output is held until the end: freed storages would be counted as one.
        output = module(inputs)
    total = sum(kept.values())
    del output
    return total
