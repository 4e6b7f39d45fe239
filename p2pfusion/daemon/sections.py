"""From a table of a TOML file to a frozen dataclass, with errors that name the place.

Knows types and spelling, not meaning: which values are sensible, ``config.py`` says.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from fractions import Fraction
from typing import TypeVar, get_args, get_origin, get_type_hints

from p2pfusion.errors import ConfigError
from p2pfusion.methods.base import split_fraction

Table = dict[str, object]
Section = TypeVar("Section")

_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


@dataclass(frozen=True)
class Place:
    """Where in which file a key stands; calling it with a key gives the words."""

    source: str
    section: str

    def __call__(self, key: str) -> str:
        return f"{self.source}: key {key!r} in [{self.section}]"


def read_section(kind: Callable[..., Section], table: Table, place: Place) -> Section:
    """The dataclass that the table's keys describe; other keys keep their defaults."""
    hints = get_type_hints(kind)
    reject_unknown(table, tuple(hints), place)
    return kind(**{key: typed(hints[key], table[key], place, key) for key in table})


def typed(hint: object, value: object, place: Place, key: str) -> object:
    """A value of the file as the type that a field wants, or ``ConfigError``."""
    if isinstance(hint, types.UnionType):  # ``X | None``: TOML has no null
        hint = get_args(hint)[0]
    if hint == tuple[str, ...]:
        if isinstance(value, list) and all(type(each) is str for each in value):
            return tuple(value)
        raise ConfigError(
            f"{place(key)} is {value!r}: it must be a list of texts",
            hint='lists look like ["a", "b"]',
        )
    if hint is Fraction:
        return split_fraction(value, place(key))
    if isinstance(value, dict) and isinstance(hint, type) and is_dataclass(hint):
        return read_section(hint, value, Place(place.source, f"{place.section}.{key}"))
    if isinstance(value, dict) and get_origin(hint) is not None:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    wanted = _WORDS.get(hint) if isinstance(hint, type) else None
    raise ConfigError(
        f"{place(key)} is {value!r}: it must be {wanted or 'a table'}",
        hint="texts stand in quotes; numbers, true and false do not"
        if wanted
        else "tables look like { rule = 1, other = 2 }",
    )


def reject_unknown(table: Table, known: Sequence[str], place: Place) -> None:
    """Refuses keys that mean nothing: a misspelt key would silently not count."""
    for key in table:
        if key not in known:
            raise ConfigError(
                f"{place.source}: unknown key {key!r} in [{place.section}]",
                hint=suggestion(key, known),
            )


def suggestion(word: str, known: Sequence[str]) -> str:
    """The known word that was probably meant, or all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(known)
