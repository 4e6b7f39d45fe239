"""Writes docs/reference/ from the code: commands, keys, metrics, events, exit codes.

    python docs/generate.py            (or: make reference)

Nothing there is written by hand, so a page cannot say what the program does not do; a
test fails while one is out of date.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pfusion import errors
from p2pfusion.cli.main import cli
from p2pfusion.cli.output import INTERRUPT_EXIT, USAGE_EXIT
from p2pfusion.cli.shapes import LINES, SHAPES
from p2pfusion.daemon.config import DataSettings, PartitionSettings, PeerSettings
from p2pfusion.daemon.metrics import NUMBERS, families
from p2pfusion.daemon.presets import BY_METHOD, PRESETS
from p2pfusion.daemon.privacy import PrivacySettings
from p2pfusion.daemon.telling import SENTENCES
from p2pfusion.protocol.manifest import Manifest

DIRECTORY = Path(__file__).resolve().parent / "reference"
NOTICE = (
    "<!-- Made from the code by `make reference`: change the code, not this page. -->"
)
COMMON = ("home", "json", "schema", "help")
NO_KEYS = ("layout", "founder")
"""Fields of the manifest that no file states: they follow from model and founder."""


def pages() -> dict[str, str]:
    """The text of every page, by its file's name."""
    makers: dict[str, Callable[[], Iterator[str]]] = {
        "commands.md": _commands,
        "configuration.md": _configuration,
        "metrics.md": _metrics,
        "events.md": _events,
        "exit-codes.md": _exit_codes,
    }
    return {name: "\n".join([NOTICE, "", *make(), ""]) for name, make in makers.items()}


def main() -> None:
    """Writes all pages."""
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in pages().items():
        (DIRECTORY / name).write_text(text)
        print(DIRECTORY / name)


# --- Commands ------------------------------------------------------------------------


def commands() -> Iterator[click.Context]:
    """Every command and every group, in the order of the help."""
    yield from _below(click.Context(cli, info_name="p2pfusion"))


def _below(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from _below(click.Context(command, context, info_name=name))


def _commands() -> Iterator[str]:
    yield "# Commands"
    yield ""
    yield (
        "Every command also has `--help`, `--home DIR` (or `P2PFUSION_HOME`), which "
        "chooses the peer, `--json`, and `--schema`, which prints the JSON Schema of "
        "what `--json` prints. [Exit codes](exit-codes.md), [what the states and "
        "health codes mean](../operations.md)."
    )
    for context in commands():
        yield from _command(context)


def _command(context: click.Context) -> Iterator[str]:
    command = context.command
    yield ""
    yield f"## {context.command_path}"
    yield ""
    yield inspect.cleandoc(command.help or "")
    yield ""
    yield "```"
    yield " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    yield "```"
    rows = [
        _row(parameter.opts, parameter, context)
        for parameter in command.params
        if parameter.name not in COMMON and isinstance(parameter, click.Option)
    ]
    if rows:
        yield ""
        yield "| option | meaning |"
        yield "|---|---|"
        yield from rows
    yield ""
    yield f"Example: `{(command.epilog or '').split('Example:')[-1].strip()}`"
    name = "-".join(context.command_path.split()[1:])
    if name in SHAPES or name in LINES:
        yield ""
        yield f"With `--json`: {_fields({**SHAPES, **LINES}[name])}"


def _row(names: list[str], option: click.Option, context: click.Context) -> str:
    metavar = "" if option.is_flag else f" {option.make_metavar(context)}"
    text = option.help or _as_key(str(option.name))
    if option.required:
        text += " Required."
    elif option.show_default and option.default is not None and not option.is_flag:
        text += f" Default: {option.default}."
    if option.multiple:
        text += " May be given several times."
    return f"| {_code(', '.join(names) + metavar)} | {_cell(text)} |"


def _as_key(name: str) -> str:
    """For options that are a key of a swarm or of its data, with the same meaning."""
    for title, kind, _ in SECTIONS:
        if kind in (Manifest, PartitionSettings) and name in field_docstrings(kind):
            return f"As `{name}` in [`{title}`](configuration.md)."
    raise LookupError(f"--{name} has no help and is no key")


def _fields(shape: dict[str, object]) -> str:
    """The first level of what is printed."""
    found = shape.get("properties")
    if not isinstance(found, dict):
        return "one of several documents, see `--schema`."
    return ", ".join(f"`{key}`" for key in found) + "."


# --- Configuration -------------------------------------------------------------------

SECTIONS: tuple[tuple[str, type, str], ...] = (
    ("[peer]", PeerSettings, "This machine. Nothing of it need be stated."),
    (
        "[peer] privacy",
        PrivacySettings,
        "A table inside `[peer]`, or a section `[peer.privacy]`: differential privacy "
        "of this peer's whole data set; [privacy.md](../privacy.md).",
    ),
    ("[data]", DataSettings, "What this peer trains on; [data.md](../data.md)."),
    (
        "[data] partition",
        PartitionSettings,
        "A table inside `[data]`, for files that all peers have.",
    ),
    (
        "[swarm]",
        Manifest,
        "Only for who founds a swarm; all others learn it when they join. Every key "
        "is a part of the swarm's id.",
    ),
)


def _configuration() -> Iterator[str]:
    yield "# Configuration"
    yield ""
    yield (
        "A profile is a TOML file with these sections. It states only what differs "
        "from the defaults; an unknown key is an error. `p2pfusion profiles check "
        "FILE` checks one, `profiles show FILE` prints it with all defaults. Ready "
        "ones: [profiles.md](../profiles.md)."
    )
    for title, kind, text in SECTIONS:
        yield ""
        yield f"## {title}"
        yield ""
        yield text
        yield ""
        yield "| key | default | meaning |"
        yield "|---|---|---|"
        words = field_docstrings(kind)
        for each in dataclasses.fields(kind):
            if each.name not in NO_KEYS:
                stated = _code(_default(each))
                yield f"| `{each.name}` | {stated} | {_cell(words[each.name])} |"
    yield ""
    yield f"`preset` in `[swarm]` stands for several keys: {_presets()}."
    yield ""
    yield (
        "Where a method is named and neither the file nor a preset says otherwise: "
        + "; ".join(_suits(method, keys) for method, keys in BY_METHOD.items())
        + "."
    )


def field_docstrings(kind: type) -> dict[str, str]:
    """The text below each field of a dataclass, by the field's name."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            assert isinstance(field.target, ast.Name)
            assert isinstance(below.value, ast.Constant)
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def _default(field: dataclasses.Field[object]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return "{}"
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default is None:
        return "none"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    if isinstance(field.default, tuple):
        return str(list(field.default))
    return (
        f'"{field.default}"' if isinstance(field.default, str) else f"{field.default}"
    )


def _presets() -> str:
    return "; ".join(
        f'`"{name}"` for ' + ", ".join(f"`{key}`" for key in keys)
        for name, keys in PRESETS.items()
    )


def _suits(method: str, keys: object) -> str:
    assert isinstance(keys, dict)
    stated = ", ".join(f"`{key} = {value}`" for key, value in keys.items())
    return f"with `{method}` {stated}"


# --- Metrics -------------------------------------------------------------------------

SUFFIXES = {"counter": "_total", "info": "_info"}
"""What OpenMetrics adds to the name of a sample."""

PLACES = {
    "p2pfusion_build": "daemon.version",
    "p2pfusion_state": "state.code",
    "p2pfusion_waiting_for": "round.waiting_for",
    "p2pfusion_troubles": "health",
    "p2pfusion_refused": "security.refused",
}
"""Where ``status`` has what is no plain number there."""


def _metrics() -> Iterator[str]:
    yield "# Metrics"
    yield ""
    yield (
        "What `p2pfusion start --metrics PORT` serves; how, to whom, and which alarms "
        "to begin with: [metrics.md](../metrics.md). All come from `p2pfusion status "
        "--json`; what is unknown there is left out here."
    )
    yield ""
    yield "| metric | type | in `status` | meaning |"
    yield "|---|---|---|---|"
    numbers = {f"p2pfusion_{each.name}": ".".join(each.place) for each in NUMBERS}
    places = {**numbers, **PLACES}
    for metric in families(_full_status()):
        place, text = places[metric.name], _cell(metric.documentation)
        name = metric.name + SUFFIXES.get(metric.type, "")
        yield f"| `{name}` | {metric.type} | `{place}` | {text} |"


def _full_status() -> dict[str, object]:
    """An answer to ``status`` in which every number is known."""
    status: dict[str, dict[str, object]] = {}
    for number in NUMBERS:
        section, key = number.place
        status.setdefault(section, {})[key] = 1
    return dict(status)


# --- Events and exit codes -----------------------------------------------------------


def _events() -> Iterator[str]:
    yield "# Events"
    yield ""
    yield (
        "What `p2pfusion events` prints, and with `--follow --json` a line of JSON for "
        "each: `number`, `at`, `kind`, `text`, `details`. The words in braces are keys "
        "of `details`; of peers, the text has the names and `details` the ids. "
        "`round-sealed` has the details of `p2pfusion round show`."
    )
    yield ""
    yield "| kind | text |"
    yield "|---|---|"
    for kind, sentence in SENTENCES.items():
        yield f"| `{kind}` | {_cell(sentence)} |"
    yield "| `round-sealed` | round {round} sealed after {seconds} s, loss {loss} |"


def _exit_codes() -> Iterator[str]:
    yield "# Exit codes"
    yield ""
    yield (
        "Every error that a command can end with, by its number and its name, which is "
        "`error.name` with `--json`. What to do about each: "
        "[exit-codes.md](../exit-codes.md)."
    )
    yield ""
    yield "| code | name | what happened |"
    yield "|---|---|---|"
    yield "| 0 | | Done. |"
    kinds = {
        (kind.exit_code, kind.name, inspect.getdoc(kind) or "")
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.P2PFusionError)
    }
    kinds.add((USAGE_EXIT, "usage", "No such command, option or value."))
    kinds.add((INTERRUPT_EXIT, "interrupted", "Ctrl-C, or an end of the input."))
    kinds.add((1, "system", "The operating system refused."))
    for code, name, text in sorted(kinds):
        yield f"| {code} | `{name}` | {_cell(text)} |"


def _code(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return f"`{escaped}`"


def _cell(text: str) -> str:
    """On one line, as a table wants it."""
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


if __name__ == "__main__":
    main()
