"""What an eavesdropper has: every packet on the line, put together to streams.

Packets are read with a raw socket inside a namespace, and searched for what must not be
readable: values, numbers, texts. What is searched for are windows of 8 bytes, at every
offset of every stream.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tests.end_to_end.namespaces import Host

Windows = NDArray[np.uint64]
Flow = tuple[bytes, int, bytes, int]
"""Address and port of the sender, and of the receiver."""

ETH_P_ALL = 0x0003
ETH_P_IP = 0x0800
SO_RCVBUFFORCE = 33
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_OUTGOING = 4

ETHERNET_BYTES = 14
LARGEST_PACKET = 1 << 17
BUFFER_BYTES = 64 << 20
WINDOW_BYTES = 8
LEAST_DISTINCT = 6
"""Windows with fewer different bytes are left out: such as these come by chance."""


@dataclass
class Wiretap:
    """All packets of a namespace, each once."""

    channel: socket.socket
    packets: list[bytes] = field(default_factory=list)
    lost: int = 0

    def run(self) -> None:
        """Listens until nothing comes for as long as the socket waits."""
        while True:
            try:
                packet, (_, _, kind, *_) = self.channel.recvfrom(LARGEST_PACKET)
            except TimeoutError:
                return
            if kind == PACKET_OUTGOING:  # not again where it comes in
                self.packets.append(packet)

    def streams(self) -> dict[Flow, bytes]:
        """What was sent over each TCP connection, in order."""
        parts: dict[Flow, list[tuple[int, bytes]]] = defaultdict(list)
        for packet in self.packets:
            if packet[12:14] == ETH_P_IP.to_bytes(2, "big"):
                segment = _segment(packet[ETHERNET_BYTES:])
                if segment is not None:
                    flow, number, payload = segment
                    parts[flow].append((number, payload))
        return {flow: _joined(found) for flow, found in parts.items()}


def _segment(packet: bytes) -> tuple[Flow, int, bytes] | None:
    """A TCP segment's flow, number and payload; None for anything else."""
    header_bytes = 4 * (packet[0] & 0x0F)
    if packet[9] != socket.IPPROTO_TCP:
        return None
    (size,) = struct.unpack_from(">H", packet, 2)
    segment = packet[header_bytes : size or None]
    from_port, to_port, number = struct.unpack_from(">HHI", segment)
    flow = (packet[12:16], from_port, packet[16:20], to_port)
    return flow, number, segment[4 * (segment[12] >> 4) :]


def _joined(parts: list[tuple[int, bytes]]) -> bytes:
    """Segments by their numbers, which begin anywhere and wrap around."""
    first = parts[0][0]
    ordered = sorted(((n - first + (1 << 31)) % (1 << 32), data) for n, data in parts)
    joined = bytearray()
    end = ordered[0][0]
    for number, data in ordered:
        if number + len(data) > end:
            joined += data[max(0, end - number) :]
            end = number + len(data)
    return bytes(joined)


@contextmanager
def tapped(host: Host) -> Iterator[Wiretap]:
    """Everything that passes through this host while the block lasts."""
    with host.inside():
        channel = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)
        )
    with channel:
        channel.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        tap = Wiretap(channel)
        thread = threading.Thread(target=tap.run)
        thread.start()
        try:
            yield tap
        finally:
            channel.settimeout(0.2)
            _wake(host)
            thread.join()
            counts = channel.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
            tap.lost = struct.unpack("=II", counts)[1]


def _wake(host: Host) -> None:
    """One packet, so that who waits for the next one sees that there is a timeout."""
    with host.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.sendto(b"", ("127.0.0.1", 9))


# --- What is searched for ------------------------------------------------------------


def windows(data: bytes, step: int = 1) -> Windows:
    """Every window of 8 bytes that begins at a multiple of ``step``, once."""
    if len(data) < WINDOW_BYTES:
        return np.empty(0, np.uint64)
    rows = np.lib.stride_tricks.sliding_window_view(
        np.frombuffer(data, np.uint8), WINDOW_BYTES
    )[::step]
    ordered = np.sort(rows, axis=1)
    distinct = 1 + (np.diff(ordered, axis=1) != 0).sum(axis=1)
    telling = np.ascontiguousarray(rows[distinct >= LEAST_DISTINCT])
    found: Windows = np.unique(telling.view("<u8").ravel())
    return found


def windows_of_values(values: NDArray[np.float32]) -> Windows:
    """Neighbours in an array, as they travel."""
    flat = np.ascontiguousarray(values, "<f4").ravel()
    return windows(flat.tobytes(), step=flat.itemsize)


def windows_of_numbers(numbers: Iterable[float]) -> Windows:
    """Floating-point numbers as messages contain them: big-endian doubles."""
    return windows(b"".join(struct.pack(">d", each) for each in numbers), WINDOW_BYTES)


def count_found(wanted: Windows, streams: Iterable[bytes]) -> int:
    """How many of these windows occur anywhere."""
    found = np.zeros(wanted.size, bool)
    for stream in streams:
        for offset in range(min(WINDOW_BYTES, len(stream))):
            count = (len(stream) - offset) // WINDOW_BYTES
            here = np.frombuffer(stream, "<u8", count, offset)
            found |= np.isin(wanted, here)
    return int(found.sum())
