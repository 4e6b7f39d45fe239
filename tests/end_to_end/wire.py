"""A bad line between two interfaces: packets are late, lost, and wait for their turn.

What the kernel's ``netem`` does, for kernels that lack it (see ``namespaces.py``); and
what a router does that lets no connection in: with ``--no-calls-to`` the first packet
of every TCP connection to that address is lost.

Every Ethernet frame that comes in on one side goes out on the other, each direction for
itself: it takes as long as its bits need, then the delay, and some never arrive.

    python -m tests.end_to_end.wire FIRST SECOND --delay-s 0.08 --loss 0.02 \
        --bits-per-s 20000000

Runs in the namespace of both interfaces until it is ended; says READY when it works.
"""

from __future__ import annotations

import argparse
import random
import selectors
import socket
import time
from collections import deque
from dataclasses import dataclass, field

ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4
LARGEST_FRAME = 1 << 16
MOST_WAITING = 1_000
"""Frames on their way in one direction; more are lost, as at any full queue."""

BITS = 8

ETHERNET_BYTES = 14
IPV4 = b"\x08\x00"
SYN, ACK = 0x02, 0x10


@dataclass
class Direction:
    """One direction of the line."""

    source: socket.socket
    target: socket.socket
    delay_s: float
    loss: float
    bits_per_s: float
    chance: random.Random
    no_calls_to: bytes
    _free_at: float = 0.0
    _waiting: deque[tuple[float, bytes]] = field(default_factory=deque)

    def take(self, now: float) -> None:
        """Takes in a frame that has come."""
        frame, (_, _, kind, *_) = self.source.recvfrom(LARGEST_FRAME)
        if kind == PACKET_OUTGOING:  # our own
            return
        if self.no_calls_to and _is_call(frame, self.no_calls_to):
            return
        if self.chance.random() < self.loss or len(self._waiting) == MOST_WAITING:
            return
        self._free_at = max(now, self._free_at) + BITS * len(frame) / self.bits_per_s
        self._waiting.append((self._free_at + self.delay_s, frame))

    def pass_on(self, now: float) -> None:
        """Lets out what has arrived at the other end."""
        while self._waiting and self._waiting[0][0] <= now:
            self.target.send(self._waiting.popleft()[1])

    def next_at(self) -> float:
        """When the next frame arrives at the other end."""
        return self._waiting[0][0] if self._waiting else float("inf")


def _is_call(frame: bytes, address: bytes) -> bool:
    """Whether a frame asks for a TCP connection to an IPv4 address."""
    packet = frame[ETHERNET_BYTES:]
    if frame[12:ETHERNET_BYTES] != IPV4 or packet[9] != socket.IPPROTO_TCP:
        return False
    segment = packet[4 * (packet[0] & 0xF) :]
    return packet[16:20] == address and segment[13] & (SYN | ACK) == SYN


def main() -> None:
    """Passes on, for ever."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ends", nargs=2)
    parser.add_argument("--delay-s", type=float, required=True)
    parser.add_argument("--loss", type=float, required=True)
    parser.add_argument("--bits-per-s", type=float, required=True)
    parser.add_argument("--no-calls-to", default="")
    given = parser.parse_args()
    barred = socket.inet_aton(given.no_calls_to) if given.no_calls_to else b""
    first, second = (_open(name) for name in given.ends)
    line = (given.delay_s, given.loss, given.bits_per_s)
    directions = [
        Direction(
            source, target, *line, chance=random.Random(number), no_calls_to=barred
        )
        for number, (source, target) in enumerate([(first, second), (second, first)])
    ]
    print("READY", flush=True)
    _run(directions)


def _open(interface: str) -> socket.socket:
    kind = socket.htons(ETH_P_ALL)
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, kind)
    end.bind((interface, ETH_P_ALL))
    return end


def _run(directions: list[Direction]) -> None:
    selector = selectors.DefaultSelector()
    for direction in directions:
        selector.register(direction.source, selectors.EVENT_READ, direction)
    while True:
        next_at = min(direction.next_at() for direction in directions)
        wait_s = None if next_at == float("inf") else next_at - time.monotonic()
        for key, _ in selector.select(wait_s):
            key.data.take(time.monotonic())
        for direction in directions:
            direction.pass_on(time.monotonic())


if __name__ == "__main__":
    main()
