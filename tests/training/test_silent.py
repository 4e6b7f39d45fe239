"""A model that begins silent is the mean of the small ones that it consists of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from p2pfusion.split.blocks import block_window, silenced
from p2pfusion.split.segment import Split
from p2pfusion.store import Store
from p2pfusion.training import submodel
from p2pfusion.training.models import MODELS, Model

RANDOM = torch.Generator().manual_seed(1)
IMAGES = torch.randn(5, 1, 8, 8, generator=RANDOM).double()
TOKENS = torch.randint(1, 11, (5, 8), generator=RANDOM)
STACK = {"width": 16, "heads": 4, "layers": 2, "inner": 8, "group": 2}

CASES: list[tuple[str, Mapping[str, object]]] = [
    ("mlp", {"hidden": [16, 12, 8]}),
    ("cnn", {"channels": [16, 8, 16], "group": 2}),
    ("resnet18", {"in_channels": 1, "width": 8, "group": 2}),
    ("vit", {**STACK, "in_channels": 1, "image_size": 8}),
    ("transformer", {**STACK, "vocabulary": 11, "classes": 11, "length": 8}),
    ("transformer-classifier", {**STACK, "vocabulary": 11, "length": 8}),
]


@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.parametrize("blocks", [2, 4])
def test_logits_are_the_mean_of_the_blocks(
    name: str, arguments: Mapping[str, object], blocks: int, tmp_path: Path
) -> None:
    model: Model = MODELS[name]
    layout = silenced(model.layout(arguments), blocks)
    store = Store.create(tmp_path / "store", layout, seed=3)

    def logits(split: Split) -> torch.Tensor:
        module = submodel.build(model, arguments, layout, split)
        submodel.load(module, submodel.cut(store.read, layout, split))
        inputs = TOKENS if name.startswith("transformer") else IMAGES
        found: torch.Tensor = module.double()(inputs)
        return found

    def of_blocks(first: int, count: int) -> Split:
        axes = layout.axes
        return Split.of({a.name: block_window(a, first, count, blocks) for a in axes})

    whole = logits(Split.full(layout))
    for count in (1, blocks // 2):
        starts = range(0, blocks, count)
        parts = [logits(of_blocks(b, count)) for b in starts]
        torch.testing.assert_close(whole, torch.stack(parts).mean(0))
