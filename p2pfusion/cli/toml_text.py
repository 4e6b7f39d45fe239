"""Writes a profile as TOML text: tables of plain values, nested ones inline."""

from __future__ import annotations

import json
from collections.abc import Mapping


def toml_text(document: Mapping[str, Mapping[str, object]]) -> str:
    """Sections of keys; a key whose value is None is left out, as TOML has no null."""
    sections = (
        f"[{name}]\n"
        + "".join(
            f"{_key(key)} = {_value(value)}\n"
            for key, value in table.items()
            if value is not None
        )
        for name, table in document.items()
    )
    return "\n".join(sections)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(
            f"{_key(key)} = {_value(each)}"
            for key, each in value.items()
            if each is not None
        )
        return "{" + inner + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return _plain(value)


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "a").isalnum() else _plain(key)


def _plain(value: object) -> str:
    """Texts, numbers and truth values read the same in JSON, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
