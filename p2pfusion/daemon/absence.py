"""Which parts of a stream its sender has no values for."""

from __future__ import annotations

import numpy as np

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol.events import StreamKey
from p2pfusion.split.plan import ExchangePlan, Hop


def present_ranges(plan: ExchangePlan, stream: StreamKey, absent: bytes) -> list[bool]:
    """For every segment of a fused stream, whether its sender had values for it."""
    ids = plan.ranges(
        Hop.FUSED,
        source=stream.source,
        target=stream.target,
        instead_of=stream.instead_of or None,
    ).tolist()
    found = zip(ids, present_bits(absent, len(ids)), strict=True)
    return [present for number, present in found for _ in plan.segments([number])]


def present_bits(absent: bytes, count: int) -> list[bool]:
    """The absent bits of a stream's head, negated; ``RemoteProtocolError``."""
    if len(absent) != -(-count // 8):
        text = "a stream marks a wrong number of ranges as absent"
        raise RemoteProtocolError(text, offence="stream")
    lacking = np.unpackbits(np.frombuffer(absent, np.uint8), count=count)
    return [not bit for bit in lacking]
