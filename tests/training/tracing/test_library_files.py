"""Files between a swarm and Hugging Face's library, both ways, values compared.

Skipped where ``transformers`` is not installed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from p2pfusion.split.segment import Split
from p2pfusion.store import read_checkpoint, write_checkpoint
from p2pfusion.store.beside import Beside
from p2pfusion.store.foreign import Wanted, import_model
from p2pfusion.training.tracing import Trace, trace
from tests.training.tracing.test_libraries import TEXTS, records

NAMES = ("transformers gpt2", "transformers bert", "transformers llama")


def traced(name: str) -> tuple[nn.Module, Trace]:
    torch.manual_seed(0)
    module = TEXTS[name]()
    return module, trace(module, records(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_library_loads_what_a_swarm_exports(name: str, tmp_path: Path) -> None:
    module, found = traced(name)
    layout, path = found.layout, tmp_path / "model.safetensors"
    values = torch.randn(layout.size).mul(0.05)
    beside = Beside(found.rest.tied, found.scalars)
    assert not found.rest.buffers, "none that these libraries keep"
    with write_checkpoint(path, layout, {"format": "pt"}, beside) as writer:
        writer.write_flat(tuple(Split.full(layout).segments(layout)), values.numpy())
    module.load_state_dict(load_file(path), strict=True)
    module.config.save_pretrained(tmp_path)  # type: ignore[union-attr,operator]
    theirs = type(module).from_pretrained(tmp_path)  # type: ignore[attr-defined]
    given = records(name)
    with torch.inference_mode():
        expected = module.eval()(given).logits
        assert torch.equal(theirs.eval()(given).logits, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_swarm_begins_with_what_the_library_saves(name: str, tmp_path: Path) -> None:
    module, found = traced(name)
    module.save_pretrained(tmp_path)  # type: ignore[operator]
    wanted = Wanted(found.layout, found.rest.tied, frozenset(found.rest.buffers))
    target = tmp_path / "imported"
    assert import_model(tmp_path / "model.safetensors", target, wanted, {}) == []
    values, _ = read_checkpoint(target)
    parameters = dict(module.named_parameters())
    assert set(values) == set(parameters)
    for key, value in parameters.items():
        assert torch.equal(torch.from_numpy(values[key]), value.detach())


@pytest.mark.slow
def test_the_inner_model_s_file_fits_the_one_with_a_head(tmp_path: Path) -> None:
    """As GPT-2 itself is published: without the prefix of the outer module."""
    module, found = traced("transformers gpt2")
    module.transformer.save_pretrained(tmp_path)  # type: ignore[union-attr,operator]
    wanted = Wanted(found.layout, found.rest.tied)
    target = tmp_path / "imported"
    assert import_model(tmp_path / "model.safetensors", target, wanted, {}) == []
    values, _ = read_checkpoint(target)
    name = "transformer.h.0.attn.c_attn.weight"  # a Conv1D: inputs first
    expected = module.state_dict()[name]
    assert values[name].shape == (32, 96)
    assert torch.equal(torch.from_numpy(values[name]), expected)
