"""The manifest: one canonical form, a stable id, and refusal of everything else."""

from __future__ import annotations

import contextlib
import dataclasses

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError, RemoteProtocolError
from p2pfusion.limits import MAX_VOCABULARY, MAX_VOCABULARY_BYTES
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.blocks import silenced
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from tests.protocol.swarm import small_manifest

PROJECTED = Layout(
    (Axis("h", 4),),
    (
        ParameterSpec(
            "projection.weight", (Dimension(2), Dimension(4, "h")), Initial("zeros")
        ),
    ),
)


def test_bytes_and_back() -> None:
    manifest = small_manifest(model_arguments={"b": [1, 2.5], "a": {"x": True}})
    packed = manifest.to_bytes()
    assert Manifest.from_bytes(packed) == manifest
    assert Manifest.from_bytes(packed).to_bytes() == packed


def test_a_whole_vocabulary_fits() -> None:
    tokens = [f"token-{number:010}" for number in range(MAX_VOCABULARY)]
    manifest = small_manifest(vocabulary={"level": "word", "tokens": tokens})
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


def test_the_order_of_arguments_does_not_change_the_id() -> None:
    one = small_manifest(method_arguments={"a": 1, "b": 2})
    other = small_manifest(method_arguments={"b": 2, "a": 1})
    assert one.swarm_id == other.swarm_id


def test_every_field_changes_the_id() -> None:
    base = small_manifest(objective="contrastive", layout=PROJECTED)
    changes = {
        "name": "other",
        "seed": 1,
        "rounds": 7,
        "learning_rate": 0.1,
        "optimiser": "adamw",
        "label_mask": True,
        "proximal": 0.1,
        "clip_relative": 0.1,
        "logit_adjustment": 0.5,
        "wire_dtype": "float16",
        "method": "heterofl",
        "augment": "flip-crop",
        "fusion": "trimmed",
        "vocabulary": {"level": "word", "tokens": ["<pad>"]},
        "method_arguments": {"x": 1},
        "objective_arguments": {"previous": 2},
        "pretrained": "cd" * 32,
        "admission": "pending",
        "founder": "ab" * 32,
    }
    for key, value in changes.items():
        changed = dataclasses.replace(base, **{key: value})
        assert changed.swarm_id != base.swarm_id
        assert base.first_difference(changed) == key


def test_who_founds_a_swarm_is_the_last_difference_to_be_named() -> None:
    base = small_manifest()
    other = dataclasses.replace(base, founder="ab" * 32, weighting="samples")
    assert base.first_difference(other) == "weighting"
    assert dataclasses.replace(base, founder="").founder_key == b""
    assert other.founder_key == bytes.fromhex("ab" * 32)


@pytest.mark.parametrize(
    ("key", "value", "unstated"),
    [
        ("pretrained", "ab" * 32, ""),
        ("proximal", 0.5, 0.0),
        ("clip_relative", 0.5, 0.0),
        ("fusion", "median", "mean"),
    ],
)
def test_what_is_left_out_of_a_manifest_is_not_stated(
    key: str, value: object, unstated: object
) -> None:
    """Manifests from before there was the key keep their ids."""
    plain, stating = small_manifest(), small_manifest(**{key: value})
    assert key not in msgpack.unpackb(plain.to_bytes())
    for manifest in (plain, stating):
        assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    stated = {**msgpack.unpackb(stating.to_bytes()), key: unstated}
    with pytest.raises(RemoteProtocolError, match="canonical"):
        Manifest.from_bytes(msgpack.packb(dict(sorted(stated.items()))))


def test_what_begins_silent_is_not_pretrained() -> None:
    silent = silenced(small_manifest().layout, 2)
    assert small_manifest(layout=silent).layout.blocks == 2
    with pytest.raises(ConfigError, match="begins silent") as caught:
        small_manifest(layout=silent, pretrained="ab" * 32)
    assert "dense" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rounds", 0),
        ("rounds", True),
        ("learning_rate", float("nan")),
        ("learning_rate", 1),
        ("wire_dtype", "float8"),
        ("proximal", -0.1),
        ("proximal", 2e6),
        ("clip_relative", -0.1),
        ("name", ""),
        ("name", "two\nlines"),
        ("deadline_max_s", 0.5),
        ("model_arguments", {"x": None}),
        ("model_arguments", []),
        ("method_arguments", 5),
        ("objective", "rest"),
        ("objective", ["task"]),
        ("objective", "contrastive"),
        ("objective_arguments", []),
        ("objective_arguments", {"weight": None}),
        ("augment", "flip"),
        ("vocabulary", []),
        ("vocabulary", {"level": "sentence"}),
        ("vocabulary", {"words": []}),
        ("vocabulary", {"size": 3}),
        ("vocabulary", {"size": True}),
        ("vocabulary", {"tokens": "abc"}),
        ("vocabulary", {"tokens": [1]}),
        ("vocabulary", {"tokens": ["x"] * (MAX_VOCABULARY + 1)}),
        ("vocabulary", {"tokens": ["x" * (MAX_VOCABULARY_BYTES + 1)]}),
        ("admission", "closed"),
        ("founder", "ab" * 31),
        ("founder", "AB" * 32),
        ("founder", "x" * 64),
        ("founder", None),
        ("pretrained", "ab" * 31),
        ("pretrained", "AB" * 32),
        ("pretrained", "model.safetensors"),
        ("pretrained", 3),
    ],
)
def test_bad_values_name_their_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        small_manifest(**{key: value})


def test_a_trainer_is_told_every_setting_of_its_steps() -> None:
    manifest = small_manifest(proximal=0.5, momentum=0.25)
    assert manifest.step_settings == {
        **{"rule": "sgd", "momentum": 0.25, "weight_decay": 0.0, "clip": 1.0},
        "clip_relative": 0.0,
        "proximal": 0.5,
    }


def test_a_trainer_is_told_every_option_of_the_objective() -> None:
    plain = small_manifest()
    told = {"label_mask": False, "logit_adjustment": 1.0}
    assert plain.objective_options == {"name": "task", **told}
    contrast = small_manifest(
        objective="contrastive",
        objective_arguments={"weight": 5},
        label_mask=True,
        logit_adjustment=0.0,
        layout=PROJECTED,
    )
    assert contrast.objective_options == {
        "name": "contrastive",
        "weight": 5,
        "temperature": 0.5,
        "previous": 1,
        "label_mask": True,
        "logit_adjustment": 0.0,
    }


def test_other_bytes_are_a_remote_error() -> None:
    good = small_manifest().to_bytes()
    data = msgpack.unpackb(good)
    for bad in (
        b"",
        good[:-1],
        good + b"\x00",
        msgpack.packb({**data, "surplus": 1}),
        msgpack.packb({**data, "rounds": "many"}),
        msgpack.packb({**data, "layout": []}),
        msgpack.packb(dict(reversed(list(data.items())))),
    ):
        with pytest.raises(RemoteProtocolError):
            Manifest.from_bytes(bad)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_or_a_remote_error(packed: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Manifest.from_bytes(packed)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_flipped_byte_is_a_manifest_or_a_remote_error(at: int, value: int) -> None:
    packed = bytearray(small_manifest().to_bytes())
    packed[at % len(packed)] = value
    with contextlib.suppress(RemoteProtocolError):
        Manifest.from_bytes(bytes(packed))


def test_learning_rates_fall_from_the_first_to_zero() -> None:
    manifest = small_manifest(rounds=10, learning_rate=0.4)
    rates = [manifest.learning_rate_at(t) for t in range(11)]
    assert rates[0] == 0.4 and abs(rates[10]) < 1e-12
    assert rates == sorted(rates, reverse=True)
    constant = small_manifest(schedule="constant", learning_rate=0.4)
    assert constant.learning_rate_at(5) == 0.4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"wire_dtype": "int8"}, "wire_dtype = 'int8'"),
        ({"wire_dtype": "float16"}, "wire_dtype = 'float16'"),
        ({"weighting": "samples"}, "weighting = 'samples'"),
        ({"max_staleness": 3}, "max_staleness = 3"),
        ({"method": "co-s2p", "method_arguments": {}}, "the method 'co-s2p'"),
        ({"secure_aggregation": "on"}, "one of off, withhold, clear"),
    ],
)
def test_secure_aggregation_is_refused_with_what_it_does_not_go_with(
    changes: dict[str, object], said: str
) -> None:
    masked: dict[str, object] = {"secure_aggregation": "clear", "max_staleness": 0}
    good = small_manifest(**masked)
    assert good.wire.hides and good.sends_changes and not good.wire.is_lossy
    assert Manifest.from_bytes(good.to_bytes()) == good
    with pytest.raises(ConfigError) as caught:
        small_manifest(**{**masked, **changes})
    assert said in str(caught.value)


def test_a_swarm_without_masks_has_the_id_that_it_had_before_there_were_any() -> None:
    plain = small_manifest()
    assert b"secure_aggregation" not in plain.to_bytes()
    assert plain.swarm_id == small_manifest(secure_aggregation="off").swarm_id


def test_second_opinions_are_stated_only_where_they_are_wanted() -> None:
    plain = small_manifest(fusion="median")
    assert b"second_opinions" not in plain.to_bytes() and not plain.weighs
    wanted = small_manifest(fusion="median", second_opinions=True)
    assert wanted.weighs and Manifest.from_bytes(wanted.to_bytes()) == wanted
    alone: dict[str, object] = {"fusion": "median", "second_opinions": True}
    alone["replication"] = 1
    for changes in ({"second_opinions": True}, {"second_opinions": 1}, alone):
        with pytest.raises(ConfigError, match="second_opinions"):
            small_manifest(**changes)
