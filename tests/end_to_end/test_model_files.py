"""Whole models in and out: other programs' files begin swarms, and take what they made.

The other program is a Python that has torch and safetensors and cannot import
p2pfusion, with the user's own package or a module written there.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from p2pfusion.cli.toml_text import toml_text
from p2pfusion.simulation.experiment import run
from p2pfusion.training.data import DataOptions, load
from tests.clean_python import run_clean
from tests.end_to_end.programs import Program
from tests.end_to_end.swarm import QUICK, Swarm, gather

pytestmark = pytest.mark.slow

NAME = "workshop.nets:build"
MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        )
        self.again = self.body[3]
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("offset", torch.linspace(-1, 1, width))
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        values = self.body(images).mean((2, 3))
        return self.head(values * self.gain + self.offset)

def build(classes=10, width=16):
    return Net(classes, width)
"""
SAVES = """
import torch
from safetensors.torch import save_model
from workshop.nets import build
torch.manual_seed(3)
module = build()
module.body[1].running_mean += 0.25
torch.save(module.state_dict(), "begin.pt")
save_model(module, "begin.safetensors")  # tied tensors once
"""
STRICT = """
import torch
from safetensors.torch import load_file
module = build()
module.load_state_dict(load_file(sys.argv[1]), strict=True)
digits = load_file(sys.argv[2])
with torch.inference_mode():
    right = module.eval()(digits["images"]).argmax(-1) == digits["labels"]
print(right.double().mean().item())
"""
CNN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
            for inputs, stride in ((1, 2), (width, 2), (width, 1))
        )
        self.norms = nn.ModuleList(nn.GroupNorm(width // 4, width) for _ in range(3))
        self.classifier = nn.Linear(width, 10)

    def forward(self, images):
        for convolution, norm in zip(self.convolutions, self.norms):
            images = norm(convolution(images)).relu()
        return self.classifier(images.mean((2, 3)))

build = Net
"""
LETTERS = """
from transformers import GPT2Config, GPT2LMHeadModel

def build(vocabulary=257, length=16):
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=vocabulary, n_positions=length, n_embd=32, n_layer=2, n_head=4,
        use_cache=False, bos_token_id=None, eos_token_id=None,
    ))
"""
SAVES_PRETRAINED = """
import torch
from letters import build
torch.manual_seed(3)
build().save_pretrained("begin")
"""
FROM_PRETRAINED = """
import shutil, torch
from pathlib import Path
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel
from letters import build
file, begin = Path(sys.argv[1]), Path("begin")
module = build()
module.load_state_dict(load_file(file), strict=True)
shutil.copy(begin / "config.json", file.parent)
loaded, told = GPT2LMHeadModel.from_pretrained(file.parent, output_loading_info=True)
assert not any(told.values()), told
tokens = torch.arange(16)[None]
with torch.inference_mode():
    assert torch.equal(loaded.eval()(tokens).logits, module.eval()(tokens).logits)
began = GPT2LMHeadModel.from_pretrained(begin).transformer.wte.weight
print((began - module.transformer.wte.weight).abs().max().item())
"""
DIGITS = {"kind": "digits", "limit": 240}


def save_digits(path: Path) -> None:
    """The held-out digits, for a program that has no loader of ours."""
    records = load(DataOptions(kind="digits"), "test")
    assert records is not None
    images, labels = records.batch(torch.arange(len(records)), torch.device("cpu"))
    save_file({"images": images.numpy(), "labels": labels.numpy()}, path)


def workshop(directory: Path) -> Path:
    """The user's package."""
    (directory / "workshop").mkdir(parents=True)
    (directory / "workshop" / "__init__.py").write_text("")
    (directory / "workshop" / "nets.py").write_text(MODULE)
    return directory


def test_a_foreign_file_begins_a_swarm_and_its_program_takes_what_was_made(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workshop(tmp_path / "path")
    monkeypatch.setenv("PYTHONPATH", str(path))
    save_digits(tmp_path / "digits.safetensors")
    run_clean(SAVES, tmp_path, path=path)
    founder = tmp_path / "founder.toml"
    settings = {
        **{**QUICK, "model": NAME, "model_arguments": {}, "min_peers": 2},
        "method": "fedrolex",
    }
    founder.write_text(toml_text({"data": DIGITS, "swarm": settings}))

    program = Program(tmp_path / "home")
    refused = program.run("import", str(tmp_path / "begin.pt"), "--model", NAME)
    assert refused.code == 8 and "only safetensors files" in refused.err
    begin = tmp_path / "begin.safetensors"
    refused = program.run("import", str(begin), "--model", "mlp", "--data", "digits")
    assert refused.code == 8 and "the file lacks 4 (first: layers.0" in refused.err
    assert refused.err.count("\n") == 1
    done = program.run("import", str(begin), "--profile", str(founder), "--json")
    assert done.code == 0, done.err
    again = program.run("import", str(begin), "--profile", str(founder))
    assert again.out.startswith(f"{done.data['hash']}\n"), "the same file once more"

    begins = {**settings, "pretrained": str(done.data["path"]), "learning_rate": 0.001}
    first = swarm.add(data=DIGITS, swarm=begins)
    second = swarm.add(data=DIGITS, peer={"models": [NAME]})
    gather([first, second])
    for each in (first, second):
        each.wait("done")
    file = tmp_path / "model.safetensors"
    told = second.ask("export", path=str(file))
    before, after = load_file(begin), load_file(file)
    moved = np.abs(after["head.weight"] - before["head.weight"])
    assert 0 < moved.max() < 0.1, "trained, from there"
    assert np.array_equal(after["offset"], before["offset"])
    assert np.array_equal(after["again.weight"], after["body.3.weight"])

    strict = "from workshop.nets import build\n" + STRICT
    digits = str(tmp_path / "digits.safetensors")
    theirs = float(run_clean(strict, tmp_path, str(file), digits, path=path))
    named = ["--data", "digits", "--model", NAME, "--json"]
    ours = program.run("evaluate", str(file), *named)
    assert ours.code == 0, ours.err
    assert theirs == pytest.approx(ours.data["accuracy"])
    manifest = json.loads(Path(str(told["manifest"])).read_text())
    assert manifest["model"] == NAME and manifest["round"] == QUICK["rounds"]
    assert manifest["pretrained_sha256"] == done.data["hash"]
    assert set(manifest["tensors"]) == set(after)


def test_a_model_of_the_table_fits_a_plain_module(tmp_path: Path) -> None:
    save_digits(tmp_path / "digits.safetensors")
    file = tmp_path / "model.safetensors"
    arguments = {"in_channels": 1, "channels": [16, 16, 16], "classes": 10}
    run(
        {
            **{"model": "cnn", "model_arguments": arguments, "data": DIGITS},
            **{"peers": 2, "split_fraction": "0.5", "rounds": 3, "save": str(file)},
        },
        lambda message: None,
    )
    digits = str(tmp_path / "digits.safetensors")
    theirs = run_clean(CNN + STRICT, tmp_path, str(file), digits, path=tmp_path)
    program = Program(tmp_path / "home")
    ours = program.run("evaluate", str(file), "--data", "digits", "--json")
    assert float(theirs) == pytest.approx(ours.data["accuracy"])


@pytest.mark.soak
def test_hugging_face_s_file_begins_a_swarm_and_its_loader_takes_what_was_made(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", exc_type=Exception)
    name, path = "letters:build", tmp_path / "path"
    path.mkdir()
    (path / "letters.py").write_text(LETTERS)
    monkeypatch.setenv("PYTHONPATH", str(path))
    (tmp_path / "texts").mkdir()
    for number in range(4):
        words = f"the text of peer {number} says this again and again. " * 40
        (tmp_path / "texts" / f"{number}.txt").write_text(words)
    run_clean(SAVES_PRETRAINED, tmp_path, path=path)
    settings = {
        **{**QUICK, "model": name, "model_arguments": {"length": 16}, "min_peers": 2},
        **{"vocabulary": {"level": "byte"}, "method": "fedrolex"},
        **{"optimiser": "adamw", "learning_rate": 1e-3},
    }
    data = {"kind": "text", "path": str(tmp_path / "texts")}
    founder = tmp_path / "founder.toml"
    founder.write_text(toml_text({"data": data, "swarm": settings}))
    program = Program(tmp_path / "home")
    begin = str(tmp_path / "begin" / "model.safetensors")
    done = program.run("import", begin, "--profile", str(founder), "--json")
    assert done.code == 0, done.err
    begins = {**settings, "pretrained": str(done.data["path"])}
    first = swarm.add(data=data, swarm=begins)
    second = swarm.add(data=data, peer={"models": [name]})
    gather([first, second])
    for each in (first, second):
        each.wait("done")
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / "model.safetensors"
    second.ask("export", path=str(file))
    moved = float(run_clean(FROM_PRETRAINED, tmp_path, str(file), path=path))
    assert 0 < moved < 0.1, "trained, from there"
