"""What a module's state dictionary has beside its layout, and that both are all."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from p2pfusion.split.segment import Split
from p2pfusion.store import write_checkpoint
from p2pfusion.store.beside import read_beside
from p2pfusion.store.pretrained import Pretrained
from p2pfusion.training.outside import MODEL, allow
from p2pfusion.training.tracing import trace
from p2pfusion.training.whole import save_beside
from tests.training.tracing.modules import TOKENS, tokens


class Everything(nn.Module):
    """Tied tables, a layer under two names, a number, statistics, buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(TOKENS, 16)
        self.first = nn.Linear(16, 16)
        self.again = self.first
        self.norm = nn.BatchNorm1d(16)
        self.gain = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("mask", torch.arange(16) % 3 == 0)
        self.register_buffer("scratch", torch.ones(2), persistent=False)
        self.head = nn.Linear(16, TOKENS, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        values = self.again(self.first(self.table(tokens)).relu()) * self.gain
        values = self.norm(values.transpose(1, 2)).transpose(1, 2)
        logits: Tensor = self.head(torch.where(self.mask, values, 0.0))
        return logits


def build(vocabulary: int = TOKENS) -> nn.Module:
    return Everything()


def test_ties_and_buffers_are_told_apart() -> None:
    found = trace(Everything(), tokens())
    assert found.rest.tied == {
        "again.weight": "first.weight",
        "again.bias": "first.bias",
        "head.weight": "table.weight",
    }
    assert set(found.rest.buffers) == {"mask", "norm.num_batches_tracked"}
    assert found.scalars == {"gain"}
    assert found.rest.buffers["norm.num_batches_tracked"] == 0


def test_running_statistics_begin_as_they_were_built() -> None:
    layout = trace(Everything(), tokens()).layout
    rules = {p.name: p.initial.kind for p in layout.parameters}
    assert rules["norm.running_mean"] == "zeros"
    assert rules["norm.running_var"] == "ones"


def test_a_whole_model_is_loaded_strictly_by_the_module(tmp_path: Path) -> None:
    name = f"{__name__}:build"
    allow(MODEL, [name])
    arguments = {"task": "language", "shape": [], "length": 6, "vocabulary": TOKENS}
    save_beside(name, {**arguments, "classes": TOKENS}, tmp_path / "beside")
    layout = trace(Everything(), tokens()).layout
    path = tmp_path / "model.safetensors"
    values = torch.randn(layout.size)
    with write_checkpoint(path, layout, {}, read_beside(tmp_path / "beside")) as writer:
        writer.write_flat(tuple(Split.full(layout).segments(layout)), values.numpy())
    module = Everything()
    assert [p.name for p in layout.parameters[:2]] == ["gain", "table.weight"]
    module.load_state_dict(load_file(path), strict=True)
    assert module.head.weight is module.table.weight
    assert torch.equal(module.table.weight.flatten(), values[1 : 1 + TOKENS * 16])
    assert Pretrained(path, layout).has(0), "and a swarm can begin with it"
