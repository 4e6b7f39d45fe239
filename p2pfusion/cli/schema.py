"""What ``--json`` prints, as JSON Schema: building blocks, envelope, and ``--schema``.

A shape says what is there today, with units in the names. Programs that read it must
let be what they do not know: fields are added, never renamed or taken away, which is
why no shape forbids further fields. The shapes themselves are in ``shapes.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""The version of JSON Schema that these are written in."""

Shape = dict[str, object]

TEXT: Shape = {"type": "string"}
WHOLE: Shape = {"type": "integer"}
REAL: Shape = {"type": "number"}
FLAG: Shape = {"type": "boolean"}
PART: Shape = {"type": "number", "minimum": 0, "maximum": 1}
"""A part of a whole: an accuracy, a coverage."""
COUNT: Shape = {"type": "integer", "minimum": 0}
"""How many, or how many bytes."""
SECONDS: Shape = {"type": "number", "minimum": 0}
TIME: Shape = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$",
    "description": "RFC 3339, in UTC",
}
FREE: Shape = {"type": "object"}
"""A table with somebody else's keys: arguments of a plug-in, details of an event."""


def record(
    fields: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None
) -> Shape:
    """An object with these fields; the optional ones may be missing."""
    return {
        "type": "object",
        "properties": {**fields, **(optional or {})},
        "required": list(fields),
    }


def rows(item: Shape) -> Shape:
    """A list of such things."""
    return {"type": "array", "items": item}


def table(value: Shape) -> Shape:
    """An object with any keys, each of which has such a value."""
    return {"type": "object", "additionalProperties": value}


def maybe(shape: Shape) -> Shape:
    """Such a thing, or null: unknown."""
    return {"anyOf": [shape, {"type": "null"}]}


def either(*shapes: Shape) -> Shape:
    """One of several."""
    return {"anyOf": list(shapes)}


def words(*choices: str) -> Shape:
    """One of these words."""
    return {"type": "string", "enum": list(choices)}


ERROR = record({"code": WHOLE, "name": TEXT, "message": TEXT, "hint": TEXT})
"""What went wrong: the exit code, its name, what happened, what to do."""


def envelope(command: str, data: Shape) -> Shape:
    """The document that a command prints; ``data`` is null if there is none to give."""
    name = f"p2pfusion.{command}/v1"
    fields: dict[str, Shape] = {
        "schema": {"const": name},
        "ok": FLAG,
        "error": maybe(ERROR),
        "generated_at": TIME,
        "data": maybe(data),
    }
    return {"$schema": DIALECT, "title": name, **record(fields)}


def line(command: str, data: Shape) -> Shape:
    """Of a command that prints a line of JSON again and again: one such line."""
    title = f"p2pfusion.{command}/v1, each line"
    return {"$schema": DIALECT, "title": title, **data}


def schema_of(command: str) -> Shape:
    """What ``--json`` prints of a command, by the name that schemas give it."""
    from p2pfusion.cli.shapes import LINES, SHAPES

    if command in LINES:
        return line(command, LINES[command])
    return envelope(command, SHAPES[command])
