"""A small swarm of real ``Peer`` objects on one heap of events, without numbers.

Time is virtual and moves when something happens.
Streams carry zero bytes of the right length; training takes a given virtual time. What
is real is every message (it goes through the wire format), every plan and every phase.
What must hold at every moment of every scenario is asserted here, while it runs.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from p2pfusion.protocol import events as e
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import (
    BEFORE_START,
    TABLE,
    Chunk,
    Message,
    PeerRecord,
    StreamStart,
)
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.transfer import WINDOW_BYTES
from p2pfusion.protocol.wire import decode, encode
from p2pfusion.split.homes import Homes
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.plan import ExchangePlan, Hop

Watch = Callable[[str, e.Event | e.Effect, str], None]

LATENCY_S = 0.005
SAMPLES = 100


def small_layout() -> Layout:
    """Two hidden axes, five parameters: an MLP."""
    weight = Initial("uniform", 0.1)
    return Layout(
        (Axis("h1", 32), Axis("h2", 16)),
        (
            ParameterSpec("w1", (Dimension(32, "h1"), Dimension(8)), weight),
            ParameterSpec("b1", (Dimension(32, "h1"),), Initial("zeros")),
            ParameterSpec("w2", (Dimension(16, "h2"), Dimension(32, "h1")), weight),
            ParameterSpec("b2", (Dimension(16, "h2"),), Initial("zeros")),
            ParameterSpec("b3", (Dimension(10),), Initial("zeros")),
        ),
    )


def small_manifest(**changes: object) -> Manifest:
    """A manifest for tests; the model's name is never looked up here."""
    values = {
        "name": "test",
        "model": "mlp",
        "layout": small_layout(),
        "rounds": 6,
        "rounds_per_epoch": 2,
        "min_peers": 3,
        "deadline_min_s": 1.0,
        "deadline_max_s": 10.0,
        **changes,
    }
    return Manifest(**values)  # type: ignore[arg-type]


def described(what: e.Event | e.Effect) -> str:
    """One line without arrays, for logs and transcripts."""
    name = type(what).__name__
    match what:
        case e.Received(peer, message):
            return f"Received {peer} {message!r}"
        case e.Send(peer, message):
            return f"Send {peer} {message!r}"
        case e.Knock(host, port, message):
            return f"Knock {host}:{port} {message!r}"
        case e.Found(manifest) | e.Expect(manifest) | e.Adopt(manifest):
            return f"{name} {manifest.swarm_id}"
        case e.Resume(_, _, next_round, homes) | e.Seal(next_round, homes):
            return f"{name} {next_round} {homes.digest.hex()}"
        case e.EnterRound(plan, homes):
            return f"{name} {plan.round_index} {plan.digest.hex()} {homes.digest.hex()}"
        case e.Report(kind, details):
            return f"{name} {kind} {dict(details)}"
    return repr(what)


@dataclass
class Network:
    """What happens to a message on its way, by a seeded generator."""

    seed: int = 0
    loss: float = 0.0
    duplicates: float = 0.0
    jitter_s: float = 0.0
    in_order: bool = True
    """As on a connection: nothing overtakes on the way from one peer to another."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def delays(self) -> list[float]:
        """After how long each copy of a message arrives; none: it is lost."""
        if not (self.loss or self.duplicates or self.jitter_s):
            return [LATENCY_S]
        copies = 1 + (self._random.random() < self.duplicates)
        kept = [self._random.random() >= self.loss for _ in range(copies)]
        return [
            LATENCY_S + self._random.random() * self.jitter_s for keep in kept if keep
        ]


@dataclass
class Host:
    """One peer and what its machine remembers."""

    name: str
    peer: Peer
    training_s: float = 1.0
    alive: bool = True
    incarnation: int = 1
    plans: dict[int, ExchangePlan] = field(default_factory=dict)
    homes: dict[int, Homes] = field(default_factory=dict)
    saved: tuple[int, Homes] | None = None
    facts: tuple[e.Facts, ...] = ()
    opened: dict[int, e.StreamKey] = field(default_factory=dict)
    closed: Counter[tuple[int, str]] = field(default_factory=Counter)
    sealed: list[dict[str, object]] = field(default_factory=list)
    reports: list[e.Report] = field(default_factory=list)
    assembled: list[e.Assembled] = field(default_factory=list)
    sent_elements: Counter[int] = field(default_factory=Counter)
    received: dict[int, list[e.StreamKey]] = field(default_factory=dict)
    absorbed: Counter[int] = field(default_factory=Counter)
    trained: list[int] = field(default_factory=list)
    splits: dict[int, object] = field(default_factory=dict)
    wakes_at: float = float("inf")

    def reported(self, kind: str) -> list[e.Report]:
        """Its reports of one kind."""
        return [report for report in self.reports if report.kind == kind]


class Swarm:
    """Hosts, a clock that only moves when something happens, and a network."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.now = 0.0
        self.hosts: dict[str, Host] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.cut: Callable[[str, str, Message], bool] = lambda a, b, m: False
        self.network = Network()
        self.all_honest = True
        self._last_arrival: dict[tuple[str, str, bool], float] = {}
        self.log: list[str] = []
        self.watch: Watch = lambda name, what, mark: None

    # --- Setting up ------------------------------------------------------------------

    def add(self, name: str, *, fraction: str = "1/2", training_s: float = 1.0) -> Host:
        """A new peer, not connected to anything yet."""
        host = Host(name, Peer(self._record(name, fraction, 1)), training_s)
        self.hosts[name] = host
        self._wake(host)
        return host

    def _record(self, name: str, fraction: str, incarnation: int) -> PeerRecord:
        number = int(name[1:]) + 1
        return PeerRecord(
            peer=name,
            name=name,
            host="127.0.0.1",
            port=number,
            data_port=number + 1000,
            split_fraction=fraction,
            incarnation=incarnation,
            sequence=0,
            join_epoch=BEFORE_START,
        )

    def found(self, name: str) -> None:
        """This peer founds the swarm."""
        self.event(name, e.Found(self.manifest))

    def join(self, name: str, by: str) -> None:
        """This peer joins by another's address."""
        self.event(name, e.JoinAddress("127.0.0.1", int(by[1:]) + 1))

    def kill(self, name: str) -> None:
        """The peer's machine loses power."""
        self.hosts[name].alive = False

    def restart(self, name: str) -> None:
        """The peer starts again with what it had on disk."""
        old = self.hosts[name]
        fraction = old.peer.gossip.record.split_fraction
        incarnation = old.incarnation + 1
        record = self._record(name, fraction, incarnation)
        host = Host(name, Peer(record), old.training_s, incarnation=incarnation)
        host.facts, host.saved, host.sealed = old.facts, old.saved, old.sealed
        host.reports = old.reports
        self.hosts[name] = host
        saved = old.saved or (0, Homes.initial(self.manifest.layout))
        self.event(name, e.Resume(self.manifest, old.facts, *saved))
        self._wake(host)

    # --- Running ---------------------------------------------------------------------

    def at(self, instant: float, action: Callable[[], None]) -> None:
        """Does something at an instant."""
        self._count += 1
        heapq.heappush(self._heap, (max(instant, self.now), self._count, action))

    def run_to(self, instant: float) -> None:
        """Lets time pass."""
        self.at(instant, lambda: None)
        self.run(lambda: self.now >= instant)

    def run(self, until: Callable[[], bool], *, limit_s: float = 300.0) -> None:
        """Runs until a condition holds; fails if it does not within the limit."""
        end = self.now + limit_s
        while not until():
            assert self._heap, "nothing will ever happen again"
            self.now, _, action = heapq.heappop(self._heap)
            assert self.now <= end, f"not reached in {limit_s} virtual seconds"
            action()

    def run_until_done(self, *, limit_s: float = 300.0) -> None:
        """Runs until every living peer is done."""
        self.run(
            lambda: all(
                host.peer.standing.value == "done"
                for host in self.hosts.values()
                if host.alive
            ),
            limit_s=limit_s,
        )

    def event(self, name: str, event: e.Event) -> None:
        """Gives a peer an event and performs the effects."""
        host = self.hosts[name]
        if not host.alive:
            return
        self.log.append(f"{self.now:.3f} {name} < {described(event)}")
        self.watch(name, event, "<")
        for effect in host.peer.handle(event, self.now):
            self.log.append(f"{self.now:.3f} {name} > {described(effect)}")
            self.watch(name, effect, ":")
            self._perform(host, effect)
        self._wake(host)

    def _wake(self, host: Host) -> None:
        due = max(host.peer.deadline(), self.now)
        if due >= host.wakes_at:
            return
        host.wakes_at = due

        def tick() -> None:
            if self.hosts[host.name] is not host or not host.alive:
                return
            host.wakes_at = float("inf")
            if host.peer.deadline() <= self.now:
                self.event(host.name, e.Tick())
            else:
                self._wake(host)

        self.at(due, tick)

    # --- Effects ---------------------------------------------------------------------

    def _perform(self, host: Host, effect: e.Effect) -> None:
        match effect:
            case e.Send(peer, message):
                self._post(host, peer, message)
            case e.Knock(_, port, message):
                self._post(host, f"p{port - 1}", message)
            case e.SendStart(peer, pull, stream, samples):
                size, absent = self._size(host, stream)
                self._post(host, peer, StreamStart(pull, size, samples, absent))
            case e.SendChunk(peer, pull, stream, offset, size):
                payload = memoryview(bytes(size))
                if stream.hop == TABLE:
                    table = host.homes[stream.round_index].to_bytes()
                    payload = memoryview(table)[offset : offset + size]
                elif stream.hop != Hop.EXPORT:
                    host.sent_elements[stream.round_index] += size // 4
                self._check_credit(host, effect)
                self._post(host, peer, Chunk(pull, offset, payload))
            case e.StartTraining(number, split, _):
                assert split.size(self.manifest.layout) > 0
                assert number > max(host.trained, default=-1), "trained twice"
                host.trained.append(number)
                host.splits[number] = split
                finished = e.TrainingFinished(
                    number, SAMPLES, 1.0, 0.5, float(host.training_s)
                )

                def finish() -> None:
                    if self.hosts[host.name] is host:
                        self.event(host.name, finished)

                self.at(self.now + host.training_s, finish)
            case _:
                self._record_effect(host, effect)

    def _record_effect(self, host: Host, effect: e.Effect) -> None:
        match effect:
            case e.EnterRound(plan, homes):
                host.plans[plan.round_index] = plan
                host.homes[plan.round_index] = homes
            case e.CloseReduction(number, instead_of):
                host.closed[number, instead_of] += 1
                assert host.closed[number, instead_of] == 1, "fused twice"
            case e.OpenSink(pull, stream, weight, total, _):
                assert total == self._size(host, stream)[0] and weight > 0
                host.opened[pull] = stream
            case e.Absorb(pull, offset, payload):
                assert host.absorbed[pull] == offset, "bytes out of order"
                host.absorbed[pull] += payload.nbytes
            case e.CloseSink(pull, complete):
                stream = host.opened.pop(pull)
                if complete:
                    assert host.absorbed[pull] == self._size(host, stream)[0]
                    host.received.setdefault(stream.round_index, []).append(stream)
            case e.Seal(next_round, homes):
                assert host.saved is None or next_round > host.saved[0], "sealed twice"
                host.saved = (next_round, homes)
            case e.SaveFacts(facts):
                host.facts = facts
            case e.Assembled():
                host.assembled.append(effect)
            case e.Report(kind, details):
                host.reports.append(effect)
                if kind == "round-sealed":
                    host.sealed.append(dict(details))

    def _size(self, host: Host, stream: e.StreamKey) -> tuple[int, bytes]:
        if stream.hop == TABLE:
            return len(host.homes[stream.round_index].to_bytes()), b""
        plan = host.plans[stream.round_index]
        ends = {
            "source": stream.source,
            "target": stream.target,
            "instead_of": stream.instead_of or None,
        }
        segments = plan.stream(Hop(stream.hop), **ends)
        size = sum(segment.size for segment in segments) * 4
        if stream.hop != Hop.FUSED:
            return size, b""
        return size, bytes(-(-plan.ranges(Hop.FUSED, **ends).size // 8))

    def _check_credit(self, host: Host, chunk: e.SendChunk) -> None:
        receiver = self.hosts.get(chunk.peer)
        if receiver is None or not self.all_honest:
            return  # who speaks for the receiver may claim any credit
        pull = receiver.peer.exchange.pulls.find(chunk.pull, host.name)
        if pull is not None:
            in_flight = chunk.offset + chunk.size - pull.received
            assert in_flight <= WINDOW_BYTES, "more in flight than the credit"

    def _post(self, host: Host, peer: str, message: Message) -> None:
        if self.cut(host.name, peer, message):
            return
        frames = encode(message)
        on_data = isinstance(message, StreamStart | Chunk)
        received = e.Received(host.name, decode(frames, data_plane=on_data))

        def arrive() -> None:
            if peer in self.hosts:
                self.event(peer, received)

        way = (host.name, peer, on_data)
        for delay in self.network.delays():
            instant = self.now + delay
            if self.network.in_order:
                instant = max(instant, self._last_arrival.get(way, 0.0))
                self._last_arrival[way] = instant
            self.at(instant, arrive)


def started(count: int, *, fraction: str = "1/2", **changes: object) -> Swarm:
    """A swarm whose members have all been told to join."""
    swarm = Swarm(small_manifest(min_peers=count, **changes))
    for number in range(count):
        swarm.add(f"p{number}", fraction=fraction)
    swarm.found("p0")
    for number in range(1, count):
        swarm.join(f"p{number}", by="p0")
    return swarm
