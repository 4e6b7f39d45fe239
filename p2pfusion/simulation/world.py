"""Whole swarms of real peers in virtual time, on one heap of events.

Everything that happens is an entry of the heap: a message arrives, a deadline passes, a
trainer is done, a fault strikes. Time moves from one to the next. What is real is every
``Peer``, every message and every plan; disk, trainer and network are modelled. The same
seed gives the same log, line by line, on every machine.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from p2pfusion.limits import MAX_EVENTS_AT_ONCE
from p2pfusion.protocol import events as e
from p2pfusion.protocol.access import JoinBy
from p2pfusion.protocol.admission import Invite
from p2pfusion.protocol.joining import Way
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import PeerRecord
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.planning import PLANNER, Planner
from p2pfusion.protocol.timing import NEVER_S
from p2pfusion.security import Scheme, Signer
from p2pfusion.simulation.carrier import Carrier, Envelope
from p2pfusion.simulation.checkers import Checks
from p2pfusion.simulation.disk import Disk
from p2pfusion.simulation.eventlog import EventLog, Watch, event_line
from p2pfusion.simulation.hands import Hands
from p2pfusion.simulation.holdings import Geometry, Holdings
from p2pfusion.simulation.keys import NAMES
from p2pfusion.simulation.machine import (
    ALIVE,
    HOST,
    Life,
    Machine,
    State,
    WitnessedKey,
)
from p2pfusion.simulation.network import Conditions, Network
from p2pfusion.simulation.numbers import Numbers
from p2pfusion.simulation.planner import SharedPlanner
from p2pfusion.split.homes import Homes

RECONNECT_S = (0.05, 0.5)
"""How soon others notice that a daemon listens again."""

DRAIN_S = 20.0
"""A daemon that stops politely does so within this time."""

LOOK_AGAIN_S = 0.1

A_MOMENT_S = 1e-9
"""A daemon that stops politely ends just after its last words."""

TRAINED = (e.TrainingFinished, e.TrainingFailed)

Make = Callable[[PeerRecord, Signer, Scheme, Planner], Peer]
Equip = Callable[[str], Numbers]


def make_peer(
    record: PeerRecord, signer: Signer, scheme: Scheme, planner: Planner
) -> Peer:
    """The real peer. Tests put broken ones in its place."""
    return Peer(record, signer, scheme, planner=planner)


class World:
    """Machines, a network between them, and a clock that moves when things happen."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        seed: int = 0,
        conditions: Conditions | None = None,
        exact: bool = False,
        watch: Watch | None = None,
        make: Make = make_peer,
        equip: Equip | None = None,
    ) -> None:
        """``exact``: every message is decoded from its bytes, every plan computed anew;
        the log is the same, only later. ``equip`` gives a life its real numbers."""
        self.manifest = manifest
        self.seed = seed
        self.now = 0.0
        self.handling_s = 0.0
        """How long a daemon is busy with an event, beside what its disk takes."""
        self.has_stopped = False
        """Whether time came to a standstill."""
        self.log = EventLog(watch)
        self.planner: Planner = PLANNER if exact else SharedPlanner()
        self.geometry = Geometry(manifest.layout)
        self.machines: dict[str, Machine] = {}
        self.by_port: dict[int, Machine] = {}
        self.current: Envelope | None = None
        """The frame of the message that is being handled, if it is one."""
        self.network: Network[Envelope] = Network(
            self.chance("network"), conditions or Conditions()
        )
        self.checks = Checks(self)
        self.carrier = Carrier(self, exact=exact)
        self.announces: Callable[[PeerRecord], bytes] = lambda record: b""
        """What a machine's trainer finds out, where the method asks for it."""
        self._hands = Hands(self)
        self._make = make
        self._equip = equip
        self._heap: list[tuple[float, int, Callable[..., object], object]] = []
        self._count = 0
        self._chance = self.chance("world")

    def chance(self, purpose: str) -> random.Random:
        """A generator of its own for every purpose; all follow from the seed."""
        return random.Random(f"{self.seed} {purpose}")

    # --- Time ------------------------------------------------------------------------

    def at(self, instant: float, action: Callable[..., object], what: object) -> None:
        """Calls ``action(what)`` at an instant, after what was put there before."""
        self._count += 1
        heapq.heappush(self._heap, (instant, self._count, action, what))

    @property
    def is_idle(self) -> bool:
        """Whether nothing will ever happen any more: all are dead, for good."""
        return not self._heap

    def run(self, until: float) -> None:
        """Lets time pass up to an instant; no further if it comes to a standstill."""
        heap, pop = self._heap, heapq.heappop
        moved_at = self._count
        while heap and heap[0][0] <= until and not self.has_stopped:
            instant, _, action, what = pop(heap)
            if instant > self.now:
                self.now, moved_at = instant, self._count
            elif self._count > moved_at + MAX_EVENTS_AT_ONCE:
                self.has_stopped = True
                self.checks.violated("time stands still", "", f"in {action!r}")
            action(what)
        self.now = max(self.now, until)

    # --- Machines --------------------------------------------------------------------

    def add(self, name: str, *, fraction: str = "1/2", training_s: float = 1.0) -> None:
        """A machine that has never run a daemon, with a key."""
        disk = Disk(self.chance(f"disk of {name}"), self.geometry.size)
        machine = Machine(
            number=len(self.machines),
            signer=WitnessedKey(name, self.manifest.swarm_id),
            fraction=fraction,
            disk=disk,
            chance=self.chance(f"trainer of {name}"),
            training_s=training_s,
        )
        self.machines[name] = machine
        self.by_port[machine.port] = machine

    def alive(self) -> list[Life]:
        """The daemons that run, in the order in which their machines were added."""
        return [
            machine.life
            for machine in self.machines.values()
            if machine.life is not None and machine.state is ALIVE
        ]

    def note(self, text: str) -> None:
        """A line of the log about something from outside."""
        self.log.waiting.append(f"{self.now:.9f} {text}")
        if self.log.watch is not None:
            self.log.flush()

    def start(self, name: str) -> None:
        """Starts the daemon with what is on its disk; nothing if it runs already."""
        machine = self.machines[name]
        if machine.state is not State.DEAD:
            # One that is about to end is started once more when it has.
            machine.starts_again = machine.life is not None and machine.life.is_stopping
            return
        machine.starts_again = False
        self.note(f"start {name}")
        disk = machine.disk
        cells = disk.cells.content.copy()
        holdings = Holdings(self.geometry, name, cells)
        life = machine.begin(
            lambda record: self._make(record, machine.signer, NAMES, self.planner),
            holdings,
        )
        if self._equip is not None:
            life.numbers = self._equip(name)
        self.checks.started(life)
        manifest, facts = disk.manifest.content, disk.facts.content
        is_member = machine.is_founder or bool(facts)
        if manifest is not None and is_member:
            self._resume(life, manifest)
        elif machine.is_founder:
            self.give(life, e.Found(self.manifest))
        for way in machine.ways:
            self.give(life, JoinBy(way))
        self._wake(life)
        self.carrier.release(machine, self._chance.uniform(*RECONNECT_S))

    def _resume(self, life: Life, manifest: Manifest) -> None:
        disk = life.machine.disk
        progress, facts = disk.progress.content, disk.facts.content
        homes = progress.homes if progress else Homes.initial(manifest.layout)
        next_round = progress.next_round if progress else 0
        life.peer.door.admission.restore(disk.invites.content)
        life.peer.gossip.quarantine.offences.restore(disk.offences.content)
        self.give(life, e.Resume(manifest, facts, next_round, homes))
        if life.machine.is_founder and not any(message.start for message in facts):
            self.give(life, e.Found(manifest))

    def kill(self, name: str, *, power: bool = False) -> None:
        """Ends the daemon at once; ``power``: what it said last is lost, too."""
        machine = self.machines[name]
        life = machine.life
        if life is None:
            return
        self.note(f"kill {name}")
        machine.life, machine.state = None, State.DEAD
        machine.ended_at = self.now
        latest = self.network.conditions.latency_s * self._chance.random()
        life.ended_at = self.now - latest if power else self.now
        machine.disk.crash(self.now)
        self.checks.ended(life)

    def stop(self, name: str) -> None:
        """Ends the daemon politely: it hands over first, but not for ever."""
        machine = self.machines[name]
        life = machine.life
        if life is None or machine.state is not ALIVE or life.is_stopping:
            return
        self.note(f"stop {name}")
        life.is_stopping = True
        self.give(life, e.Drain())
        self.at(self.now + DRAIN_S, self.drained, life)

    def drained(self, life: Life) -> None:
        """It has handed over: it says goodbye, and ends."""
        if life.is_current and life.is_stopping and not life.is_ending:
            life.is_ending = True
            self.give(life, e.Stopping())
            self._stopped(life)

    def _stopped(self, life: Life) -> None:
        if not life.is_current:
            return
        is_paused = life.machine.state is State.PAUSED
        if life.queue or is_paused or life.busy_until > self.now:
            soon = self.now + LOOK_AGAIN_S if is_paused else self.now
            self.at(max(soon, life.busy_until), self._stopped, life)
            return
        self.kill(life.name)
        life.ended_at = self.now + A_MOMENT_S
        if life.machine.starts_again:
            self.start(life.name)

    def pause(self, name: str) -> None:
        """The daemon stands still; its trainer goes on."""
        machine = self.machines[name]
        if machine.state is ALIVE:
            self.note(f"pause {name}")
            machine.state = State.PAUSED

    def resume(self, name: str) -> None:
        """The daemon goes on."""
        machine = self.machines[name]
        if machine.state is State.PAUSED and machine.life is not None:
            self.note(f"resume {name}")
            machine.state = ALIVE
            self._drain(machine.life)
            self.carrier.release(machine, 0.0)
            self._wake(machine.life)

    # --- The swarm -------------------------------------------------------------------

    def found(self, name: str) -> None:
        """This machine's daemon founds the swarm, now."""
        self.machines[name].is_founder = True
        self.start(name)

    def join(self, name: str, by: str, invite: Invite | None = None) -> None:
        """Starts a daemon that joins by another's address, now."""
        machine = self.machines[name]
        way = self.machines[by].way()
        if invite is not None:
            swarm = self.manifest.swarm_id
            ends = (way.host, way.port, way.peer, way.key)
            way = Way(*ends, swarm, invite.id, invite.secret)
        machine.ways.append(way)
        if machine.state is State.DEAD:
            self.start(name)
        elif machine.life is not None:
            self.give(machine.life, JoinBy(way))

    def join_address(self, name: str, by: str) -> None:
        """Starts a daemon that knows another's address and nothing else."""
        self.machines[name].ways.append(Way(HOST, self.machines[by].port))
        self.start(name)

    # --- Events ----------------------------------------------------------------------

    def give(self, life: Life, event: e.Event) -> None:
        """An event for a daemon, which takes it up when it has time."""
        text = event_line(event)
        if life.queue or life.busy_until > self.now or life.machine.state is not ALIVE:
            self._put_off(life, event, text, None)
        else:
            self._handle(life, event, text, None)
        self._wake(life)

    def deliver(self, life: Life, sender: str, frame: Envelope) -> None:
        """Messages for a daemon, as they come out of a frame."""
        now, machine = self.now, life.machine
        for number, message in frame.messages:
            event, text = e.Received(sender, message), f"< #{number}"
            if life.queue or life.busy_until > now or machine.state is not ALIVE:
                self._put_off(life, event, text, frame)
            else:
                self._handle(life, event, text, frame)
        self._wake(life)

    def _put_off(
        self, life: Life, event: e.Event, text: str, source: Envelope | None
    ) -> None:
        life.queue.append((event, text, source))
        life.machine.longest_queue = max(life.machine.longest_queue, len(life.queue))
        if len(life.queue) == 1:
            self.at(max(life.busy_until, self.now), self._drain, life)

    def _drain(self, life: Life) -> None:
        queue = life.queue
        while queue and life.is_current and life.machine.state is ALIVE:
            if life.busy_until > self.now:
                self.at(life.busy_until, self._drain, life)
                break
            self._handle(life, *queue.popleft())
        self._wake(life)

    def _handle(
        self, life: Life, event: e.Event, text: str, source: Envelope | None
    ) -> None:
        now = life.clock = self.now
        self.current, log = source, self.log
        lines = log.waiting
        lines.append(f"{now:.9f} {life.name} {text}")
        try:
            effects = life.peer.handle(event, now)
        except Exception as error:  # whatever it is, it must not happen
            self.checks.raised(life, event, error)
            self.kill(life.name)
            return
        if effects:
            self._hands.perform(life, effects, lines)
        if source is None and type(event) in TRAINED:
            # Until that is heard of, the trainer waits.
            life.training = None
            self._hands.train_next(life, life.clock)
        life.busy_until = life.clock + self.handling_s
        if len(lines) >= log.at_once:
            log.flush()
        self.checks.after(life, event)

    def _wake(self, life: Life) -> None:
        """Has a tick come when the peer wants one, once it has done what waits."""
        if life.queue or life.machine.life is not life:
            return
        due = life.peer.deadline()
        if due < life.wakes_at:
            life.wakes_at = due
            self.at(max(due, self.now), self._tick, (life, due))

    def _tick(self, what: tuple[Life, float]) -> None:
        life, due = what
        if life.wakes_at != due or not life.is_current:
            return
        life.wakes_at = NEVER_S
        if life.machine.state is not ALIVE:
            return  # woken when it goes on
        if life.busy_until > self.now:
            life.wakes_at = life.busy_until
            self.at(life.busy_until, self._tick, (life, life.busy_until))
        else:
            if life.peer.deadline() <= self.now:
                self._handle(life, e.Tick(), "tick", None)
            self._wake(life)
