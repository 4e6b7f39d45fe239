"""From a ``[swarm]`` section to the manifest."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from p2pfusion.daemon.pool import Pool
from p2pfusion.daemon.presets import PRESETS, expanded
from p2pfusion.daemon.swarm_settings import SwarmSettings, read_swarm
from p2pfusion.errors import ConfigError, DataError
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.blocks import silenced
from p2pfusion.split.layout import Layout
from p2pfusion.store.checksum import file_hash
from tests.layouts import resnet18

STATED: dict[str, object] = {"name": "a", "model": "mlp", "rounds": 3}


def settings(**more: object) -> SwarmSettings:
    return read_swarm({**STATED, **more}, "x.toml")


def test_the_manifest_has_the_stated_values_and_the_layout() -> None:
    layout = resnet18()
    manifest = settings().manifest(layout)
    assert (manifest.name, manifest.model, manifest.rounds) == ("a", "mlp", 3)
    assert manifest.layout == silenced(layout, 4), "as the default method begins"
    dense = settings(method="fedavg").manifest(layout)
    assert dense.layout is layout
    defaults = {f.name: f.default for f in fields(Manifest) if f.default is not MISSING}
    expected = {**defaults, "rounds": 3, "outer_momentum": 0.6}
    assert {k: getattr(manifest, k) for k in defaults} == expected


def test_every_key_of_the_manifest_but_the_layout_is_a_key() -> None:
    known = {f.name for f in fields(Manifest)} - {"layout", "versions", "founder"}
    manifest = settings().manifest(resnet18())
    everything = {key: getattr(manifest, key) for key in known}
    assert settings(**everything).manifest(resnet18()) == manifest
    with pytest.raises(ConfigError, match="unknown key 'layout'"):
        settings(layout={})


def test_completed_arguments_of_the_model_belong_to_the_same_swarm(
    tmp_path: Path,
) -> None:
    stated = settings(model_arguments={"hidden": [8]}, vocabulary={"size": 9})
    told = {"size": 9, "level": "word", "tokens": ["<pad>", "<unk>", "<eos>", "a"]}
    pool = Pool(tmp_path / "pool")
    completed = stated.completed({"hidden": [8], "classes": 10}, told, pool)
    assert not (tmp_path / "pool").exists()
    manifest = completed.manifest(resnet18())
    assert manifest.model_arguments == {"hidden": [8], "classes": 10}
    assert manifest.vocabulary == told
    assert stated.differs_from(manifest) is None
    other = settings(vocabulary={"level": "byte"})
    assert other.differs_from(manifest) == "vocabulary"


def test_a_file_to_begin_with_is_named_by_its_hash_once_it_is_in_the_pool(
    tmp_path: Path,
) -> None:
    file, pool = tmp_path / "any.safetensors", Pool(tmp_path / "pool")
    save_file({"w": np.ones(3, np.float32)}, file)
    stated = settings(pretrained="any.safetensors", method="fedavg").beside(tmp_path)
    assert stated.manifest(Layout((), ())).pretrained == ""
    manifest = stated.completed({}, {}, pool).manifest(Layout((), ()))
    name = file_hash(file)
    assert manifest.pretrained == name
    assert pool.find(name).read_bytes() == file.read_bytes()
    # The file, its hash and the file's absence say the same; another file does not.
    assert stated.differs_from(manifest) is None
    assert settings(pretrained=name).differs_from(manifest) is None
    assert settings(pretrained="ab" * 32).differs_from(manifest) == "pretrained"
    save_file({"w": np.zeros(3, np.float32)}, file)
    assert stated.differs_from(manifest) == "pretrained"
    file.unlink()
    assert stated.differs_from(manifest) is None
    with pytest.raises(DataError, match=r"any\.safetensors: there is no such file"):
        stated.completed({}, {}, pool)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"rounds": 4}, "rounds"),
        ({"name": "b"}, "name"),
        ({"model_arguments": {"hidden": [9]}}, "model_arguments"),
    ],
)
def test_a_contradiction_is_named(changed: dict[str, object], key: str) -> None:
    founded = settings(model_arguments={"hidden": [8]}).manifest(resnet18())
    assert settings(**changed).differs_from(founded) == key


def test_a_preset_stands_for_its_keys() -> None:
    stated = settings(preset="paper")
    assert stated.values == {**expanded("paper", STATED)}
    assert stated.model_arguments == {"projection": 64}
    manifest = stated.manifest(Layout((), ()))
    assert manifest.objective == "contrastive"
    assert stated.differs_from(manifest) is None
    for key, value in PRESETS["paper"].items():
        assert getattr(manifest, key) == value
    # Whoever writes it out founds, and expects, the same swarm.
    assert settings(**expanded("paper", {})).manifest(Layout((), ())) == manifest


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"preset": "papr"}, r"x\.toml: \[swarm\] preset 'papr' is unknown"),
        ({"preset": 3}, r"x\.toml: \[swarm\] preset 3 is unknown"),
        ({"preset": "paper", "method": "fedavg"}, r"x\.toml: .*method = 'msfusion'"),
        ({"objective": "rest"}, r"x\.toml: .*'objective' is 'rest'"),
        ({"objective_arguments": {"weight": 1}}, r"x\.toml: .*no argument 'weight'"),
        ({"presett": "paper"}, r"x\.toml: unknown key 'presett'"),
    ],
)
def test_what_is_wrong_with_a_preset_or_an_objective_names_the_file(
    changed: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        settings(**changed)


def test_a_contrast_asks_the_model_for_a_projection() -> None:
    """As soon as the layout is known, before anything is founded."""
    with pytest.raises(ConfigError, match=r"x\.toml: .*needs a model") as caught:
        settings(objective="contrastive").manifest(resnet18())
    assert "model argument projection" in caught.value.hint


def test_a_wrong_method_argument_names_the_file() -> None:
    with pytest.raises(ConfigError, match=r"x\.toml: .*shiftt"):
        settings(method="msfusion", method_arguments={"shiftt": 1})
