"""Simulated machines: what stays when a daemon ends, and what goes with it.

A ``Machine`` has a name, a disk and a trainer's speed, and lasts. A ``Life`` is one run
of the daemon on it: the ``Peer``, and the tables of its transport and its streams.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from p2pfusion.protocol import events as e
from p2pfusion.protocol.joining import Way
from p2pfusion.protocol.messages import BEFORE_START, Offer, PeerRecord, Signed
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.statements import read_offer
from p2pfusion.protocol.timing import NEVER_S
from p2pfusion.simulation.disk import Disk
from p2pfusion.simulation.holdings import Holdings, Parcel
from p2pfusion.simulation.keys import NAMES, NamedKey
from p2pfusion.split.grid import Counts, Mask
from p2pfusion.split.groups import FEWEST, groups, unpack_missing
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.segment import Split

if TYPE_CHECKING:
    from p2pfusion.simulation.carrier import Envelope
    from p2pfusion.simulation.numbers import Numbers

Told = tuple[e.Event, str, "Envelope | None"]
"""An event, its words for the log, and the frame that a message came in."""

HOST = "127.0.0.1"


class State(StrEnum):
    """What a machine's daemon is doing."""

    ALIVE = "alive"
    PAUSED = "paused"
    DEAD = "dead"


ALIVE = State.ALIVE
"""Asked for with every message, where an enumeration is slow."""


class WitnessedKey(NamedKey):
    """A key that remembers what it has signed."""

    def __init__(self, peer: str, swarm: str) -> None:
        super().__init__(peer)
        self._swarm = swarm
        self.said: set[bytes] = set()
        """Payloads of its records."""
        self.offers: set[Offer] = set()
        self.accusations: list[Signed] = []
        """What it has said of others since somebody looked last."""

    def sign(self, domain: str, payload: bytes) -> bytes:
        """Signs, and notes what."""
        signature = super().sign(domain, payload)
        if domain == "offer/v1":
            signed = Signed(payload, signature)
            told = read_offer(signed, NAMES, swarm=self._swarm, key=self.public)
            self.offers.add(told.offer)
        elif domain == "accusation/v1":
            self.accusations.append(Signed(payload, signature))
        else:
            self.said.add(payload)
        return signature


@dataclass(slots=True)
class Sink:
    """A stream that is arriving."""

    stream: e.StreamKey
    parcel: Parcel | None
    total_bytes: int
    absorbed: int = 0
    digests: set[bytes] = field(default_factory=set)
    """Of the parcels of which something came: one, if all is of one life."""


@dataclass
class Reduction:
    """Whose contributions went into an average, and how many bytes of each."""

    complete: set[str] = field(default_factory=set)
    partial: dict[str, int] = field(default_factory=dict)
    own: bool = False
    own_inside: Mask | None = None
    """Which ranges of the plan a late own offer has; None for all."""
    told: dict[str, bytes] = field(default_factory=dict)
    """Whose seeds came, where contributions are masked, and for whom missing."""
    present: dict[str, Mask] = field(default_factory=dict)
    """Of contributions that lack something: which of their ranges they have."""

    def own_ranges(self, plan: ExchangePlan, me: str, instead_of: str) -> Counts:
        """The ranges to which the own offer was added."""
        own = plan.own_ranges(me, instead_of=instead_of or None)
        if not self.own:
            return own[:0]
        inside = self.own_inside
        return own if inside is None else own[inside[own]]

    def fused_ranges(self, plan: ExchangePlan, me: str, instead_of: str) -> Mask | None:
        """Which ranges have any contribution; None for all of them."""
        failed = instead_of or None
        sources = plan.sources(Hop.CONTRIBUTION, me, instead_of=failed)
        own = plan.own_ranges(me, instead_of=failed)
        whole = not self.present and self.own_inside is None
        all_came = self.complete.issuperset(sources) and whole
        if all_came and (self.own or not own.size):
            return None
        reduced = plan.reduced_by(me, instead_of=failed)
        present = np.isin(reduced, self.own_ranges(plan, me, instead_of))
        for source in sources:
            ids = plan.ranges(
                Hop.CONTRIBUTION, source=source, target=me, instead_of=failed
            )
            has = self.present.get(source, np.ones(len(ids), np.bool_))
            if source not in self.complete:
                # Of one that broke off, the ranges that had come count.
                ends = np.cumsum(plan.range_sizes[ids])
                has = has & (ends <= self.partial.get(source, 0))
            present |= np.isin(reduced, ids[has])
        return None if bool(present.all()) else present

    def opened_ranges(
        self, plan: ExchangePlan, me: str, instead_of: str, policy: str
    ) -> Mask | None:
        """The same where contributions are masked: which sums could be opened."""
        names, own = plan.peers, {me} if self.own else set[str]()
        told = self.told.keys() | own
        asked = next(iter(self.told.values()), b"")
        lost = {names[at] for at in unpack_missing(plan, asked)} if asked else set()
        reduced = plan.reduced_by(me, instead_of=instead_of or None)
        present = np.zeros(len(reduced), np.bool_)
        for group in groups(plan, me, instead_of=instead_of):
            holders = {names[at] for at in group.holders}
            if group.is_hidden:
                is_known = all((each in told) != (each in lost) for each in holders)
                opens = is_known and len(holders & told) >= FEWEST
            else:
                opens = policy == "clear" and bool(holders & (self.complete | own))
            present |= opens & np.isin(reduced, group.ranges)
        return None if bool(present.all()) else present


@dataclass(eq=False, slots=True)
class Life:
    """One run of a daemon."""

    machine: Machine
    peer: Peer
    incarnation: int
    exchange_key: bytes
    holdings: Holdings
    numbers: Numbers | None = None
    """Real arrays, where values are simulated, too."""
    ended_at: float = NEVER_S
    """What it did from this instant on never left the machine."""
    clock: float = 0.0
    """Where it is in performing what an event told it to do."""
    busy_until: float = 0.0
    """It waits for its disk, and answers nobody before."""
    queue: deque[Told] = field(default_factory=deque)
    """What waits until it has time."""
    wakes_at: float = NEVER_S
    heard: dict[str, float] = field(default_factory=dict)
    """When something last arrived from each of the others."""
    admitted: set[str] = field(default_factory=set)
    """Whose key is let in under their name."""
    barred: set[str] = field(default_factory=set)
    parked: list[Envelope] = field(default_factory=list)
    """What came from peers whose keys are not known yet."""
    sessions: dict[str, bytes] = field(default_factory=dict)
    """The exchange keys of the others' lives, as their records say."""
    relays: dict[str, str] = field(default_factory=dict)
    """Through whom those are reached that cannot be dialled."""
    plans: dict[int, ExchangePlan] = field(default_factory=dict)
    homes: dict[int, Homes] = field(default_factory=dict)
    reductions: dict[tuple[int, str], Reduction] = field(default_factory=dict)
    fused: dict[tuple[int, str], Mask | None] = field(default_factory=dict)
    """Of closed reductions: which ranges have a value; None for all."""
    serving: dict[tuple[str, int], Parcel] = field(default_factory=dict)
    sinks: dict[int, Sink] = field(default_factory=dict)
    exported: list[Parcel] = field(default_factory=list)
    assembled: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Exports that are over, and whose ranges they lack."""
    is_stopping: bool = False
    """It hands over, and ends when it has."""
    is_ending: bool = False
    training: e.StartTraining | None = None
    """What the trainer is at, or has done while the daemon was busy."""
    trained: tuple[int, Split] | None = None
    """What the trainer was last done with."""
    late: dict[int, Mask] = field(default_factory=dict)
    """Rounds in which an earlier one is offered: which ranges of the plan it has."""
    lacked: dict[int, Counts] = field(default_factory=dict)
    """Of rounds whose fused values are weighed: what was lacking as they began."""
    next_training: e.StartTraining | None = None
    hashing: int | None = None
    """The round whose offer is being hashed."""

    name: str = field(init=False)
    """The peer's id."""

    def __post_init__(self) -> None:
        self.name = self.machine.name

    @property
    def is_current(self) -> bool:
        """Whether this daemon has not ended."""
        return self.machine.life is self

    def digest(self, round_index: int, reducer: str) -> bytes:
        """What the contribution to a reducer hashes to."""
        text = f"{self.name} {self.incarnation} {round_index} {reducer}"
        return hashlib.sha256(text.encode()).digest()

    def is_training(self, number: int) -> bool:
        """Whether the trainer is at this round, or what it gave is being hashed, or
        waits to be heard."""
        if self.training is not None and self.training.round_index == number:
            return True
        if self.hashing == number:
            return True
        waits = self.next_training
        is_next = waits is not None and waits.round_index == number
        return bool(self.queue) or is_next


@dataclass(eq=False)
class Machine:
    """A machine that a peer lives on."""

    number: int
    signer: WitnessedKey
    fraction: str
    disk: Disk
    chance: random.Random
    training_s: float = 1.0
    slowness: float = 1.0
    """Training takes so many times as long."""
    failing: int = 0
    """So many more rounds of training fail."""
    state: State = State.DEAD
    life: Life | None = None
    ways: list[Way] = field(default_factory=list)
    """The ways in that every start names."""
    starts_again: bool = False
    """Somebody has started it before its last life has ended."""
    is_founder: bool = False
    is_outward: bool = False
    """Whether nobody can dial it."""
    is_excused: bool = False
    """Whether nobody expects it to get anywhere: it is gone for good, say."""
    sealed: int = 0
    """The first round that no life of it has sealed."""
    sealed_at: float = 0.0
    """When it last sealed one."""
    reports: Counter[str] = field(default_factory=Counter)
    sent_bytes: Counter[int] = field(default_factory=Counter)
    """Bulk that left, per round."""
    control_bytes: int = 0
    longest_queue: int = 0
    """How many events have waited for it at once."""
    ended_at: float = 0.0
    """When its last life ended."""

    def __post_init__(self) -> None:
        self.name = self.signer.peer
        """The peer's id."""

    @property
    def has_run(self) -> bool:
        """Whether it ever ran a daemon."""
        return self.disk.incarnation > 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return 10 + 2 * self.number

    @property
    def transport_key(self) -> bytes:
        """What its connections prove."""
        return hashlib.sha256(b"transport" + self.signer.public).digest()

    def way(self) -> Way:
        """What somebody who knows its address and key needs to knock."""
        return Way(HOST, self.port, self.name, self.transport_key)

    def record(self, incarnation: int, exchange_key: bytes) -> PeerRecord:
        """What a new life says of itself."""
        return PeerRecord(
            peer=self.name,
            name=self.name,
            host="" if self.is_outward else HOST,
            port=0 if self.is_outward else self.port,
            split_fraction=self.fraction,
            incarnation=incarnation,
            sequence=0,
            join_epoch=BEFORE_START,
            swarm="",
            key=self.signer.public,
            transport_key=self.transport_key,
            exchange_key=exchange_key,
            cipher="aes-256-gcm",
        )

    def begin(self, make: Callable[[PeerRecord], Peer], holdings: Holdings) -> Life:
        """The daemon starts, with an incarnation and an exchange key of its own."""
        incarnation = self.disk.next_incarnation()
        fresh = f"exchange {self.name} {incarnation}".encode()
        exchange_key = hashlib.sha256(fresh).digest()
        peer = make(self.record(incarnation, exchange_key))
        self.life = Life(self, peer, incarnation, exchange_key, holdings)
        self.state = State.ALIVE
        return self.life

    def training_takes(self) -> float:
        """Seconds that the next round of training takes: never twice the same."""
        return self.training_s * self.slowness * self.chance.uniform(0.95, 1.05)
