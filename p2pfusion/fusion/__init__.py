"""Fusing contributions: streaming sums of two kinds, and values as they travel."""

from __future__ import annotations

from p2pfusion.fusion.average import MeanChange, StreamingMean
from p2pfusion.fusion.codec import check, check_cut, decode, encode
from p2pfusion.fusion.delta import DeltaSum
from p2pfusion.fusion.sums import Cursor, StreamingSum

__all__ = [
    "Cursor",
    "DeltaSum",
    "MeanChange",
    "StreamingMean",
    "StreamingSum",
    "check",
    "check_cut",
    "decode",
    "encode",
]
