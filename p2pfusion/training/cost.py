"""What one training step costs, measured on the module itself.

FLOPs count two per multiply-add of convolutions and matrix products, and a backward
pass as two forward passes, and none through what is not trained, which lies before
all that is; norms and activations are not counted. Attention counts as two matrix
products over all pairs of tokens, also where half of them are not looked at. A frozen
sub-model that runs beside the trained one costs its forward pass up to the
projection; the trained one then has the projection, too. Saved activations are the
distinct tensors that autograd keeps for the backward pass, parameters excluded; of a
frozen pass these are its projected features.

Where all exits of a network are trained, all of them are counted.

A self-supervised objective costs two views of each record in the trained branch,
forward and backward, and two forward in each copy that runs beside it: the momentum
branch, and what was received where that is aligned with. What LW-FedSSL (arXiv
2401.11647) counts, one view in the trained branch alone, is beside it. Neither
includes how views are made, nor comparisons of embeddings.

Where frozen blocks are left out at random, FLOPs are expected values: those of a step
with all blocks and of one with none of these, weighted by the chance. That is exact,
because each block costs what it costs whatever the others do.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import flop_registry

from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.data.records import Records
from p2pfusion.training.models import find_model
from p2pfusion.training.models.heads import Embedding
from p2pfusion.training.models.projection import Projecting
from p2pfusion.training.models.skipping import DepthDropout
from p2pfusion.training.models.units import Exiting
from p2pfusion.training.objectives import SELF_SUPERVISED, create_objective
from p2pfusion.training.objectives.contrastive import contrast, projected
from p2pfusion.training.objectives.self_supervised import SelfSupervised, embeddings
from p2pfusion.training.submodel import build
from p2pfusion.training.uncompiled import Uncompiled

CPU = torch.device("cpu")

Widths = tuple[tuple[str, int], ...]
"""How many indices of each axis a split has."""

BACKWARD_FORWARDS = 2
"""A backward pass multiplies twice as often: for the inputs and for the weights."""


def _attention_flops(
    queries: Tensor, keys: Tensor, values: Tensor, *_: object, **__: object
) -> int:
    """Of two products: (B, heads, T, d) with keys, and the result with values."""
    pairs = 2 * math.prod(queries.shape[:3]) * keys.shape[2]
    return pairs * (queries.shape[3] + values.shape[3])


_KERNELS: Mapping[object, Callable[..., int]] = {
    **flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}
"""What each kernel computes: torch's own table, and one that it lacks."""


class _Counter(Uncompiled):
    """Counts the FLOPs of every kernel that runs inside.

    Torch's ``FlopCounterMode`` counts the same, and loads torch's compiler for it,
    which takes seconds and leaves a directory behind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        options = dict(kwargs or {})
        counts = _KERNELS.get(func.overloadpacket)
        if counts is None:
            with self:  # what it is made of may be known
                parts = func.decompose(*args, **options)
            if parts is not NotImplemented:
                return parts
        found = func(*args, **options)
        if counts is not None:
            self.flops += counts(*args, **options, out_val=found)
        return found


@dataclass(frozen=True)
class StepCost:
    """Of one training step: FLOPs per record, and bytes saved for one batch."""

    flops_per_example: int
    activation_bytes: int
    one_view_flops: int = 0
    """Per record, of one view in the trained branch; 0 where there are no views."""


class Meter:
    """Adds up what the steps of an experiment cost. Sub-models of one width cost the
    same, and are measured once."""

    def __init__(
        self,
        model: str,
        arguments: Mapping[str, object],
        layout: Layout,
        records: Records,
        *,
        batch: int,
        objective: str,
        options: Mapping[str, object] | None = None,
        depth_dropout: float = 0.0,
    ) -> None:
        """``records``: any that are like those trained on. ``options``: those of the
        objective that are not as usual."""
        self._model, self._arguments, self._layout = model, arguments, layout
        self._records, self._batch = records, batch
        self._objective, self._options = objective, options
        self._depth_dropout = depth_dropout
        self._costs: dict[tuple[Widths, ...], StepCost] = {}
        self.flops = 0
        self.one_view_flops = 0
        self.activation_bytes = 0
        """Of the largest step."""

    def count(self, split: Split, frozen: Sequence[Split], example_count: int) -> int:
        """So many records have been trained on, each as often as it was seen; the
        FLOPs of that."""
        trained = split.trained.sizes()
        sizes = (trained, *(each.sizes() for each in (split, *frozen)))
        key = tuple(tuple(sorted(widths.items())) for widths in sizes)
        if key not in self._costs:
            self._costs[key] = step_cost(
                self._model,
                self._arguments,
                self._layout,
                split,
                self._records,
                self._batch,
                frozen,
                objective=self._objective,
                options=self._options,
                depth_dropout=self._depth_dropout,
            )
        cost = self._costs[key]
        self.flops += cost.flops_per_example * example_count
        self.one_view_flops += cost.one_view_flops * example_count
        self.activation_bytes = max(self.activation_bytes, cost.activation_bytes)
        return cost.flops_per_example * example_count


def costs_told(meters: Sequence[Meter], peer_rounds: int) -> dict[str, object]:
    """What a result says of the costs, of one peer in one round."""
    told: dict[str, object] = {}
    one_view = sum(meter.one_view_flops for meter in meters)
    if one_view:
        told["one_view_flops_per_peer_round"] = one_view / peer_rounds
    return {
        "train_flops_per_peer_round": sum(m.flops for m in meters) / peer_rounds,
        **told,
        "peak_activation_bytes": max(meter.activation_bytes for meter in meters),
    }


def step_cost(
    model: str,
    arguments: Mapping[str, object],
    layout: Layout,
    split: Split,
    records: Records,
    batch: int,
    frozen: Sequence[Split] = (),
    *,
    objective: str = "task",
    options: Mapping[str, object] | None = None,
    depth_dropout: float = 0.0,
) -> StepCost:
    """What a step costs on the sub-model of a split, with these records.

    ``frozen``: the splits of the sub-models that run beside it; ``options``: those of
    the objective that are not as usual. ``depth_dropout``: the chance of frozen blocks
    to be left out; FLOPs are expected values then, and bytes those of the largest step.
    """
    found = find_model(model)
    module = build(found, arguments, layout, split)
    dropout = DepthDropout(module, depth_dropout, torch.Generator())
    inputs, _ = records.batch(torch.arange(min(batch, len(records))), CPU)
    measure = partial(_plain_cost, module, inputs)
    if objective in SELF_SUPERVISED:
        made = create_objective({**(options or {}), "name": objective}, (), CPU, layout)
        assert isinstance(made, SelfSupervised) and isinstance(module, Embedding)
        made.begin(module, split, torch.Generator())
        measure = partial(views_cost, made, module, inputs)
    elif objective == "exits":
        assert isinstance(module, Exiting)
        measure = partial(_exits_cost, module, inputs)
    elif frozen:
        others = [build(found, arguments, layout, other) for other in frozen]
        measure = partial(_plain_cost, module, inputs, others)
    whole = measure()
    if not dropout.count:
        return whole
    dropout.leave_out_all()
    return _expected(whole, measure(), depth_dropout)


def _expected(whole: StepCost, bare: StepCost, chance: float) -> StepCost:
    """Of a step in which each of some blocks is left out with this chance."""

    def mean(most: int, least: int) -> int:
        return round(most - chance * (most - least))

    return StepCost(
        mean(whole.flops_per_example, bare.flops_per_example),
        max(whole.activation_bytes, bare.activation_bytes),
        mean(whole.one_view_flops, bare.one_view_flops),
    )


def _plain_cost(
    module: nn.Module, inputs: Tensor, others: Sequence[nn.Module] = ()
) -> StepCost:
    flops = training_flops(module, inputs, others) // len(inputs)
    return StepCost(flops, saved_activation_bytes(module, inputs, others))


def _exits_cost(module: Exiting, inputs: Tensor) -> StepCost:
    answers = partial(module.answers, inputs)
    flops = _both_passes(module, answers) // len(inputs)
    return StepCost(flops, _saved_bytes(module, answers))


def views_cost(
    objective: SelfSupervised, module: Embedding, inputs: Tensor
) -> StepCost:
    """What a step of an objective costs whose round has begun, on these images."""
    views = inputs.repeat(2, 1, 1, 1)
    one_view = _both_passes(module, lambda: objective.online(module, inputs))
    beside = _flops(lambda: [embeddings(each, views) for each in objective.copies])
    flops = 2 * one_view + beside
    return StepCost(
        flops // len(inputs),
        _saved_bytes(module, lambda: objective.loss_of(module, views)),
        one_view // len(inputs),
    )


def training_flops(
    module: nn.Module, inputs: Tensor, frozen: Sequence[nn.Module] = ()
) -> int:
    """FLOPs of a forward and a backward pass over these inputs, and of the frozen
    sub-models' forward passes."""
    own = _both_passes(module, lambda: _outputs(module, inputs, contrasts=bool(frozen)))
    return own + _flops(lambda: _features(frozen, inputs))


@torch.no_grad()
def _both_passes(module: nn.Module, run: Callable[[], object]) -> int:
    """FLOPs of what runs, and of a backward pass down to the lowest trained layer."""
    counter = _Counter()
    below: list[int] = []

    def enters(*_: object) -> None:
        below.append(-counter.flops)

    def leaves(*_: object) -> None:
        below.append(counter.flops)

    with contextlib.ExitStack() as hooks, counter:
        for part in _frozen_parts(module):
            hooks.callback(part.register_forward_pre_hook(enters).remove)
            hooks.callback(part.register_forward_hook(leaves).remove)
        run()
    forward = counter.flops
    return (1 + BACKWARD_FORWARDS) * forward - BACKWARD_FORWARDS * sum(below)


def _frozen_parts(module: nn.Module) -> Iterator[nn.Module]:
    """The largest parts of a module of which nothing is trained."""
    for part in module.children():
        trained = [parameter.requires_grad for parameter in part.parameters()]
        is_run = not isinstance(part, nn.ModuleList)  # its members are, one by one
        if is_run and trained and not any(trained):
            yield part
        else:
            yield from _frozen_parts(part)


@torch.no_grad()
def _flops(run: Callable[[], object]) -> int:
    counter = _Counter()
    with counter:
        run()
    return counter.flops


def _outputs(module: nn.Module, inputs: Tensor, *, contrasts: bool) -> list[Tensor]:
    """Logits, and the projected features where they count."""
    if not contrasts:
        return [module(inputs)]
    assert isinstance(module, Projecting)
    last = module.last(inputs)
    return [module.logits(last), module.project(last)]


def _features(frozen: Sequence[nn.Module], inputs: Tensor) -> list[Tensor]:
    return [projected(m, inputs) for m in frozen if isinstance(m, Projecting)]


def saved_activation_bytes(
    module: nn.Module, inputs: Tensor, frozen: Sequence[nn.Module] = ()
) -> int:
    """Bytes that autograd keeps between the two passes over these inputs."""
    others = _features(frozen, inputs)

    def run() -> list[Tensor]:
        output = _outputs(module, inputs, contrasts=bool(frozen))
        if others:
            output.append(contrast(output[-1], others, 1.0))
        return output

    return _saved_bytes(module, run)


def _saved_bytes(module: nn.Module, run: Callable[[], object]) -> int:
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        # The output is held until the end: freed storages would be counted as one.
        output = run()
    total = sum(kept.values())
    del output
    return total
