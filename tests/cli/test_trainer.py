"""One question to a trainer process of our own."""

from __future__ import annotations

import pytest

from p2pfusion import errors
from p2pfusion.cli.trainer import ask_trainer, describe


def test_a_models_layout_comes_with_all_its_arguments() -> None:
    layout, arguments = describe("mlp", {"hidden": [8]}, {"kind": "digits"})
    assert [(axis.name, axis.size) for axis in layout.axes] == [("h1", 8)]
    assert arguments == {"inputs": 64, "hidden": [8], "classes": 10, "projection": 0}


def test_its_error_is_raised_here() -> None:
    ticks = []
    with pytest.raises(errors.ConfigError, match="'nope'"):
        ask_trainer({"do": "describe", "model": "nope"}, lambda: ticks.append(1))
    assert ticks
