"""Token buckets against arithmetic with fractions, and whom an address counts for."""

from __future__ import annotations

import resource
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion import limits
from p2pfusion.transport import bounds
from p2pfusion.transport.budget import TokenBuckets, most_connections, source_of

# Multiples of an eighth, so that sums of floats are exact.
EIGHTHS = st.integers(0, 64).map(lambda number: number / 8)


@given(
    events=st.lists(st.tuples(st.sampled_from("abc"), EIGHTHS), max_size=60),
    per_second=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
    burst=st.integers(1, 5),
)
def test_tokens_come_at_a_rate_up_to_a_burst(
    events: list[tuple[str, float]], per_second: float, burst: int
) -> None:
    buckets = TokenBuckets(per_second=per_second, burst=burst, most_keys=3)
    tokens: dict[str, Fraction] = {}
    filled_at: dict[str, Fraction] = {}
    now = Fraction(0)
    for key, pause_s in events:
        now += Fraction(pause_s)
        earned = (now - filled_at.get(key, now)) * Fraction(per_second)
        level = min(tokens.get(key, Fraction(burst)) + earned, Fraction(burst))
        assert buckets.spend(key, float(now)) == (level >= 1)
        tokens[key] = level - (level >= 1)
        filled_at[key] = now


def test_least_recently_used_bucket_is_forgotten() -> None:
    buckets = TokenBuckets(per_second=0.0, burst=1, most_keys=2)
    assert buckets.spend("a", 0.0) and buckets.spend("b", 0.0)
    assert not buckets.spend("a", 0.0)
    assert buckets.spend("c", 0.0)  # in the place of b
    assert not buckets.spend("a", 0.0)
    assert buckets.spend("b", 0.0)


@pytest.mark.parametrize(
    ("allowed", "connections"),
    [
        (10, bounds.LEAST_CONNECTIONS),
        (256 + 3 * 16, 16),
        (512, 85),
        (1_024, 256),
        (1 << 20, limits.MAX_CONNECTIONS),
        (resource.RLIM_INFINITY, limits.MAX_CONNECTIONS),
    ],
)
def test_few_files_mean_few_connections(
    monkeypatch: pytest.MonkeyPatch, allowed: int, connections: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (allowed, allowed))
    assert most_connections() == connections


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_source_of_an_address(host: str, source: str) -> None:
    assert source_of(host) == source
