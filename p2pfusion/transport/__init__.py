"""Moves frames between peers and understands none of them."""

from __future__ import annotations

from p2pfusion.transport.base import (
    GUEST,
    Address,
    Arrival,
    Banner,
    Caps,
    Incoming,
    Keys,
    KnockFailed,
    Moving,
    Plane,
    Remote,
    Traffic,
    Transport,
)
from p2pfusion.transport.memory import MemoryTransport
from p2pfusion.transport.network import NetworkTransport

__all__ = [
    "GUEST",
    "TRANSPORTS",
    "Address",
    "Arrival",
    "Banner",
    "Caps",
    "Incoming",
    "Keys",
    "KnockFailed",
    "MemoryTransport",
    "Moving",
    "NetworkTransport",
    "Plane",
    "Remote",
    "Traffic",
    "Transport",
]

TRANSPORTS: dict[str, type[Transport]] = {
    "memory": MemoryTransport,
    "network": NetworkTransport,
}
