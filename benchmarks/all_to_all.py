"""How fast four peers exchange segments, all with all, against what is there already.

    python benchmarks/all_to_all.py [--json] [--mib 16] [--repeats 15]

Four processes on loopback. Each has an array for each of the others, which goes in
chunks of 1 MiB into an array there; a turn begins when all are ready and ends when the
last has everything in place and has given away everything. Every array is compared
afterwards.

- *raw*: a TCP connection for each pair and direction, with a thread at either end,
  which does nothing but ``sendall`` or ``recv_into``, of a chunk at a time;
- *plain*: the daemon's data plane with frames that are not sealed, in one thread;
- *encrypted*: the same with frames sealed by AES-GCM and opened into place;
- *gloo*: torch's ``all_reduce`` among the four, one thread, of an array twice as large
  as what goes to one peer here: each process then sends and receives as many bytes as
  in the other ways (three quarters of its array, twice). It adds, too.

The ways take turns, each repetition in another order. A ratio of speeds is the median
of the ratios of single repetitions, its spread the quartiles; 1 is as fast. *processor*
is the time that all threads of the four processes together were running in a turn: on
two cores that nobody else uses, half of it is the least that a turn can take. Where
others use them, too, a way with many threads gets more of them, and only this compares.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from exchange import LOOPBACK, OFFSET, quartiles, row, table, wait
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pfusion.limits import CHUNK_BYTES
from p2pfusion.security.session import CIPHERS, End, ExchangeKey, PlainSession, Session
from p2pfusion.transport.base import Address, Incoming, Traffic
from p2pfusion.transport.tcp import DataPlane

PEERS = 4
PAIRS = {
    "plain_to_raw_tcp": ("plain", "raw"),
    "encrypted_to_raw_tcp": ("encrypted", "raw"),
    "plain_to_gloo_all_reduce": ("plain", "gloo"),
    "encrypted_to_gloo_all_reduce": ("encrypted", "gloo"),
}
TARGETS = {
    "plain_to_raw_tcp": 0.65,
    "plain_to_gloo_all_reduce": 1.0,
    "encrypted_to_gloo_all_reduce": 0.7,
}
WAYS = ("raw", "plain", "encrypted", "gloo")
Place = int | str
Sealed = list[bytes | memoryview]
Seconds = dict[str, list[float]]
Arrays = Mapping[int, memoryview]
Exchange = Callable[[Arrays, Arrays, Connection], None]
"""Gives away one array for each other peer, and fills one from each; says so by the
line, and returns when that is so everywhere."""

Open = Callable[[int, Connection], Exchange]
"""Opens what a way needs at one rank; tells its place by the line, and gets all."""


def meet(line: Connection, place: Place) -> list[Place]:
    """Where all ranks are, when all have said so."""
    line.send(place)
    places: list[Place] = line.recv()
    return places


def all_done(line: Connection) -> None:
    """This rank has everything; returns when all have."""
    line.send_bytes(b"full")
    line.recv_bytes()


def others(rank: int) -> list[int]:
    """All ranks but one."""
    return [each for each in range(PEERS) if each != rank]


# --- Bare connections ----------------------------------------------------------------


def raw(rank: int, line: Connection) -> Exchange:
    """A connection in each direction, with a thread at either end."""
    listener = socket.create_server((LOOPBACK, 0))
    places = meet(line, int(listener.getsockname()[1]))
    leaving: dict[int, socket.socket] = {}
    for other in others(rank):
        leaving[other] = socket.create_connection((LOOPBACK, int(places[other])))
        leaving[other].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        leaving[other].sendall(bytes([rank]))
    arriving: dict[int, socket.socket] = {}
    for _ in others(rank):
        channel = listener.accept()[0]
        arriving[channel.recv(1)[0]] = channel

    def exchange(values: Arrays, into: Arrays, line: Connection) -> None:
        threads = [
            *(partial(send_all, leaving[n], values[n]) for n in leaving),
            *(partial(receive_all, arriving[n], into[n]) for n in arriving),
        ]
        running = [threading.Thread(target=each) for each in threads]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        all_done(line)

    return exchange


def send_all(channel: socket.socket, values: memoryview) -> None:
    """Everything, chunk by chunk."""
    for start in range(0, len(values), CHUNK_BYTES):
        channel.sendall(values[start : start + CHUNK_BYTES])


def receive_all(channel: socket.socket, into: memoryview) -> None:
    """Until the array is full."""
    for start in range(0, len(into), CHUNK_BYTES):
        chunk = into[start : start + CHUNK_BYTES]
        filled = 0
        while filled < len(chunk):
            filled += channel.recv_into(chunk[filled:], 0, socket.MSG_WAITALL)


# --- The data plane ------------------------------------------------------------------


def plane(sealed: bool, rank: int, line: Connection) -> Exchange:
    """The daemon's data plane: seals, sends, takes and opens in one thread."""
    ours = DataPlane(Address(LOOPBACK, 0), Traffic())
    sessions: dict[str, Session | PlainSession] = {}
    for other in others(rank):
        session = sessions[f"peer-{other}"] = opened(rank, other, sealed)
        tokens = {
            "sending": session.sending_token,
            "receiving": session.receiving_token,
        }
        ours.open_session(f"peer-{other}", **tokens)
    places = meet(line, ours.address.port)
    for other in others(rank):
        ours.connect(f"peer-{other}", Address(LOOPBACK, int(places[other])))

    def exchange(values: Arrays, into: Arrays, line: Connection) -> None:
        rooms = {f"peer-{n}": array for n, array in into.items()}
        leaving = {f"peer-{n}": pieces(array) for n, array in values.items()}
        held: dict[str, Sealed] = {}
        left = sum(map(len, into.values()))
        while True:
            for peer, chunks in leaving.items():
                while peer in held or (chunk := next(chunks, None)):
                    if peer not in held:
                        held[peer] = sessions[peer].seal(chunk)
                    if not ours.send(peer, held[peer]):
                        break  # its queue is full: it goes on when the socket does
                    del held[peer]
            if wait(ours, line):
                line.recv_bytes()
                return
            for arrival in ours.take():
                assert isinstance(arrival, Incoming)
                left -= put(sessions[arrival.sender], arrival, rooms[arrival.sender])
                if not left:
                    line.send_bytes(b"full")

    return exchange


def pieces(values: memoryview) -> Iterator[Sealed]:
    """A head and a chunk, one after the other."""
    for start in range(0, len(values), CHUNK_BYTES):
        yield [OFFSET.pack(start), values[start : start + CHUNK_BYTES]]


def opened(rank: int, other: int, sealed: bool) -> Session | PlainSession:
    """One side of a session, with keys that need no exchange here."""
    keys = [ExchangeKey.from_bytes(bytes([1 + number] * 32)) for number in range(PEERS)]
    ends = [End(f"peer-{n}", keys[n].public, 1, CIPHERS[0]) for n in range(PEERS)]
    kind = Session if sealed else PlainSession
    return kind(keys[rank], ends[rank], ends[other], swarm="benchmark")


def put(session: Session | PlainSession, arrival: Incoming, into: memoryview) -> int:
    """Opens a chunk into its place; its bytes."""
    head, payload = arrival.frames
    (start,) = OFFSET.unpack(session.open_head(head))
    size = len(payload) - session.overhead_bytes
    session.open_payload(payload, into[start : start + size])
    return size


# --- gloo ----------------------------------------------------------------------------


def gloo(directory: str, rank: int, line: Connection) -> Exchange:
    """``all_reduce`` of zeros: what is compared stays as the others want it."""
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    meet(line, "")
    distributed.init_process_group(
        "gloo", f"file://{directory}/meet", rank=rank, world_size=PEERS
    )
    held: dict[int, torch.Tensor] = {}

    def exchange(values: Arrays, into: Arrays, line: Connection) -> None:
        size = 2 * len(next(iter(values.values()))) // 4
        array = held.setdefault(size, torch.zeros(size, dtype=torch.float32))
        array.fill_(rank)
        distributed.all_reduce(array)
        all_done(line)
        assert float(array[0]) == float(array[-1]) == sum(range(PEERS))

    return exchange


# --- Taking turns --------------------------------------------------------------------


def running(name: str, rank: int, mib: int, directory: str, line: Connection) -> None:
    """The process of one rank: a turn whenever told to, and whether all was right."""
    ways: dict[str, Open] = {
        "raw": raw,
        "plain": partial(plane, False),
        "encrypted": partial(plane, True),
        "gloo": partial(gloo, directory),
    }
    exchange = ways[name](rank, line)
    values = {n: expected(rank, n, mib) for n in others(rank)}
    wanted = {n: expected(n, rank, mib) for n in others(rank)}
    arrays = {n: np.zeros(mib << 18, np.float32) for n in others(rank)}
    line.send_bytes(b"ready")
    while line.recv():
        for array in arrays.values():
            array[:] = 0
        line.send_bytes(b"ready")
        line.recv_bytes()
        begun_s = time.process_time()
        exchange(
            {n: array.data.cast("B") for n, array in values.items()},
            {n: array.data.cast("B") for n, array in arrays.items()},
            line,
        )
        used_s = time.process_time() - begun_s
        same = (np.array_equal(arrays[n], wanted[n]) for n in arrays)
        assert name == "gloo" or all(same), "something else has arrived"
        line.send(used_s)


def expected(source: int, target: int, mib: int) -> NDArray[np.float32]:
    """What one gives another."""
    random = np.random.default_rng(PEERS * source + target)
    return random.standard_normal(mib << 18, np.float32)


class Way:
    """The four processes of a way."""

    def __init__(self, name: str, mib: int, directory: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._lines: list[Connection] = []
        for rank in range(PEERS):
            line, far = context.Pipe()
            context.Process(
                target=running, args=(name, rank, mib, directory, far), daemon=True
            ).start()
            self._lines.append(line)
        places = [line.recv() for line in self._lines]
        for line in self._lines:
            line.send(places)
        self._all(b"ready")

    def turn(self) -> tuple[float, float]:
        """Seconds from the word to go until the last has everything, and seconds of
        processor time of all."""
        for line in self._lines:
            line.send(True)
        self._all(b"ready")
        begun = time.perf_counter()
        self._tell(b"go")
        self._all(b"full")
        seconds = time.perf_counter() - begun
        self._tell(b"all")
        return seconds, sum(line.recv() for line in self._lines)

    def end(self) -> None:
        """No turn more."""
        for line in self._lines:
            line.send(False)

    def _tell(self, word: bytes) -> None:
        for line in self._lines:
            line.send_bytes(word)

    def _all(self, word: bytes) -> None:
        assert all([line.recv_bytes() == word for line in self._lines])


def measure(mib: int, repeats: int) -> tuple[Seconds, Seconds]:
    """Seconds of every turn of every way, by the clock and of processors."""
    os.environ["OMP_NUM_THREADS"] = "1"
    seconds: Seconds = {name: [] for name in WAYS}
    used: Seconds = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as directory:
        ways = {name: Way(name, mib, directory) for name in WAYS}
        names = list(ways)
        for _ in range(1 + repeats):
            for name in names:
                took_s, used_s = ways[name].turn()
                seconds[name].append(took_s)
                used[name].append(used_s)
            names.append(names.pop(0))
        for way in ways.values():
            way.end()
    for times in (*seconds.values(), *used.values()):
        del times[0]  # the first time everybody connects, and touches every page
    return seconds, used


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--mib", type=int, default=16, help="from each to each")
    parser.add_argument("--repeats", type=int, default=15, help="of every way")
    options = parser.parse_args()
    seconds, used = measure(options.mib, options.repeats)
    ratios, of_processors = compared(seconds), compared(used)
    moved = options.mib * PEERS * (PEERS - 1)
    found = {
        "benchmark": "all_to_all",
        "peers": PEERS,
        "mib": options.mib,
        "repeats": options.repeats,
        "load": os.getloadavg(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "ways": {name: row(times, moved) for name, times in seconds.items()},
        "ratios": {n: round(statistics.median(r), 3) for n, r in ratios.items()},
        "quartiles": {n: quartiles(r) for n, r in ratios.items()},
        "targets": TARGETS,
        "processor_s": {n: round(statistics.median(t), 5) for n, t in used.items()},
        "processor_ratios": {
            n: round(statistics.median(r), 3) for n, r in of_processors.items()
        },
    }
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(table(found))
    print("\nprocessor   median ms")
    for name, times in used.items():
        print(f"{name:10} {statistics.median(times) * 1e3:10.1f}")
    print("\nof processor time, the rival's to the way's")
    for name, ratio in of_processors.items():
        print(f"{name:30} {statistics.median(ratio):7.2f}")


def compared(seconds: Seconds) -> Seconds:
    """The ratios of speeds, repetition by repetition."""
    return {
        name: [r / w for w, r in zip(seconds[way], seconds[rival], strict=True)]
        for name, (way, rival) in PAIRS.items()
    }


if __name__ == "__main__":
    main()
