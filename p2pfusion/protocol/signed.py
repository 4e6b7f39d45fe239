"""Statements as they travel, and two of them that cannot both be true."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfusion.protocol.values import value


@value
class Signed:
    """A statement as it travels: its author's key with what was said, and a signature.

    ``statements.py`` makes and reads them. Whoever passes one on passes these bytes on.
    """

    payload: bytes
    signature: bytes


@dataclass(frozen=True)
class Evidence:
    """Two offers of one peer for one round that differ, in the order of their bytes.

    It needs no author: both are signed by whom they convict (``evidence.py``).
    """

    first: Signed
    second: Signed
