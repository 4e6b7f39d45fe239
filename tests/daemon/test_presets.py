"""Presets: written out in full, and never half."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import pytest

from p2pfusion.daemon.presets import (
    BY_METHOD,
    PRESETS,
    SUGGESTED,
    expanded,
    suited,
)
from p2pfusion.errors import ConfigError
from p2pfusion.methods import build_method
from p2pfusion.methods.msfusion import MSfusion
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.objectives import OBJECTIVES
from p2pfusion.split.layout import Layout

names = pytest.mark.parametrize("name", sorted(PRESETS))


@names
def test_a_preset_is_a_manifest(name: str) -> None:
    values = expanded(name, {"name": "x", "model": "mlp"})
    manifest = Manifest(**values, layout=Layout((), ()))  # type: ignore[arg-type]
    build_method(manifest.method, manifest.method_arguments)
    assert set(PRESETS) == set(SUGGESTED)
    # Nothing is left to defaults, which may change: old manifests keep their meaning.
    assert set(manifest.objective_arguments) == set(OBJECTIVES[manifest.objective])


def test_the_paper_is_the_reading_that_the_documents_give() -> None:
    values = expanded("paper", {})
    arguments = values["method_arguments"]
    assert isinstance(arguments, Mapping)
    method = build_method(str(values["method"]), arguments)
    assert isinstance(method, MSfusion)
    assert (method.shift, method.start, method.dwell) == ("tied", "dense", 1)
    assert method.overlap == "cosine min(1/4,full) full"
    assert values["objective"] == "contrastive"
    assert (values["label_mask"], values["outer_momentum"]) == (True, 0.0)


@names
def test_what_agrees_may_be_stated_and_other_keys_stay(name: str) -> None:
    stated = {**PRESETS[name], "rounds": 7, "model_arguments": {"projection": 16}}
    found = expanded(name, stated)
    assert found == {**PRESETS[name], **stated}
    assert expanded(name, found) == found


@names
def test_tables_of_the_preset_are_not_shared(name: str) -> None:
    found = expanded(name, {})
    for key, value in found.items():
        if isinstance(value, dict):
            value["changed"] = True
            assert expanded(name, {})[key] != value


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"method": "fedavg"}, "method = 'msfusion', and 'fedavg'"),
        ({"objective": "task"}, "objective = 'contrastive', and 'task'"),
        ({"label_mask": False}, "label_mask = True, and False"),
        ({"label_mask": 1}, "label_mask = True, and 1"),
        ({"outer_momentum": 0.3}, "outer_momentum = 0.0, and 0.3"),
        ({"method_arguments": {"shift": "blocks"}}, "method_arguments.shift = 'tied'"),
        ({"method_arguments": {"blocks": 8}}, "no method_arguments.blocks, and 8"),
        ({"method_arguments": 3}, "method_arguments is 3"),
        ({"model_arguments": [1]}, "model_arguments is"),
        ({"objective_arguments": {"weight": 5}}, "objective_arguments.weight = 1.0"),
    ],
)
def test_a_contradiction_is_named(stated: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        expanded("paper", stated)
    assert told in caught.value.message


@pytest.mark.parametrize("name", ["papers", "", None, 1, []])
def test_an_unknown_preset_is_refused(name: object) -> None:
    with pytest.raises(ConfigError, match="is unknown") as caught:
        expanded(name, {})
    assert "paper" in caught.value.hint


def test_what_suits_a_method_gives_way_to_what_is_stated() -> None:
    assert suited({})["outer_momentum"] == 0.6
    assert suited({"method": "msfusion", "outer_momentum": 0.0})["outer_momentum"] == 0
    assert suited(expanded("paper", {}))["outer_momentum"] == 0
    assert suited({"method": "fedavg"}) == {"method": "fedavg"}
    for values in BY_METHOD.values():
        assert values.keys() <= {field.name for field in fields(Manifest)}
