"""One question to a trainer process of our own."""

from __future__ import annotations

import pytest

from p2pfusion import errors
from p2pfusion.cli.trainer import ask_trainer, describe


def test_a_models_layout_comes_with_all_its_arguments() -> None:
    found = describe("mlp", {"hidden": [8]}, {"kind": "digits"})
    assert [(axis.name, axis.size) for axis in found.layout.axes] == [("h1", 8)]
    assert not found.is_deep
    assert found.arguments == {
        "inputs": 64,
        "hidden": [8],
        "classes": 10,
        "projection": 0,
    }


def test_its_error_is_raised_here() -> None:
    ticks = []
    with pytest.raises(errors.ConfigError, match="'nope'"):
        ask_trainer({"do": "describe", "model": "nope"}, lambda: ticks.append(1))
    assert ticks
