"""Fusing contributions: streaming sums of two kinds, and values as they travel."""

from __future__ import annotations

from p2pfusion.fusion.average import StreamingMean
from p2pfusion.fusion.codec import WIRE_DTYPES, decode, encode
from p2pfusion.fusion.delta import DeltaSum
from p2pfusion.fusion.sums import Cursor, StreamingSum

__all__ = [
    "WIRE_DTYPES",
    "Cursor",
    "DeltaSum",
    "StreamingMean",
    "StreamingSum",
    "decode",
    "encode",
]
