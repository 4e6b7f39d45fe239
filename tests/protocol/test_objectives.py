"""What of an objective is known without torch. That the trainer agrees about it is in
``tests/contracts/test_objectives.py``."""

from __future__ import annotations

import pytest

from p2pfusion.errors import ConfigError
from p2pfusion.protocol.objectives import (
    OBJECTIVES,
    SELF_SUPERVISED,
    check_objective,
    frozen_copies,
    objective_options,
    views_of,
)
from p2pfusion.split.layout import Layout

NONE = Layout((), ())


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_defaults_are_good_and_complete(name: str) -> None:
    check_objective(name, OBJECTIVES[name], NONE)
    assert objective_options(name, {}) == {"name": name, **OBJECTIVES[name]}


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        (
            "contrast",
            {},
            "'contrast': it must be one of byol, contrastive, exits, moco",
        ),
        ("task", {"weight": 1}, "objective 'task' takes no argument 'weight'"),
        ("contrastive", {"tau": 1}, "takes no argument 'tau'"),
        ("contrastive", {"weight": -1}, "weight is -1: it must be a number from 0"),
        ("contrastive", {"temperature": 0}, "temperature is 0"),
        ("contrastive", {"previous": 17}, "whole number from 1 to 16"),
        ("moco", {"momentum": 1.5}, "momentum is 1.5: it must be a number from 0 to 1"),
        ("byol", {"temperature": 1.0}, "takes no argument 'temperature'"),
        ("byol", {"alignment": -1}, "alignment is -1: it must be a number from 0"),
        ("task", {"alignment": 1}, "objective 'task' takes no argument 'alignment'"),
        ("simclr", {"crop": 0.0}, "crop is 0.0: it must be a number from 0.01 to 1"),
    ],
)
def test_what_is_wrong_is_named(
    name: str, arguments: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_objective(name, arguments, NONE)
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("name", "arguments", "copies"),
    [
        ("task", {}, 0),
        ("contrastive", {}, 2),
        ("contrastive", {"previous": 3}, 4),
        ("contrastive", {"weight": 0}, 0),
        ("byol", {}, 1),
        ("moco", {"momentum": 0}, 1),
        ("simclr", {}, 0),
        ("moco", {"alignment": 0.5}, 2),
        ("simclr", {"alignment": 1}, 1),
    ],
)
def test_frozen_copies(name: str, arguments: dict[str, object], copies: int) -> None:
    assert frozen_copies(name, arguments) == copies


def test_views() -> None:
    assert {name for name in OBJECTIVES if views_of(name) == 2} == set(SELF_SUPERVISED)
    assert {views_of(name) for name in OBJECTIVES} == {1, 2}
