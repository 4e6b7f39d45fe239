"""Groups whose commands are imported when they run."""

from __future__ import annotations

import sys

import click
import pytest

from p2pfusion.cli.command import LazyGroup

TABLE = {"plot": "p2pfusion.cli.nowhere:plot", "round": "p2pfusion.cli.main:main"}


def group() -> LazyGroup:
    return LazyGroup("p2pfusion", TABLE, text="Text.", example="p2pfusion plot")


def test_only_the_wanted_command_is_imported() -> None:
    made = group()
    context = click.Context(made)
    assert made.list_commands(context) == ["plot", "round"]
    assert made.get_command(context, "other") is None
    assert "p2pfusion.cli.nowhere" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        made.get_command(context, "plot")


@pytest.mark.parametrize(
    ("word", "told"),
    [("plto", "No such command 'plto'. Did you mean 'plot'?"), ("zzz", "'zzz'.")],
)
def test_a_misspelt_name_gets_a_suggestion(word: str, told: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        group().main([word], standalone_mode=False)
    assert caught.value.message.endswith(told)
