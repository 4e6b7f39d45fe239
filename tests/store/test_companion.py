"""The JSON file beside a model: about that very file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from p2pfusion.store.companion import SCHEMA, companion_path, write_companion


def test_it_has_the_hashes_of_the_file_and_of_every_tensor(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    big = np.arange(700_000, dtype=np.float32)  # more than one block
    tensors = {"b": big, "a": np.ones((2, 3), np.int64), "none": np.zeros(0)}
    save_file(tensors, path)
    whole = write_companion(path, {"model": "mine"})
    told = json.loads((tmp_path / "model.manifest.json").read_text())
    assert companion_path(path).name == "model.manifest.json"
    assert whole == told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (told["schema"], told["model"]) == (SCHEMA, "mine")
    assert (told["file"], told["bytes"]) == (path.name, path.stat().st_size)
    for name, value in load_file(path).items():
        entry = told["tensors"].pop(name)
        assert entry["shape"] == list(value.shape)
        assert entry["sha256"] == hashlib.sha256(value.tobytes()).hexdigest()
    assert told["tensors"] == {}
