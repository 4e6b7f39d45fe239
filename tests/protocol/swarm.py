"""A small swarm of real ``Peer`` objects on one heap of events, without numbers.

Time is virtual and moves when something happens.
Streams carry zero bytes of the right length; training takes a given virtual time. What
is real is every message (it goes through the wire format), every plan and every phase,
and who is listened to: a peer that was dialled, a guest with an invitation's key, and
the greetings of strangers where the manifest lets them in.
What must hold at every moment of every scenario is asserted here, while it runs.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import replace

from p2pfusion.protocol import events as e
from p2pfusion.protocol.access import Introduced, KnockFailed
from p2pfusion.protocol.admission import Invite
from p2pfusion.protocol.joining import Way
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import (
    CHECKPOINT,
    TABLE,
    Chunk,
    Hello,
    Message,
    PeerRecord,
    StreamStart,
)
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.planning import Planner
from p2pfusion.protocol.stream import is_by_cells, stream_elements, stream_segments
from p2pfusion.protocol.transfer import window_bytes
from p2pfusion.protocol.wire import decode, encode
from p2pfusion.security import Scheme, Signer
from p2pfusion.simulation.planner import SharedPlanner
from p2pfusion.split.homes import Homes
from p2pfusion.split.keeping import Cells
from p2pfusion.split.plan import Hop
from tests.protocol.names import NAMES, NamedKey, record
from tests.protocol.stage import (
    LATENCY_S,
    Host,
    Log,
    Network,
    small_manifest,
)
from tests.protocol.stage import described as described
from tests.protocol.stage import small_layout as small_layout

Watch = Callable[[str, e.Event | e.Effect, str], None]

SAMPLES = 100
GUEST = "guest "
"""Begins the sender's name of messages from keys that are not admitted."""


class Swarm:
    """Hosts, a clock that only moves when something happens, and a network."""

    def __init__(
        self,
        manifest: Manifest,
        keys: Callable[[str], Signer] = NamedKey,
        scheme: Scheme = NAMES,
        planner: Planner | None = None,
    ) -> None:
        """``planner``: of all hosts; what one of them has planned, none plans again."""
        self.manifest = manifest
        self.keys, self.scheme = keys, scheme
        self.planner = SharedPlanner() if planner is None else planner
        self.now = 0.0
        self.hosts: dict[str, Host] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.cut: Callable[[str, str, Message], bool] = lambda a, b, m: False
        self.network = Network()
        self.all_honest = True
        self._last_arrival: dict[tuple[str, str, bool], float] = {}
        self.log = Log()
        self.watch: Watch = lambda name, what, mark: None

    # --- Setting up ------------------------------------------------------------------

    def add(self, name: str, *, fraction: str = "1/2", training_s: float = 1.0) -> Host:
        """A new peer, not connected to anything yet; ``name`` ends in a number."""
        signer = self.keys(name)
        there = record(signer.peer, port=int(name[1:]) + 1, split_fraction=fraction)
        host = Host(signer.peer, self._peer(there, signer), training_s)
        self.hosts[host.name] = host
        self._wake(host)
        return host

    def _peer(self, there: PeerRecord, signer: Signer) -> Peer:
        fresh = f"exchange {there.peer} {there.incarnation}".encode()
        changes = {
            "key": signer.public,
            "transport_key": hashlib.sha256(b"transport" + signer.public).digest(),
            "exchange_key": hashlib.sha256(fresh).digest(),
        }
        there = replace(there, **changes)
        return Peer(there, signer, self.scheme, planner=self.planner)

    def found(self, name: str) -> None:
        """This peer founds the swarm."""
        self.event(name, e.Found(self.manifest))

    def way(self, by: str, invite: Invite | None = None) -> Way:
        """What a ticket of this peer says, or its banner."""
        there = self.hosts[by].peer.gossip.record
        way = Way("127.0.0.1", there.port, by, there.transport_key)
        if invite is None:
            return way
        swarm = self.manifest.swarm_id
        return replace(way, swarm=swarm, invite=invite.id, secret=invite.secret)

    def join(self, name: str, by: str, invite: Invite | None = None) -> None:
        """This peer joins by another's address and key, with a ticket or without."""
        self.event(name, e.JoinBy(self.way(by, invite)))

    def join_address(self, name: str, by: str) -> None:
        """This peer joins by another's address, knowing nothing of who answers."""
        there = self.hosts[by].peer.gossip.record
        self.event(name, e.JoinBy(Way("127.0.0.1", there.port)))

    def kill(self, name: str) -> None:
        """The peer's machine loses power."""
        self.hosts[name].alive = False

    def restart(self, name: str) -> None:
        """The peer starts again with what it had on disk."""
        old = self.hosts[name]
        host = self._fresh(old)
        host.facts, host.saved, host.invites = old.facts, old.saved, old.invites
        host.sealed, host.checkpoint = old.sealed, old.checkpoint
        saved = old.saved or (0, Homes.initial(self.manifest.layout))
        self.event(name, e.Resume(self.manifest, old.facts, *saved))
        host.peer.door.admission.restore(old.invites)

    def restart_empty(self, name: str) -> None:
        """The peer starts again with its key, and without anything of the swarm."""
        self._fresh(self.hosts[name])

    def _fresh(self, old: Host) -> Host:
        gossip = old.peer.gossip
        said = ("name", "host", "port", "split_fraction")
        changes = {key: getattr(gossip.record, key) for key in said}
        incarnation = old.incarnation + 1
        there = record(old.name, incarnation=incarnation, **changes)
        peer = self._peer(there, gossip.signer)
        host = Host(old.name, peer, old.training_s, incarnation=incarnation)
        host.reports = old.reports
        self.hosts[old.name] = host
        self._wake(host)
        return host

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
        end, last = self.now + limit_s, (self.now, self._count)
        while not until():
            assert self._heap, "nothing will ever happen again"
            self.now, _, action = heapq.heappop(self._heap)
            last = last if self.now == last[0] else (self.now, self._count)
            assert self._count < last[1] + 100_000, "time stands still"
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
        self.log.add(self.now, name, "<", event)
        self.watch(name, event, "<")
        for effect in host.peer.handle(event, self.now):
            self.log.add(self.now, name, ">", effect)
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

    def lacked_by(self, name: str) -> Cells:
        """What a peer has not got by the plan of its round."""
        plans = self.hosts[name].plans
        if not plans:
            return ()
        homes = plans[max(plans)].homes
        return tuple(homes.lacking(name, index) for index in range(len(homes.version)))

    # --- Effects ---------------------------------------------------------------------

    def _perform(self, host: Host, effect: e.Effect) -> None:
        match effect:
            case e.Send(peer, message):
                self._post(host, peer, message)
            case e.Dial(there):
                self._admit(host, there.peer)
            case e.Bar(peer):
                host.barred.add(peer)
                host.admitted.discard(peer)
            case e.Ask() | e.Knock() | e.Reply():
                self._approach(host, effect)
            case e.SendStart(peer, pull, stream, samples, base):
                size, absent = self._size(host, stream)
                head = StreamStart(pull, size, samples, absent, base)
                self._post(host, peer, head)
            case e.SendChunk(peer, pull, stream, offset, size):
                payload = memoryview(bytes(size))
                if stream.hop == TABLE:
                    table = host.homes[stream.round_index].to_bytes()
                    payload = memoryview(table)[offset : offset + size]
                elif stream.hop == CHECKPOINT:
                    assert host.checkpoint is not None
                    # Who claims to have more than there is makes it up.
                    piece = host.checkpoint[offset : offset + size]
                    payload = memoryview(piece.ljust(size, b"x"))
                elif stream.hop != Hop.EXPORT:
                    host.sent_elements[stream.round_index] += size // 4
                self._check_credit(host, effect)
                self._post(host, peer, Chunk(pull, offset, payload))
            case e.StartTraining(number, split, _):
                assert split.size(self.manifest.layout) > 0
                assert number > max(host.trained, default=-1), "trained twice"
                host.trained.append(number)
                host.splits[number] = split
                host.next_training = number
                self._train(host)
            case e.OfferLate(number, base):
                assert base in host.trained and base < number
                host.offered_late[number] = base
                if host.next_training == number:
                    host.next_training = None
            case e.Adopt() | e.KeepCheckpoint() | e.CheckCheckpoint():
                self._begin_with(host, effect)
            case e.NoCheckpoint():
                host.is_lost = True
            case _:
                self._record_effect(host, effect)

    def _begin_with(
        self, host: Host, effect: e.Adopt | e.KeepCheckpoint | e.CheckCheckpoint
    ) -> None:
        """The checkpoint that the swarm begins with, if its manifest names one."""
        if isinstance(effect, e.KeepCheckpoint):
            if effect.offset == 0:
                host.arrived.clear()
            assert effect.offset == len(host.arrived) < effect.total_bytes
            host.arrived += effect.payload
            return
        assert host.checkpoint is None or isinstance(effect, e.Adopt)
        if isinstance(effect, e.CheckCheckpoint):
            digest = hashlib.sha256(host.arrived).hexdigest()
            if digest != self.manifest.pretrained:
                self.at(self.now, lambda: self.event(host.name, e.BadCheckpoint()))
                return
            host.checkpoint = bytes(host.arrived)
        if not self.manifest.pretrained:
            return
        found: e.Event = e.LacksCheckpoint()
        if host.checkpoint is not None:
            found = e.HasCheckpoint(len(host.checkpoint))
        self.at(self.now, lambda: self.event(host.name, found))

    def _train(self, host: Host) -> None:
        """One round at a time; of those that wait the newest."""
        if host.training is not None or host.next_training is None:
            return
        number, host.next_training = host.next_training, None
        host.training = number
        l1 = 2.0 if self.manifest.adds_changes else 0.0
        finished = e.TrainingFinished(
            number, SAMPLES, 1.0, 0.5, float(host.training_s), l1
        )

        def finish() -> None:
            if self.hosts[host.name] is host:
                host.training = None
                self.event(host.name, finished)
                self._train(host)

        self.at(self.now + host.training_s, finish)

    def _record_effect(self, host: Host, effect: e.Effect) -> None:
        match effect:
            case e.EnterRound(plan, homes):
                assert not self.manifest.pretrained or host.checkpoint is not None
                host.plans[plan.round_index] = plan
                host.homes[plan.round_index] = homes
            case e.HashOffer(number, reducers):
                given = [
                    e.StreamKey(Hop.CONTRIBUTION.value, number, host.name, reducer)
                    for reducer in reducers
                ]
                digests = [(stream.target, self._hash(stream)) for stream in given]
                self._soon(host, e.Hashed(number, tuple(digests)))
            case e.FindLacking(number, cells):
                self.at(self.now, lambda: self._find_lacking(host, number, cells))
            case e.CloseReduction(number, instead_of):
                host.closed[number, instead_of] += 1
                assert host.closed[number, instead_of] == 1, "fused twice"
                if self.manifest.adds_changes:
                    moved = e.Moved(number, 0.5)
                    self.at(self.now, lambda: self.event(host.name, moved))
            case e.OpenSink(pull, stream, weight, total, _):
                assert total == self._size(host, stream)[0] and weight > 0
                if stream.hop == Hop.CONTRIBUTION:
                    host.weights[stream.round_index, stream.source].add(weight)
                host.opened[pull] = stream
            case e.Absorb(pull, offset, payload):
                assert host.absorbed[pull] == offset, "bytes out of order"
                host.absorbed[pull] += payload.nbytes
            case e.CloseSink(pull, complete):
                stream = host.opened.pop(pull)
                if complete and stream.hop == Hop.CONTRIBUTION:
                    self._soon(host, e.Came(stream, self._hash(stream)))
                if complete:
                    assert host.absorbed[pull] == self._size(host, stream)[0]
                    host.received.setdefault(stream.round_index, []).append(stream)
            case e.Seal(next_round, homes):
                assert host.saved is None or next_round > host.saved[0], "sealed twice"
                host.saved = (next_round, homes)
            case e.SaveFacts(facts):
                host.facts = facts
            case e.SaveInvites(invites):
                host.invites = invites
            case e.Assembled():
                host.assembled.append(effect)
            case e.Report(kind, details):
                host.reports.append(effect)
                if kind == "round-sealed":
                    host.sealed.append(dict(details))

    def _hash(self, stream: e.StreamKey) -> bytes:
        """Every life of a peer trains other values."""
        life = self.hosts[stream.source].peer.gossip.record.incarnation
        text = f"{stream.source} {life} {stream.round_index} {stream.target}"
        return hashlib.sha256(text.encode()).digest()

    def _find_lacking(self, host: Host, number: int, cells: Cells) -> None:
        """What the host's store says, where a test has given it one."""
        host.looked_for.append(cells)
        newest = host.plans[number].homes.version
        versions = host.versions or tuple(newest)
        triples = zip(cells, versions, newest, strict=True)
        lacking = tuple(mask & (own < new) for mask, own, new in triples)
        if self.hosts[host.name] is host:
            self.event(host.name, e.FoundLacking(number, lacking, versions))

    def _size(self, host: Host, stream: e.StreamKey) -> tuple[int, bytes]:
        if stream.hop == CHECKPOINT:
            return host.peer.exchange.fetching.held_bytes, b""
        if stream.hop == TABLE:
            return len(host.homes[stream.round_index].to_bytes()), b""
        plan = host.plans[stream.round_index]
        if stream.hop == Hop.SEEDS:
            return stream_elements(plan, stream) * 4, b""
        segments = stream_segments(plan, stream)
        size = sum(segment.size for segment in segments) * 4
        if is_by_cells(stream):
            return size, host.absent_here * -(-len(segments) // 8)
        if stream.hop != Hop.FUSED:
            return size, b""
        ends = {"source": stream.source, "target": stream.target}
        instead_of = stream.instead_of or None
        ranges = plan.ranges(Hop.FUSED, **ends, instead_of=instead_of)
        return size, bytes(-(-ranges.size // 8))

    def _check_credit(self, host: Host, chunk: e.SendChunk) -> None:
        receiver = self.hosts.get(chunk.peer)
        if receiver is None or not self.all_honest:
            return  # who speaks for the receiver may claim any credit
        pull = receiver.peer.exchange.pulls.find(chunk.pull, host.name)
        if pull is not None:
            in_flight = chunk.offset + chunk.size - pull.received
            window = window_bytes(pull.stream.hop)
            assert in_flight <= window, "more in flight than the credit"

    # --- Connections -----------------------------------------------------------------

    def _admit(self, host: Host, peer: str) -> None:
        host.admitted.add(peer)
        host.barred.discard(peer)
        waited = [received for received in host.parked if received.peer == peer]
        host.parked = [r for r in host.parked if r.peer != peer]
        for received in waited:
            self.at(self.now, lambda r=received: self._arrive(host.name, r))

    def _approach(self, host: Host, effect: e.Ask | e.Knock | e.Reply) -> None:
        """What is done at an address, or to a stranger."""
        if isinstance(effect, e.Reply):
            self._post(host, effect.record.peer, effect.message)
            return
        at = effect if isinstance(effect, e.Ask) else effect.way
        records = [h.peer.gossip.record for h in self.hosts.values() if h.alive]
        there = next((r for r in records if r.port == at.port), None)
        if there is None:
            return
        if isinstance(effect, e.Ask):
            manifest = self.hosts[there.peer].peer.manifest
            takes = manifest is not None and manifest.admission != "ticket"
            said = (there.peer, there.transport_key)
            answer = Introduced(at.host, at.port, *said)
            failed = KnockFailed(at.host, at.port, "no-banner")
            self._later(host, answer if takes else failed)
        elif effect.way.key != there.transport_key:
            self._later(host, KnockFailed(at.host, at.port, "wrong-key"))
        else:
            self._knock(host, there.peer, effect)

    def _soon(self, host: Host, event: e.Event) -> None:
        """What the host tells its peer, if that still runs then."""

        def tell() -> None:
            if self.hosts[host.name] is host:
                self.event(host.name, event)

        self.at(self.now, tell)

    def _later(self, host: Host, event: e.Event) -> None:
        self.at(self.now + LATENCY_S, lambda: self.event(host.name, event))

    def _knock(self, host: Host, peer: str, knock: e.Knock) -> None:
        way, sender = knock.way, ""
        self._admit(host, peer)
        if way.invite:
            sender = GUEST + hashlib.sha256(way.secret).hexdigest()
            invites = self.hosts[peer].peer.door.admission.invites.values()
            if all(invite.secret != way.secret for invite in invites):
                self._later(host, KnockFailed(way.host, way.port, "refused"))
                return
        self._post(host, peer, knock.message, sender=sender)

    def _post(
        self, host: Host, peer: str, message: Message, *, sender: str = ""
    ) -> None:
        if self.cut(host.name, peer, message):
            return
        frames = encode(message)
        on_data = isinstance(message, StreamStart | Chunk)
        received = e.Received(sender or host.name, decode(frames, data_plane=on_data))
        way = (host.name, peer, on_data)
        for delay in self.network.delays():
            instant = self.now + delay
            if self.network.in_order:
                instant = max(instant, self._last_arrival.get(way, 0.0))
                self._last_arrival[way] = instant
            self.at(instant, lambda: self._arrive(peer, received))

    def _arrive(self, peer: str, received: e.Received) -> None:
        """A message comes in, if its sender is let in."""
        host, sender = self.hosts.get(peer), received.peer
        if host is None or sender in host.barred:
            return
        is_hello = isinstance(received.message, Hello)
        manifest = host.peer.manifest
        if sender in host.admitted or (sender.startswith(GUEST) and is_hello):
            self.event(peer, received)
        elif is_hello and manifest is not None and manifest.admission != "ticket":
            key = self.hosts[sender].peer.gossip.record.transport_key
            self.event(peer, e.Received(GUEST + key.hex(), received.message))
        elif not isinstance(received.message, StreamStart | Chunk):
            host.parked = [*host.parked, received][-256:]


def started(
    count: int,
    *,
    fraction: str = "1/2",
    planner: Planner | None = None,
    checkpoint: bytes | None = None,
    **changes: object,
) -> Swarm:
    """A swarm whose members have all been told to join. ``checkpoint``: the file that
    it begins with, which the founder has."""
    if checkpoint is not None:
        changes["pretrained"] = hashlib.sha256(checkpoint).hexdigest()
    swarm = Swarm(small_manifest(min_peers=count, **changes), planner=planner)
    for number in range(count):
        swarm.add(f"p{number}", fraction=fraction)
    swarm.hosts["p0"].checkpoint = checkpoint
    swarm.found("p0")
    for number in range(1, count):
        swarm.join(f"p{number}", by="p0")
    return swarm
