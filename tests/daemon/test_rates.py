"""Bytes per second, as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.daemon.rates import parse_rate
from p2pfusion.errors import ConfigError
from p2pfusion.limits import MAX_CAP_BYTES_PER_S, MIN_CAP_BYTES_PER_S


@pytest.mark.parametrize(
    ("value", "rate"),
    [
        (250_000, 250_000.0),
        (250_000.5, 250_000.5),
        ("2 MB/s", 2 * 2**20),
        ("2MiB/s", 2 * 2**20),
        ("100 kB/s", 100 * 2**10),
        ("100 KiB/s", 100 * 2**10),
        ("1.5 GB/s", 1.5 * 2**30),
        ("50000 B/s", 50_000.0),
        ("10 Mbit/s", 1_250_000.0),
        ("512 kbit/s", 64_000.0),
        ("1Gbit/s", 125_000_000.0),
        ("2.5 Mbit/s", 312_500.0),
    ],
)
def test_what_can_be_written(value: object, rate: float) -> None:
    assert parse_rate(value, "here") == rate


@pytest.mark.parametrize(
    "value",
    ["", "fast", "2 MB", "2 MB/h", "10 Mbps", "-1 MB/s", "1e6", "/s", True, None, [1]],
)
def test_what_is_no_rate(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^here is .*bytes per second"):
        parse_rate(value, "here")


@pytest.mark.parametrize(
    "value",
    [0, 1, MIN_CAP_BYTES_PER_S - 1, "100 kbit/s", "2 TB/s", 1e300, float("nan")],
)
def test_what_is_out_of_bounds(value: object) -> None:
    with pytest.raises(ConfigError, match="from 16384 to") as caught:
        parse_rate(value, "here")
    assert caught.value.hint == "leave it out for no limit"


@given(st.text(max_size=20) | st.floats() | st.integers())
def test_anything_is_a_rate_within_bounds_or_an_error(value: object) -> None:
    try:
        rate = parse_rate(value, "here")
    except ConfigError:
        return
    assert MIN_CAP_BYTES_PER_S <= rate <= MAX_CAP_BYTES_PER_S
