"""Addresses as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.daemon.address import parse_address
from p2pfusion.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("lab-a.lan:65535", "lab-a.lan", 65_535),
        ("[::1]:7788", "::1", 7788),
    ],
)
def test_good_addresses(text: str, host: str, port: int) -> None:
    assert parse_address(text, "x") == (host, port)


BAD = ["", ":", "host", "host:", ":1", "host:-1", "host:65536", "::1:7788", "a b:1"]
ODD = ["h:1\n", "h:\u0661", "h:0000001", "[h]:1", "h" * 300 + ":1"]


@pytest.mark.parametrize("text", [*BAD, *ODD])
def test_bad_addresses_say_where_they_stand(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--join is .*host:port"):
        parse_address(text, "--join")


@given(st.text())
def test_any_text_is_an_address_or_a_config_error(text: str) -> None:
    try:
        host, port = parse_address(text, "x")
    except ConfigError:
        return
    assert host and 0 <= port <= 65_535
