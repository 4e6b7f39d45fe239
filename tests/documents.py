"""Whether what ``--json`` prints is what ``--schema`` says, and nothing more.

The schemas that are published let further fields be, because fields are added with
time. A test must not: what is printed today is to be described today.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from jsonschema import Draft202012Validator

from p2pfusion.cli.schema import Shape, schema_of
from p2pfusion.cli.shapes import SHAPES


def closed(shape: object) -> object:
    """The same shape without room for fields that it does not name."""
    if isinstance(shape, list):
        return [closed(each) for each in shape]
    if not isinstance(shape, Mapping):
        return shape
    inner = {key: closed(value) for key, value in shape.items()}
    if "properties" in inner:
        return {**inner, "additionalProperties": False}
    return inner


def differences(document: object, shape: Shape) -> list[str]:
    """In words, where a document is not as its shape says, field by field."""
    validator = Draft202012Validator(closed(shape))
    return [
        f"{error.json_path}: {error.message}"
        for error in validator.iter_errors(document)
    ]


def check_document(text: str) -> str:
    """Checks one printed envelope; gives the command that it is of.

    A line that names no command has an envelope without data.
    """
    document = json.loads(text)
    command = str(document["schema"]).removeprefix("p2pfusion.").removesuffix("/v1")
    if command in SHAPES:
        found = differences(document, schema_of(command))
    else:
        found = [] if document["data"] is None else [f"{command} has no schema"]
    assert not found, f"{command}: " + "\n".join(found)
    return command
