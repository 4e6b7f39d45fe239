"""Fusing contributions: streaming sums of two kinds, and values as they travel."""

from __future__ import annotations

from p2pfusion.fusion import memory
from p2pfusion.fusion.agreement import Deviation
from p2pfusion.fusion.average import MeanChange, StreamingMean
from p2pfusion.fusion.choice import new_sum
from p2pfusion.fusion.codec import check, check_cut, decode, encode
from p2pfusion.fusion.delta import DeltaSum
from p2pfusion.fusion.robust import RobustChange
from p2pfusion.fusion.sums import Cursor, StreamingSum

__all__ = [
    "Cursor",
    "DeltaSum",
    "Deviation",
    "MeanChange",
    "RobustChange",
    "StreamingMean",
    "StreamingSum",
    "check",
    "check_cut",
    "decode",
    "encode",
    "memory",
    "new_sum",
]
