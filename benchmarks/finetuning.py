"""Claim: finetuning the last layers saves what training keeps in memory; LoRA does not.

Counts, on a vision transformer of 6 blocks and 28-pixel images, what each way of
finetuning sends, what autograd keeps for the backward pass, what the trainer holds in
all (weights; gradients and AdamW's two moments of what is trained; kept activations)
and what it computes, in parts of finetuning everything. Counted, not timed: the same on
every machine. Norms are over the whole width, as in transformers that nobody cuts. What
LoRA computes is at least what is printed: of frozen maps only weights' gradients are
saved, and attention has none.

    python benchmarks/finetuning.py [--json] [--batch 64]

The last block with the head must keep at most 0.25 of the activations, and LoRA of rank
8 on every linear map at least 0.9; otherwise it exits with 1.

LoRA (Hu et al., arXiv 2106.09685) is here for this comparison alone (``lora/``): it is
no method of p2pfusion.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent / "lora"))

from lora_models import LoRA

from p2pfusion.methods import Member, PlanContext
from p2pfusion.methods.layer_finetune import LayerFinetune
from p2pfusion.split.depth import cut_in_depth
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.cost import saved_activation_bytes, training_flops
from p2pfusion.training.models import MODELS
from p2pfusion.training.submodel import build

BLOCKS = 6
ARGUMENTS: dict[str, object] = {
    **{"in_channels": 1, "image_size": 28, "patch": 4, "width": 64, "heads": 4},
    **{"layers": BLOCKS, "inner": 128, "group": 64, "classes": 10},
}
RANKS = (1, 8)
LAST_AT_MOST, LORA_AT_LEAST = 0.25, 0.9

ADAMW_COPIES = 4
"""Of what is trained: values, gradients, and two moments."""


@dataclass(frozen=True)
class Way:
    """What a way of finetuning costs, in parts of finetuning everything."""

    name: str
    upload: float
    activations: float
    memory: float
    flops: float


def network(layout: Layout, blocks: int) -> nn.Module:
    """The model of which the last so many blocks are trained, as a peer builds it."""
    roster = (Member("peer", Fraction(blocks, BLOCKS)),)
    context = PlanContext(0, 1, layout, roster)
    split = LayerFinetune().split(context, 0, 0)
    return build(MODELS["vit"], ARGUMENTS, layout, split)


def measured(batch: int) -> list[Way]:
    """All ways; the first is finetuning everything."""
    layout = cut_in_depth(MODELS["vit"].layout(ARGUMENTS))
    images = torch.zeros(batch, 1, 28, 28)
    whole = build(MODELS["vit"], ARGUMENTS, layout, Split.full(layout))
    forward_flops = training_flops(whole, images) // 3
    modules: dict[str, nn.Module] = {"everything": whole}
    for blocks in range(BLOCKS - 1, -1, -1):
        modules[f"last {blocks} of {BLOCKS}"] = network(layout, blocks)
    for rank in RANKS:
        base = build(MODELS["vit"], ARGUMENTS, layout, Split.full(layout))
        modules[f"LoRA, rank {rank}"] = with_lora(base, rank)
    rows = []
    for name, module in modules.items():
        held = _held(module, images)
        if isinstance(module, LoRA):
            # Errors go back through all that is frozen: it is no frozen part.
            module.requires_grad_(True)
            flops = training_flops(module, images) - forward_flops
        else:
            flops = training_flops(module, images)
        rows.append((name, *held, flops))
    _, *first = rows[0]
    return [
        Way(name, *(value / full for value, full in zip(found, first, strict=True)))
        for name, *found in rows
    ]


def with_lora(network: nn.Module, rank: int) -> LoRA:
    """A frozen network with trained additions, last norm and classifier."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(("norm.", "classifier.")))
    return LoRA(network, rank)


def _held(module: nn.Module, images: Tensor) -> tuple[int, int, int]:
    """Bytes that are sent, kept for the backward pass, and held in all."""
    sizes = [(p.numel() * 4, p.requires_grad) for p in module.parameters()]
    sent = sum(size for size, trained in sizes if trained)
    frozen = sum(size for size, trained in sizes if not trained)
    kept = saved_activation_bytes(module, images)
    return sent, kept, frozen + ADAMW_COPIES * sent + kept


def holds(ways: list[Way]) -> bool:
    """Whether the claim does."""
    found = {way.name: way.activations for way in ways}
    last, lora = found[f"last 1 of {BLOCKS}"], found["LoRA, rank 8"]
    return last <= LAST_AT_MOST and lora >= LORA_AT_LEAST


def main() -> int:
    """Counts, prints, and says by its exit code whether the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--batch", type=int, default=64, help="images per step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ways = measured(options.batch)
    if options.json:
        document = {
            "benchmark": "finetuning",
            "model": ARGUMENTS,
            "batch": options.batch,
            "ways": [asdict(way) for way in ways],
            "passed": holds(ways),
            "machine": {
                "python": platform.python_version(),
                "torch": torch.__version__,
            },
        }
        print(json.dumps(document))
    else:
        print("way             upload  activations  memory  FLOPs")
        for way in ways:
            print(
                f"{way.name:14}  {way.upload:6.3f}  {way.activations:11.3f}  "
                f"{way.memory:6.3f}  {way.flops:5.3f}"
            )
    return 0 if holds(ways) else 1


if __name__ == "__main__":
    raise SystemExit(main())
