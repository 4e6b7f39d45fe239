"""What must hold after every event of a simulation, whatever went wrong before it.

The checks know the whole world, which no peer does: what everybody really said, really
sent and really has. They look at effects as they are performed (nothing twice, every
byte where it belongs), at the peer after each event (it can say what it waits for), and
at ticks, once a second, at everything that is too large for each event. What they find
is kept, with the virtual time; the run goes on.
"""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from p2pfusion.limits import (
    MAX_INVITES,
    MAX_PARKED_REQUESTS_PER_PEER,
    MAX_PENDING,
    MAX_ROSTER,
    MAX_VIOLATIONS,
)
from p2pfusion.protocol import events as e
from p2pfusion.protocol.joining import MANIFESTS_AT_ONCE
from p2pfusion.protocol.messages import Facts
from p2pfusion.protocol.phases import TRAIN
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.standing import RUNNING
from p2pfusion.protocol.stream import stream_bytes
from p2pfusion.protocol.waiting import NOTHING_TO_DO, waiting_for
from p2pfusion.simulation.gaps import KNOWN_GAPS, OBSERVED
from p2pfusion.simulation.holdings import Parcel
from p2pfusion.simulation.machine import Life, Sink
from p2pfusion.simulation.witness import Witness
from p2pfusion.split.plan import ExchangePlan

if TYPE_CHECKING:
    from p2pfusion.simulation.world import World

MAX_ROUNDS_AT_HAND = 3
"""The current round, the previous one, and one about to be forgotten."""

REMEMBERED_WRITES = 16


@dataclass(frozen=True)
class Violation:
    """Something that must never happen has happened."""

    at_s: float
    check: str
    peer: str
    text: str


@dataclass
class Record:
    """What one life has done so far."""

    fused: dict[int, list[str]] = field(default_factory=dict)
    """Per round, whose ranges it has averaged: "" for its own."""
    sealed: int = 0
    trained: int = -1
    entered: int = -1
    lacking: set[int] = field(default_factory=set)
    """Rounds in which somebody said that it has no values for something."""
    facts_digest: bytes = b""


class Checks:
    """Looks on, and keeps what it finds."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.violations: list[Violation] = []
        self.gaps: list[Violation] = []
        self.observed: Counter[str] = Counter()
        """How often something showed that nobody has promised would not."""
        self._witness = Witness(world)
        self.epochs: dict[int, float] = {}
        """When somebody first entered each epoch."""
        self._records: dict[Life, Record] = {}
        self._writes: dict[tuple[str, str], list[tuple[float, float, object]]] = {}
        self._incarnations: Counter[str] = Counter()
        self._fusers: dict[tuple[bytes, str], str] = {}
        """Per plan and reducer, who did the reducer's work last."""

    def violated(self, check: str, peer: str, text: str) -> None:
        """Notes a violation, or what is known or tolerated."""
        if check in OBSERVED:
            self.observed[check] += 1
            return
        found = self.gaps if check in KNOWN_GAPS else self.violations
        if len(found) < MAX_VIOLATIONS:
            found.append(Violation(self._world.now, check, peer, text))

    def _found(self, check: str, life: Life, text: str) -> None:
        self.violated(check, life.name, text)

    # --- Lives and disks -------------------------------------------------------------

    def started(self, life: Life) -> None:
        """A daemon begins: its disk holds what was durable, its incarnation is new."""
        name, disk = life.name, life.machine.disk
        new = life.incarnation > self._incarnations[name]
        if not new:
            self._found("restart", life, f"incarnation {life.incarnation} once more")
        self._incarnations[name] = life.incarnation
        contents = {
            "manifest": disk.manifest.content,
            "facts": disk.facts.content,
            "invites": disk.invites.content,
            "offences": disk.offences.content,
            "progress": disk.progress.content,
        }
        for file, content in contents.items():
            allowed = self._allowed(name, file, life.machine.ended_at)
            good = not allowed or any(content is each for each in allowed)
            if not good:
                self._found("restart", life, f"{file} is none that was durable")
            self._writes.pop((name, file), None)
        record = self._records[life] = Record()
        if disk.progress.content is not None:
            record.sealed = disk.progress.content.next_round
            record.entered = record.trained = record.sealed - 1

    def _allowed(self, name: str, file: str, at: float) -> list[object]:
        """What a file may contain after a crash at an instant; none: anything."""
        writes = self._writes.get((name, file), [])
        durable = [content for _, end, content in writes if end <= at]
        begun = [content for begin, end, content in writes if begin <= at < end]
        return durable[-1:] + begun if durable else []

    def written(
        self, life: Life, file: str, content: object, begun: float, durable: float
    ) -> None:
        """A file is being replaced."""
        writes = self._writes.setdefault((life.name, file), [])
        writes.append((begun, durable, content))
        del writes[:-REMEMBERED_WRITES]

    def ended(self, life: Life) -> None:
        """A daemon has ended."""
        self._records.pop(life, None)

    def raised(self, life: Life, event: e.Event, error: Exception) -> None:
        """Nothing that happens may be too much for a peer."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
        text = f"{type(event).__name__} raised {error!r} in {where}"
        self.violated("exception", life.name, text)

    # --- Rounds ----------------------------------------------------------------------

    def entering(self, life: Life, plan: ExchangePlan) -> None:
        """A round begins: a later one than before."""
        record, number = self._records[life], plan.round_index
        forward = number > record.entered
        if not forward:
            self._found("order", life, f"round {number} after {record.entered}")
        record.entered = number
        epoch = self._world.manifest.epoch(number)
        self.epochs.setdefault(epoch, self._world.now)

    def training(self, life: Life, effect: e.StartTraining) -> None:
        """A round is trained: once."""
        record, number = self._records[life], effect.round_index
        if number <= record.trained:
            self._found("trained twice", life, f"round {number}")
        record.trained = number

    def fusing(self, life: Life, number: int, instead_of: str) -> None:
        """Ranges are averaged: once."""
        fused = self._records[life].fused
        fused.pop(number - MAX_ROUNDS_AT_HAND, None)
        before = fused.setdefault(number, [])
        text = f"round {number}" + (f" instead of {instead_of}" if instead_of else "")
        if not instead_of not in before:
            self._found("fused twice", life, text)
        plan = life.plans[number]
        now = plan.reduced_by(life.name, instead_of=instead_of or None)
        for other in before if instead_of not in before else ():
            then = plan.reduced_by(life.name, instead_of=other or None)
            if np.isin(now, then).any():
                self._found("fused twice", life, f"{text} and {other!r}")
        before.append(instead_of)
        work = (plan.digest, instead_of or life.name)
        if self._fusers.get(work, life.name) != life.name:
            self.violated("two fusions", life.name, text)
        self._fusers[work] = life.name

    def late(self, life: Life, effect: e.OfferLate) -> None:
        """An earlier round is offered: one that was trained, and is not too old."""
        age = effect.round_index - effect.base_round
        known = life.trained is not None and life.trained[0] == effect.base_round
        good = known and 0 < age <= self._world.manifest.max_staleness
        if not good:
            self._found("late update", life, f"{effect}")

    def sealing(self, life: Life, effect: e.Seal) -> None:
        """A round is made durable: once, and later than the ones before."""
        record = self._records[life]
        number = effect.next_round
        later = number > record.sealed
        if not later:
            self._found("sealed twice", life, f"{number} after {record.sealed}")
        record.sealed = number
        life.machine.sealed = max(life.machine.sealed, number)
        self._witness.sealing(life, number)

    def reported(self, life: Life, effect: e.Report) -> None:
        """A sealed round's report says what is stale, or everything is there."""
        if effect.kind == "cloned":
            self._found("cloned", life, "believes in a twin that there is not")
        if effect.kind == "quarantined":
            text = f"goes on without {effect.details['peer']}: {effect.details['why']}"
            self._found("wrongly convicted", life, text)
        if effect.kind != "round-sealed":
            return
        number, stale = effect.details["round"], effect.details["stale_ranges"]
        assert isinstance(number, int)
        record = self._records[life]
        if stale or number in record.lacking:
            return
        plan = life.plans[number]
        view = self._world.geometry.view(plan)
        me = view.positions.get(life.name)
        if me is None:
            return
        needed = view.wanted[me] & ((view.reducer >= 0) | view.pulled[me])
        claimed = life.holdings.cells().claimed
        short = needed & (claimed < view.expected)
        count = int(short.sum())
        text = f"round {number}: {count} cells are older than planned, and none stale"
        if count:
            self._found("silently stale", life, text)

    # --- Streams ---------------------------------------------------------------------

    def starting(
        self, life: Life, effect: e.SendStart, parcel: Parcel, real: tuple[int, bytes]
    ) -> None:
        """A stream of real values is as long as modelled, and lacks the same."""
        if real != (parcel.total_bytes, parcel.absent):
            self._found("model", life, f"{effect.stream}: {real} is not {parcel}")

    def opening(self, life: Life, effect: e.OpenSink) -> Parcel | None:
        """A stream begins: both ends mean the same coordinates; gives what it holds."""
        envelope = self._world.current
        parcel = None if envelope is None else envelope.parcel
        stream = effect.stream
        plan = life.plans.get(stream.round_index)
        if parcel is None or plan is None:
            self.violated("coordinates", life.name, f"a stream from nowhere: {stream}")
            return None
        size = stream_bytes(plan, self._world.manifest.wire, stream)
        good = (
            parcel.stream == stream
            and parcel.plan_digest == plan.digest
            and parcel.total_bytes == effect.total_bytes == size
        )
        if not good:
            self._found("coordinates", life, f"{stream} is {parcel.stream} there")
        blocks = parcel.blocks
        is_partial = blocks and any(content is None for _, content in blocks)
        if parcel.present is not None or is_partial:
            self._records[life].lacking.add(stream.round_index)
        return parcel

    def absorbing(self, life: Life, sink: Sink, effect: e.Absorb) -> None:
        """Bytes arrive: in order, of the stream that was opened."""
        envelope = self._world.current
        parcel, wanted = envelope and envelope.parcel, sink.parcel
        if parcel is not wanted:  # it was asked for again, and must be the same
            one, other = (p and (p.stream, p.plan_digest) for p in (parcel, wanted))
            if one != other:
                self._found("coordinates", life, f"{sink.stream} goes on as {one}")
        in_order = effect.offset == sink.absorbed
        if not in_order:
            self._found("coordinates", life, f"a gap in {sink.stream}")

    def closing(self, life: Life, sink: Sink, effect: e.CloseSink) -> None:
        """A stream ends: whole, or given up."""
        whole = sink.absorbed == sink.total_bytes
        good = whole or not effect.complete
        if not good:
            self._found("coordinates", life, f"{sink.stream} ends too early")

    def not_open(self, life: Life, pull: int) -> None:
        """Bytes, or an end, of a stream that has not begun or is over."""
        self._found("coordinates", life, f"no stream is open under {pull}")

    def lacks(self, life: Life, number: int) -> None:
        """An average has no contribution for some of its ranges."""
        self._records[life].lacking.add(number)

    # --- Facts -----------------------------------------------------------------------

    def facts_saved(self, life: Life, facts: tuple[Facts, ...]) -> None:
        """Nobody is believed to have said what it never said."""
        machines = self._world.machines
        for message in facts:
            for member in message.members:
                record = life.peer.gossip.facts.record_of(member)
                machine = machines.get(record.peer)
                good = (
                    machine is not None and member.record.payload in machine.signer.said
                )
                if not good:
                    self._found("spoken for", life, f"a record of {record.peer}")

    def _offers(self, life: Life) -> None:
        machines = self._world.machines
        for round_ in life.peer.exchange.rounds.values():
            for peer, (_, offer) in round_.offers.items():
                machine = machines.get(peer)
                good = machine is not None and offer in machine.signer.offers
                if not good:
                    self._found("spoken for", life, f"an offer of {peer}: {offer}")

    # --- After every event -----------------------------------------------------------

    def after(self, life: Life, event: e.Event) -> None:
        """The peer can say what it waits for; at ticks, its tables are small."""
        peer = life.peer
        if life.machine.signer.accusations:
            self._witness.accusing(life)
        if peer.twin.address:
            return  # it stands still, and has said so
        round_ = peer.exchange.round
        idles = round_ is not None and not self._has_reason(life, round_)
        if idles and peer.course.standing is RUNNING:
            number = peer.course.round_index
            self._found("wait without reason", life, f"round {number}")
        if type(event) is e.Tick:
            self._tables(life)
            self._offers(life)
            waits, standing = waiting_for(peer, self._world.now), peer.course.standing
            is_done = standing in NOTHING_TO_DO
            if not is_done and not (waits and all(waits.values())):
                self._found("wait without reason", life, f"{standing}: {waits}")

    def _has_reason(self, life: Life, round_: Round) -> bool:
        """Whether a round that is not over waits for something."""
        if round_.phase is TRAIN:
            return life.is_training(round_.number)
        if round_.needs or round_.held:
            return True
        return any(reduction.waits for reduction in round_.reductions.values())

    def _tables(self, life: Life) -> None:
        """What a peer keeps stays within its limits."""
        gossip, exchange = life.peer.gossip, life.peer.exchange
        admission = life.peer.door.admission
        members = len(gossip.facts.records)
        parked = Counter(serve.peer for serve in exchange.serves)
        sizes = {
            "members": (members, MAX_ROSTER),
            "contacts": (len(gossip.detector.contacts), members),
            "manifests": (len(gossip.joining.manifests), MANIFESTS_AT_ONCE),
            "rounds": (len(exchange.rounds), MAX_ROUNDS_AT_HAND),
            "tables of homes": (len(exchange.homes), MAX_ROUNDS_AT_HAND),
            "requests of one peer": (
                max(parked.values(), default=0),
                MAX_PARKED_REQUESTS_PER_PEER,
            ),
            "invitations": (len(admission.invites), MAX_INVITES),
            "strangers": (len(admission.pending), MAX_PENDING),
        }
        for round_ in exchange.rounds.values():
            peers = len(round_.plan.peers)
            sizes["reductions"] = (len(round_.reductions), peers + 1)
            sizes["offers"] = (len(round_.offers), len(round_.splits))
        for name, (size, most) in sizes.items():
            good = size <= most
            if not good:
                self._found("limits", life, f"{size} {name}, {most} at most")
