"""How commands are declared: loaded when called, with the options that all have.

``--home`` and ``--json`` may stand before the command or after it; ``--schema`` stands
after it, and nothing else is done then. The help of every command ends with an example.
A group's table names the function of each command, and its module is imported when the
command runs: ``status`` never pays for ``demo``.
"""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Callable, Mapping
from typing import TypeVar

import click

from p2pfusion.cli.output import Settings, command_name

Function = Callable[..., None]
Declared = TypeVar("Declared", bound=Function | click.Command)


def command(name: str, *, example: str) -> Callable[[Function], click.Command]:
    """Declares a command; its docstring is the help, ``example`` stands at the end."""

    def declare(function: Function) -> click.Command:
        made = click.command(name, epilog=_epilog(example))
        return made(_common(_schema_option(function)))

    return declare


class LazyGroup(click.Group):
    """A group whose commands stand in a table: name to ``module:function``."""

    def __init__(
        self, name: str, table: Mapping[str, str], *, text: str, example: str
    ) -> None:
        super().__init__(name, help=text, epilog=_epilog(example))
        self.table = table
        _common(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table: the first steps first."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the one command that is wanted."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, with a suggestion from the table for a misspelt name."""
        if not args[0].startswith("-") and args[0] not in self.table:
            close = difflib.get_close_matches(args[0], self.table, n=1)
            advice = f". Did you mean {close[0]!r}?" if close else "."
            raise click.UsageError(f"No such command {args[0]!r}{advice}", ctx)
        return super().resolve_command(ctx, args)


def _epilog(example: str) -> str:
    return f"\b\nExample:\n  {example}"


def _schema_option(function: Function) -> Function:
    return click.option(
        "--schema",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_schema,
        help="Print the JSON Schema of what --json prints, and do nothing else.",
    )(function)


def _print_schema(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:  # not while a shell completes
        from p2pfusion.cli.schema import schema_of

        shape = schema_of(command_name(context))
        print(json.dumps(shape, indent=2, ensure_ascii=False), flush=True)
        context.exit()


def _common(declared: Declared) -> Declared:
    for option in (
        click.option(
            "--json",
            is_flag=True,
            expose_value=False,
            callback=_take_json,
            help="Print one JSON document.",
        ),
        click.option(
            "--home",
            metavar="DIR",
            expose_value=False,
            callback=_take_home,
            help="The peer's home directory (default: P2PFUSION_HOME, else the "
            "platform's state directory).",
        ),
    ):
        option(declared)
    return declared


def _take_home(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.find_root().ensure_object(Settings).home = value


def _take_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    chosen = context.find_root().ensure_object(Settings)
    chosen.as_json = chosen.as_json or value
