"""How fast segments travel between two processes, against what is there without us.

    python benchmarks/exchange.py [--json] [--mib 64] [--repeats 15]

Two processes on loopback, one core each at best. The sender's values go, in chunks of
1 MiB, from its array into an array of the receiver, which says when all are in place;
that is what is timed, and every array is compared afterwards.

- *raw*: a TCP connection, ``sendall`` and ``recv_into``;
- *plain*: the daemon's data plane with frames that are not sealed;
- *encrypted*: the same with frames sealed by AES-GCM and opened into place;
- *zeromq*, *curve*: DEALER and ROUTER with frames of 1 MiB that are copied into place,
  as they are and with ZeroMQ's own encryption;
- *gloo*: torch's ``all_reduce`` of the array: each process sends it once and receives
  it once, at the same time, and adds. One thread.

The ways take turns, each repetition in another order. A ratio of speeds is the median
of the ratios of single repetitions, its spread the quartiles; 1 is as fast.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import select
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import zmq
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pfusion.limits import CHUNK_BYTES
from p2pfusion.security.session import CIPHERS, End, ExchangeKey, PlainSession, Session
from p2pfusion.transport.base import Address, Incoming, Traffic
from p2pfusion.transport.tcp import DataPlane

SEED = 0
PAIRS = {
    "plain_to_raw_tcp": ("plain", "raw"),
    "encrypted_to_raw_tcp": ("encrypted", "raw"),
    "encrypted_to_plain": ("encrypted", "plain"),
    "encrypted_to_curve": ("encrypted", "curve"),
    "encrypted_to_gloo_all_reduce": ("encrypted", "gloo"),
}
TARGETS = {
    "plain_to_raw_tcp": 0.7,
    "encrypted_to_raw_tcp": 0.5,
    "encrypted_to_plain": 0.6,
    "encrypted_to_curve": 1.8,
}
LOOPBACK = "127.0.0.1"
OFFSET = struct.Struct("<Q")
"""The head of a chunk: where it belongs."""

Place = int | str
"""What the sender has to know of the receiver: a port, a file."""

Send = Callable[[memoryview, Connection], None]
"""Sends all bytes, and returns when the other side says that they are in place."""

Receive = Callable[[memoryview], None]
"""Returns when the array is full."""


# --- A bare connection ---------------------------------------------------------------


def raw_sender(place: Place) -> Send:
    """``sendall``."""
    channel = socket.create_connection((LOOPBACK, int(place)))
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(values: memoryview, done: Connection) -> None:
        for start in range(0, len(values), CHUNK_BYTES):
            channel.sendall(values[start : start + CHUNK_BYTES])
        done.recv_bytes()

    return send


def raw_receiver() -> tuple[Place, Receive]:
    """``recv_into``."""
    listener = socket.create_server((LOOPBACK, 0))
    channels: list[socket.socket] = []

    def receive(into: memoryview) -> None:
        if not channels:
            channels.append(listener.accept()[0])
        for start in range(0, len(into), CHUNK_BYTES):
            chunk = into[start : start + CHUNK_BYTES]
            filled = 0
            while filled < len(chunk):
                filled += channels[0].recv_into(chunk[filled:])

    return int(listener.getsockname()[1]), receive


# --- The data plane ------------------------------------------------------------------


def session(rank: int, sealed: bool) -> Session | PlainSession:
    """One of the two sides of a session, with keys that need no exchange here."""
    keys = [ExchangeKey.from_bytes(bytes([number] * 32)) for number in (1, 2)]
    ends = [End(f"peer-{n}", keys[n].public, 1, CIPHERS[0]) for n in (0, 1)]
    kind = Session if sealed else PlainSession
    return kind(keys[rank], ends[rank], ends[1 - rank], swarm="benchmark")


def open_plane(other: str, ours: Session | PlainSession) -> DataPlane:
    """A data plane with a session."""
    plane = DataPlane(Address(LOOPBACK, 0), Traffic())
    tokens = {"sending": ours.sending_token, "receiving": ours.receiving_token}
    plane.open_session(other, **tokens)
    return plane


def plane_sender(sealed: bool, place: Place) -> Send:
    """Seals and sends as the daemon does: all in one thread."""
    ours = session(0, sealed)
    plane = open_plane("peer-1", ours)
    plane.connect("peer-1", Address(LOOPBACK, int(place)))

    def send(values: memoryview, done: Connection) -> None:
        for start in range(0, len(values), CHUNK_BYTES):
            chunk = values[start : start + CHUNK_BYTES]
            frames = ours.seal([OFFSET.pack(start), chunk])
            while not plane.send("peer-1", frames):
                wait(plane)
                plane.take()
        while not wait(plane, done):
            plane.take()
        done.recv_bytes()

    return send


def plane_receiver(sealed: bool) -> tuple[Place, Receive]:
    """Takes, and opens into place."""
    ours = session(1, sealed)
    plane = open_plane("peer-0", ours)

    def receive(into: memoryview) -> None:
        left = len(into)
        while left:
            wait(plane)
            for arrival in plane.take():
                assert isinstance(arrival, Incoming)
                head, payload = arrival.frames
                (start,) = OFFSET.unpack(ours.open_head(head))
                size = len(payload) - ours.overhead_bytes
                ours.open_payload(payload, into[start : start + size])
                left -= size

    return plane.address.port, receive


def wait(plane: DataPlane, done: Connection | None = None) -> bool:
    """Until the plane has work, or ``done`` something to say; whether that was so."""
    poller = select.poll()
    poller.register(plane.fileno(), select.POLLIN)
    if done is not None:
        poller.register(done.fileno(), select.POLLIN)
    due = plane.deadline()
    left_s = None if due is None else max(0.0, due - time.monotonic())
    ready = poller.poll(None if left_s is None else 1_000 * left_s)
    return done is not None and any(number == done.fileno() for number, _ in ready)


# --- ZeroMQ --------------------------------------------------------------------------


def zeromq_sender(curve: bool, place: Place) -> Send:
    """A DEALER whose frames leave without a copy."""
    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    port, server_key = str(place).split()
    if curve:
        dealer.curve_publickey, dealer.curve_secretkey = zmq.curve_keypair()
        dealer.curve_serverkey = server_key.encode()
    dealer.connect(f"tcp://{LOOPBACK}:{port}")

    def send(values: memoryview, done: Connection) -> None:
        for start in range(0, len(values), CHUNK_BYTES):
            dealer.send(values[start : start + CHUNK_BYTES], copy=False)
        done.recv_bytes()

    return send


def zeromq_receiver(curve: bool) -> tuple[Place, Receive]:
    """A ROUTER whose frames are copied into place."""
    router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    public, secret = zmq.curve_keypair()
    if curve:
        router.curve_server = True
        router.curve_publickey, router.curve_secretkey = public, secret
    port = router.bind_to_random_port(f"tcp://{LOOPBACK}")

    def receive(into: memoryview) -> None:
        for start in range(0, len(into), CHUNK_BYTES):
            _, frame = router.recv_multipart(copy=False)
            into[start : start + CHUNK_BYTES] = frame.buffer

    return f"{port} {public.decode()}", receive


# --- gloo ----------------------------------------------------------------------------


def gloo_sender(place: Place) -> Send:
    """One end of ``all_reduce``."""
    reduce = gloo(place, 0)

    def send(values: memoryview, done: Connection) -> None:
        reduce(values)
        done.recv_bytes()

    return send


def gloo_receiver() -> tuple[Place, Receive]:
    """The other end. Its array is zero, so that the sum is what the sender has."""
    directory = tempfile.TemporaryDirectory()
    place = f"{directory.name}/meet"
    reduce = gloo(place, 1)

    def receive(into: memoryview) -> None:
        assert directory  # goes with this function
        reduce(into)

    return place, receive


def gloo(place: Place, rank: int) -> Receive:
    """``all_reduce`` between two processes that meet in a file, when first called."""

    def reduce(array: memoryview) -> None:
        import torch
        from torch import distributed

        if not distributed.is_initialized():
            torch.set_num_threads(1)
            distributed.init_process_group(
                "gloo", f"file://{place}", rank=rank, world_size=2
            )
        distributed.all_reduce(torch.frombuffer(array, dtype=torch.float32))

    return reduce


# --- Taking turns --------------------------------------------------------------------

WAYS: dict[str, tuple[Callable[[Place], Send], Callable[[], tuple[Place, Receive]]]]
WAYS = {
    "raw": (raw_sender, raw_receiver),
    "plain": (partial(plane_sender, False), partial(plane_receiver, False)),
    "encrypted": (partial(plane_sender, True), partial(plane_receiver, True)),
    "zeromq": (partial(zeromq_sender, False), partial(zeromq_receiver, False)),
    "curve": (partial(zeromq_sender, True), partial(zeromq_receiver, True)),
    "gloo": (gloo_sender, gloo_receiver),
}


def sending(name: str, mib: int, main: Connection, other: Connection) -> None:
    """The sender's process: a transfer whenever told to, and how long it took."""
    values = expected(mib).data.cast("B")
    send = WAYS[name][0](other.recv())
    while main.recv():
        other.send(True)
        assert other.recv() == "ready"
        start = time.perf_counter()
        send(values, other)
        seconds = time.perf_counter() - start
        assert other.recv() is True, "something else has arrived"
        main.send(seconds)
    other.send(False)


def receiving(name: str, mib: int, other: Connection) -> None:
    """The receiver's process: receives whenever told to, and compares."""
    wanted, array = expected(mib), np.zeros(mib << 18, np.float32)
    place, receive = WAYS[name][1]()
    other.send(place)
    while other.recv():
        array[:] = 0
        other.send("ready")
        receive(array.data.cast("B"))
        other.send_bytes(b"done")
        other.send(bool(np.array_equal(array, wanted)))


def expected(mib: int) -> NDArray[np.float32]:
    """What is sent."""
    return np.random.default_rng(SEED).standard_normal(mib << 18, np.float32)


def start(name: str, mib: int) -> Connection:
    """Starts the two processes of a way; the line to the sender's."""
    context = multiprocessing.get_context("spawn")
    (line, far), (one, other) = context.Pipe(), context.Pipe()
    for target, arguments in ((sending, (far, one)), (receiving, (other,))):
        process = context.Process(
            target=target, args=(name, mib, *arguments), daemon=True
        )
        process.start()
    return line


def measure(mib: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of every repetition of every way."""
    os.environ["OMP_NUM_THREADS"] = "1"
    lines = {name: start(name, mib) for name in WAYS}
    seconds: dict[str, list[float]] = {name: [] for name in lines}
    names = list(lines)
    for _ in range(1 + repeats):
        for name in names:
            lines[name].send(True)
            seconds[name].append(float(lines[name].recv()))
        names.append(names.pop(0))
    for line in lines.values():
        line.send(False)
    # The first time everybody connects, and touches every page.
    return {name: times[1:] for name, times in seconds.items()}


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--mib", type=int, default=64, help="size of a transfer")
    parser.add_argument("--repeats", type=int, default=15, help="of every way")
    options = parser.parse_args()
    seconds = measure(options.mib, options.repeats)
    ratios = {
        name: [r / w for w, r in zip(seconds[way], seconds[rival], strict=True)]
        for name, (way, rival) in PAIRS.items()
    }
    found = {
        "benchmark": "exchange",
        "mib": options.mib,
        "repeats": options.repeats,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "ways": {name: row(times, options.mib) for name, times in seconds.items()},
        "ratios": {n: round(statistics.median(r), 3) for n, r in ratios.items()},
        "quartiles": {n: quartiles(r) for n, r in ratios.items()},
        "targets": TARGETS,
    }
    print(json.dumps(found, indent=2) if options.json else table(found))


def row(seconds: list[float], mib: int) -> dict[str, float]:
    """The figures of one way."""
    median_s = statistics.median(seconds)
    return {
        "gib_per_s": round(mib / 1024 / median_s, 3),
        "median_s": round(median_s, 5),
        "min_s": round(min(seconds), 5),
        "max_s": round(max(seconds), 5),
    }


def quartiles(values: list[float]) -> list[float]:
    """The first and the third."""
    first, third = np.quantile(values, [0.25, 0.75])
    return [round(float(first), 3), round(float(third), 3)]


def table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """What people read."""
    lines = ["way         GiB/s  median ms    min ms    max ms"]
    for name, way in found["ways"].items():
        lines.append(
            f"{name:10} {way['gib_per_s']:6.2f} {way['median_s'] * 1e3:10.1f} "
            f"{way['min_s'] * 1e3:9.1f} {way['max_s'] * 1e3:9.1f}"
        )
    lines += ["", "speeds                           ratio     quartiles   target"]
    for name, ratio in found["ratios"].items():
        first, third = found["quartiles"][name]
        target = found["targets"].get(name, "")
        lines.append(f"{name:30} {ratio:7.2f}  {first:5.2f} {third:5.2f}   {target:>6}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
