"""Whole models judged from the command line: on every kind of data that suits them, and
as a swarm goes on, from a directory of checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p2pfusion.simulation.experiment import run
from p2pfusion.store.companion import companion_path
from tests.end_to_end.programs import Program
from tests.end_to_end.swarm import QUICK, Swarm
from tests.training.samples import IDX_NAMES, idx_bytes

pytestmark = pytest.mark.slow

SIDE, CLASSES, COUNT = 8, 3, 24
LABELS = np.arange(COUNT) % CLASSES
WORDS = ("bright day", "dark night", "neither of them")
TINY = {"width": 16, "heads": 2, "layers": 1, "inner": 16, "length": 4, "group": 4}


def images(channels: int = 1, side: int = SIDE) -> np.ndarray:
    """A class is how light an image is."""
    light = (40 + 80 * LABELS).astype(np.uint8)
    shape = (COUNT, channels, side, side)
    return np.broadcast_to(light[:, None, None, None], shape).copy()


def idx(path: Path) -> Path:
    path.mkdir()
    for part in ("train", "test"):
        (path / IDX_NAMES[part, "images"]).write_bytes(idx_bytes(images()[:, 0]))
        (path / IDX_NAMES[part, "labels"]).write_bytes(idx_bytes(LABELS))
    return path


def npz(path: Path) -> Path:
    file = path.with_suffix(".npz")
    np.savez(file, images=images()[:, 0], labels=LABELS)
    return file


def arrays(path: Path) -> Path:
    path.mkdir()
    for part in ("", "test_"):
        np.save(path / f"{part}images.npy", images()[:, 0])
        np.save(path / f"{part}labels.npy", LABELS)
    return path


def cifar(path: Path) -> Path:
    path.mkdir()
    rows = np.concatenate([LABELS[:, None], images(3, 32).reshape(COUNT, -1)], axis=1)
    for name in ("data_batch_1.bin", "test_batch.bin"):
        rows.astype(np.uint8).tofile(path / name)
    return path


def folder(path: Path) -> Path:
    for number, image in enumerate(images()[:, 0]):
        file = path / f"class {LABELS[number]}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return path


def table(path: Path, mark: str) -> Path:
    lines = [f"text{mark}label", *(f"{WORDS[n]}{mark}{n}" for n in LABELS)]
    path.write_text("\n".join(lines) + "\n")
    return path


def tsv(path: Path) -> Path:
    return table(path.with_suffix(".tsv"), "\t")


def csv(path: Path) -> Path:
    return table(path.with_suffix(".csv"), ",")


def text(path: Path) -> Path:
    file = path.with_suffix(".txt")
    file.write_text("\n".join(WORDS * 40))
    return file


def texts(path: Path) -> Path:
    path.mkdir()
    text(path / "one")
    return path


FUNCTION = """
import numpy as np

def load(part):
    labels = np.arange(24) % 3
    light = (40 + 80 * labels).astype("uint8")
    return np.broadcast_to(light[:, None, None], (24, 8, 8)).copy(), labels
"""
KINDS = {
    "cnn": (idx, npz, arrays, folder),
    "resnet18": (cifar,),
    "transformer-classifier": (tsv, csv),
    "transformer": (text, texts),
}
ARGUMENTS: dict[str, dict[str, object]] = {
    "cnn": {"channels": [16, 16]},
    "resnet18": {"width": 8, "group": 2, "blocks": [1, 1]},
    "transformer-classifier": TINY,
    "transformer": TINY,
}


def trained(directory: Path, model: str, kind: str, data: Path) -> Path:
    """A file of a model that two peers have trained on this data."""
    file = directory / f"{model}.safetensors"
    run(
        {
            **{"model": model, "model_arguments": ARGUMENTS[model], "rounds": 2},
            **{"data": {"kind": kind, "path": str(data)}, "peers": 2},
            **{"method": "fedavg", "split_fraction": "1", "save": str(file)},
            **{"learning_rate": 0.05, "batch": 8},
        },
        lambda message: None,
    )
    return file


@pytest.mark.soak
@pytest.mark.parametrize("model", KINDS)
def test_a_file_is_judged_on_every_kind_of_data(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere.py").write_text(FUNCTION)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    program = Program(tmp_path / "home")
    made = {make.__name__: make(tmp_path / make.__name__) for make in KINDS[model]}
    first = next(iter(made))
    file = trained(tmp_path, model, first, made[first])
    names = [str(path) for path in made.values()]
    names += ["elsewhere:load"] if model == "cnn" else []
    for name in names:
        done = program.run("evaluate", str(file), "--data", name, "--json")
        assert done.code == 0, done.err
        assert done.data["samples"] and done.data["data"] == name
        # One file of images or labelled texts has no test part.
        assert done.data["held_out"] is not name.endswith((".npz", ".tsv", ".csv"))
        loss = done.data["loss"]
        assert isinstance(loss, float) and np.isfinite(loss)
        assert (done.data["perplexity"] is None) is (model != "transformer")
    unfit = str(text(tmp_path / "other")) if model == "cnn" else "digits"
    refused = program.run("evaluate", str(file), "--data", unfit)
    assert refused.code == 8 and refused.err.count("\n") == 1, refused.err


def test_checkpoints_come_at_intervals_and_can_be_judged(
    swarm: Swarm, tmp_path: Path
) -> None:
    """A relative directory starts where the profile is."""
    told = {"checkpoint_every": 2, "checkpoint_directory": "models"}
    settings = {**QUICK, "rounds": 5, "min_peers": 1}
    daemon = swarm.add(data={"kind": "digits"}, swarm=settings, peer=told)
    daemon.start()
    daemon.wait("done")
    (directory,) = swarm.root.rglob("models")
    last = directory / "round-000005.safetensors"
    daemon.until(companion_path(last).exists)  # written last
    program = Program(tmp_path / "elsewhere")
    for path in sorted(directory.glob("round-*.safetensors")):
        beside = json.loads(companion_path(path).read_text())
        assert path.name == f"round-{beside['round']:06}.safetensors"
    done = program.run("evaluate", str(last), "--data", "digits", "--json")
    assert done.code == 0, done.err
    assert isinstance(done.data["accuracy"], float) and done.data["accuracy"] > 0.3
