"""Moves frames between peers and understands none of them."""

from __future__ import annotations

from p2pfusion.transport.base import Address, Incoming, Plane, Traffic, Transport
from p2pfusion.transport.memory import MemoryTransport
from p2pfusion.transport.zeromq import ZeroMQTransport

__all__ = [
    "TRANSPORTS",
    "Address",
    "Incoming",
    "MemoryTransport",
    "Plane",
    "Traffic",
    "Transport",
    "ZeroMQTransport",
]

TRANSPORTS: dict[str, type[Transport]] = {
    "memory": MemoryTransport,
    "zeromq": ZeroMQTransport,
}
