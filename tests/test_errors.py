"""Every error has a name and an exit code, and survives the way between processes."""

from __future__ import annotations

import pytest

from p2pfusion import errors

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.P2PFusionError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reported_error_is_the_same_error(kind: type[errors.P2PFusionError]) -> None:
    told = {"name": kind.name, "message": "what happened", "hint": "what to do"}
    error = errors.reported(told)
    assert type(error) is kind
    assert (error.message, error.hint) == ("what happened", "what to do")


def test_names_are_unique_and_in_the_tree_of_the_docstring() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert errors.__doc__ is not None
    for kind in KINDS:
        assert kind.__name__ in errors.__doc__


def test_an_unknown_name_is_an_error_all_the_same() -> None:
    assert type(errors.reported({"name": "?"})) is errors.P2PFusionError
