"""Tables of a file as dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import pytest

from p2pfusion.daemon.sections import Place, read_section, suggestion
from p2pfusion.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Outer:
    text: str = ""
    count: int = 0
    real: float = 0.0
    flag: bool = False
    part: Fraction = Fraction(1)
    free: Mapping[str, object] | None = None
    inner: Inner | None = None


PLACE = Place("x.toml", "outer")


def test_every_type_of_field_is_read() -> None:
    table: dict[str, object] = {
        "text": "a",
        "count": 2,
        "real": 3,
        "flag": True,
        "part": 0.25,
        "free": {"a": [1]},
        "inner": {"depth": 4},
    }
    expected = Outer("a", 2, 3.0, True, Fraction(1, 4), {"a": [1]}, Inner(4))
    assert read_section(Outer, table, PLACE) == expected


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("text", 1, "a text"),
        ("count", 1.0, "a whole number"),
        ("count", True, "a whole number"),
        ("real", "1", "a number"),
        ("real", True, "a number"),
        ("flag", 1, "true or false"),
        ("inner", 1, "a table"),
        ("free", [1], "a table"),
    ],
)
def test_another_type_is_refused(key: str, value: object, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_section(Outer, {key: value}, PLACE)
    assert caught.value.message == (
        f"x.toml: key {key!r} in [outer] is {value!r}: it must be {wanted}"
    )


def test_a_nested_table_is_named_by_its_path() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'dept' in \[outer\.inner\]"):
        read_section(Outer, {"inner": {"dept": 4}}, PLACE)


def test_a_suggestion_is_the_nearest_word_or_all() -> None:
    assert suggestion("cuont", ("text", "count")) == "did you mean 'count'?"
    assert suggestion("zzz", ("text", "count")) == "known: text, count"
