"""Fusing contributions: streaming means, and values as they travel."""

from __future__ import annotations

from p2pfusion.fusion.average import Cursor, StreamingMean
from p2pfusion.fusion.codec import WIRE_DTYPES, decode, encode

__all__ = ["WIRE_DTYPES", "Cursor", "StreamingMean", "decode", "encode"]
