"""Fields: every check takes what it says, and refuses everything else as one error."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import MAX_ROSTER
from p2pfusion.protocol import schema
from p2pfusion.protocol.messages import Signed

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["a", "b", "\n", "\u200b"])
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=9,
)


def is_whole(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def is_raw(value: object, low: int, high: int) -> bool:
    return type(value) is bytes and low <= len(value) <= high


CHECKS: dict[str, tuple[schema.Check, Callable[[object], bool]]] = {
    "whole": (schema.whole(-1, 7), lambda v: is_whole(v, -1, 7)),
    "any whole": (schema.whole(), lambda v: is_whole(v, 0, 2**63 - 1)),
    "real": (schema.real, lambda v: type(v) is float and math.isfinite(v)),
    "text": (
        schema.text(4, least=1),
        lambda v: type(v) is str and 1 <= len(v) <= 4 and v.isprintable(),
    ),
    "raw": (schema.raw(4, least=1), lambda v: is_raw(v, 1, 4)),
    "raw or nothing": (
        schema.raw_or_nothing(3),
        lambda v: is_raw(v, 0, 0) or is_raw(v, 3, 3),
    ),
    "pieces": (
        schema.pieces(2, 2),
        lambda v: is_raw(v, 0, 0) or is_raw(v, 2, 2) or is_raw(v, 4, 4),
    ),
    "one of": (
        schema.one_of(frozenset({"a", "b"})),
        lambda v: type(v) is str and v in ("a", "b"),
    ),
    "many": (
        schema.many(schema.whole(0, 3), 2),
        lambda v: type(v) is list and len(v) <= 2 and all(is_whole(i, 0, 3) for i in v),
    ),
    "optional": (
        schema.optional(schema.whole(0, 3)),
        lambda v: v is None or is_whole(v, 0, 3),
    ),
    "group": (
        schema.group(Signed, schema.raw(4), schema.raw(4)),
        lambda v: type(v) is list and len(v) == 2 and all(is_raw(i, 0, 4) for i in v),
    ),
}


@pytest.mark.parametrize("name", CHECKS)
@given(plain)
def test_a_check_takes_what_it_says_and_nothing_else(name: str, value: object) -> None:
    check, belongs = CHECKS[name]
    if not belongs(value):
        with pytest.raises(RemoteProtocolError):
            check(value)
    elif name == "many":
        assert check(value) == tuple(value)  # type: ignore[arg-type]
    elif name == "group":
        assert check(value) == Signed(*value)  # type: ignore[misc]
    else:
        assert check(value) == value and type(check(value)) is type(value)


@given(st.lists(plain, max_size=5))
def test_as_many_values_as_checks(values: list[object]) -> None:
    checks = [lambda value: value] * 3
    if len(values) == 3:
        assert schema.checked(checks, values) == values
    else:
        with pytest.raises(RemoteProtocolError):
            schema.checked(checks, values)


numbers = st.integers(-(2**63), 2**64 - 1)


@given(st.lists(numbers | st.text(max_size=9) | st.binary(max_size=9), max_size=9))
def test_unpack_undoes_pack(values: list[object]) -> None:
    assert schema.unpack(schema.pack(values)) == values


@given(st.binary(max_size=300))
def test_any_bytes_are_a_list_or_a_remote_error(packed: bytes) -> None:
    try:
        assert type(schema.unpack(packed)) is list
    except RemoteProtocolError as error:
        assert "malformed" in str(error)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        msgpack.packb(7),
        msgpack.packb({}),
        msgpack.packb([{"a": 1}]),
        msgpack.packb([[{1: 2}]]),
        msgpack.packb(list(range(MAX_ROSTER + 1))),
        msgpack.packb([1])[:-1],
        msgpack.packb([1]) + b"\x00",
        b"\x91" * 5_000 + b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\x91\xa1\xff",
    ],
)
def test_what_no_message_can_be(packed: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        schema.unpack(packed)


def test_a_list_may_be_as_long_as_a_roster() -> None:
    assert schema.unpack(msgpack.packb([0] * MAX_ROSTER)) == [0] * MAX_ROSTER


def test_values_of_types_that_msgpack_adds_pass_no_check() -> None:
    when = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    for value in (msgpack.Timestamp.from_datetime(when), msgpack.ExtType(7, b"x")):
        (found,) = schema.unpack(msgpack.packb([value]))
        for check, _ in CHECKS.values():
            with pytest.raises(RemoteProtocolError):
                check(found)
