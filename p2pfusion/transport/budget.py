"""Budgets of what others cause: how often they may do something, how many may connect.

A bucket of tokens fills at a steady rate up to its burst, and everything that is done
takes one token. The number of buckets is bounded: the one that was used least recently
is forgotten, and begins full again if its owner comes back.
"""

from __future__ import annotations

import ipaddress
import resource
from dataclasses import dataclass

from p2pfusion import limits
from p2pfusion.transport import bounds


@dataclass
class _Bucket:
    tokens: float
    filled_at: float


class TokenBuckets:
    """One bucket for each key. Instants are seconds of any one steady clock."""

    def __init__(self, *, per_second: float, burst: int, most_keys: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._most_keys = most_keys
        self._buckets: dict[str, _Bucket] = {}

    def spend(self, key: str, now: float) -> bool:
        """Takes a token of ``key``, or returns False if there is none."""
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            if len(self._buckets) == self._most_keys:
                del self._buckets[next(iter(self._buckets))]
            bucket = _Bucket(self._burst, now)
        self._buckets[key] = bucket
        earned = (now - bucket.filled_at) * self._per_second
        bucket.tokens = min(bucket.tokens + earned, self._burst)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def most_connections() -> int:
    """Connections of one plane: fewer than usual where the system lets this process
    open few files. A third of them is for each plane, and one for those who come before
    others were sent away: a file that cannot be opened ends a daemon."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return limits.MAX_CONNECTIONS
    spare = max(0, allowed - bounds.RESERVED_DESCRIPTORS)
    return min(limits.MAX_CONNECTIONS, max(bounds.LEAST_CONNECTIONS, spare // 3))


def source_of(host: str) -> str:
    """Whom an address of a connection counts for, as text.

    An IPv6 host chooses among 2^64 addresses, so that all of its network count as one.
    """
    number, _, _ = host.partition("%")
    try:
        address = ipaddress.ip_address(number)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))
