"""What a peer gives to a reducer: which ranges, and what their form loses of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfusion.daemon.sinks import Floats
from p2pfusion.errors import LocalProtocolError
from p2pfusion.fusion import decode, encode
from p2pfusion.protocol.events import StreamKey
from p2pfusion.split.forms import Form
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.segment import Segment
from p2pfusion.store import Offer, Owed


@dataclass(frozen=True)
class Contribution:
    """One stream's values; zeros stand where the offer has nothing."""

    values: Floats
    segments: tuple[Segment, ...]
    """Those that the offer has, in order."""
    has: NDArray[np.bool_]
    """Per value: whether the offer has it."""
    absent: bytes
    """Bits of the ranges that it has not; nothing if it has all."""

    @classmethod
    def cut(
        cls,
        plan: ExchangePlan,
        stream: StreamKey,
        offer: Offer | None,
        inside: NDArray[np.bool_] | None,
    ) -> Contribution:
        """Of an offer; ``inside`` marks the ranges that it has, None: all."""
        if offer is None:
            raise LocalProtocolError("a contribution was served before it was made")
        ids = plan.ranges(
            Hop.CONTRIBUTION,
            source=stream.source,
            target=stream.target,
            instead_of=stream.instead_of or None,
        )
        sizes = plan.range_sizes[ids]
        present = np.ones(len(ids), np.bool_) if inside is None else inside[ids]
        segments = plan.segments(ids[present].tolist())
        has = np.repeat(present, sizes)
        there = offer.read_flat(segments)
        if inside is None:
            return cls(there, segments, has, b"")
        values = np.zeros(len(has), np.float32)
        values[has] = there
        return cls(values, segments, has, np.packbits(~present).tobytes())

    def encoded(self, form: Form, owed: Owed | None) -> memoryview:
        """Its bytes. What these lose of the values is owed from now on, however often
        they are made."""
        buffer = encode(self.values, form.name)
        if owed is not None:
            arrives = decode(buffer, form.name, np.empty_like(self.values))
            np.subtract(self.values, arrives, out=arrives)
            owed.write(self.segments, arrives[self.has])
        return buffer
