"""How streams flow: what a peer is told of bytes that come, and which it lets go."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfusion.protocol.messages import NEVER
from p2pfusion.protocol.stream import StreamKey
from p2pfusion.protocol.values import value

# --- Events --------------------------------------------------------------------------


@dataclass(frozen=True)
class Arriving:
    """Bytes come from this peer on the data plane, of a message that is not whole.

    Nobody has checked yet that they are its own. So they bring nobody back who is
    silent; but whoever is there stays, for its probes may have to wait behind them.
    """

    peer: str


# --- Effects -------------------------------------------------------------------------


@value
class SendStart:
    """Send the head of a stream that this peer serves."""

    peer: str
    pull: int
    stream: StreamKey
    samples: int
    base_round: int = NEVER


@value
class SendChunk:
    """Send bytes ``offset`` to ``offset + size`` of a stream that this peer serves."""

    peer: str
    pull: int
    stream: StreamKey
    offset: int
    size: int


@value
class StopServing:
    """Free what was held ready for this stream."""

    peer: str
    pull: int
