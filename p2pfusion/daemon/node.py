"""The daemon's loop: the world becomes events, effects become the world.

One thread waits on one poller for the earliest of: a frame, the trainer, a local
command, a signal, the protocol's own deadline. Each becomes an event for the ``Peer``;
the effects that come back are performed in order. What can take long (training) is in
another process; what cannot wait (probes) is therefore always answered.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import FrameType

from p2pfusion.daemon.apprentice import (
    Apprentice,
    Described,
    Fatal,
    NotTrained,
    Outcome,
    Trained,
)
from p2pfusion.daemon.commands import Commands, refusal
from p2pfusion.daemon.config import Profile
from p2pfusion.daemon.control import ControlServer
from p2pfusion.daemon.entrance import Entrance
from p2pfusion.daemon.history import History
from p2pfusion.daemon.links import Links
from p2pfusion.daemon.payloads import Payloads
from p2pfusion.daemon.state import SwarmState
from p2pfusion.errors import (
    DeniedError,
    P2PFusionError,
    RemoteProtocolError,
)
from p2pfusion.methods.base import split_fraction
from p2pfusion.protocol import events
from p2pfusion.protocol.access import JoinBy
from p2pfusion.protocol.messages import Chunk, StreamStart
from p2pfusion.protocol.peer import Peer
from p2pfusion.split.windows import check_fraction
from p2pfusion.transport import Arrival, Incoming

log = logging.getLogger("p2pfusion")


class Node:
    """A running peer: protocol, transport, store, trainer and local socket."""

    def __init__(
        self,
        *,
        peer: Peer,
        profile: Profile,
        links: Links,
        entrance: Entrance,
        control: ControlServer,
        apprentice: Apprentice,
        state: SwarmState,
        joins: Sequence[JoinBy] = (),
    ) -> None:
        """``joins``: ways in that the start named; their swarm, or none, is ours."""
        self.peer = peer
        self.profile = profile
        self.links = links
        self.transport = links.transport
        self.entrance = entrance
        self.control = control
        self.apprentice = apprentice
        self.state = state
        self.joins = tuple(joins)
        self.payloads: Payloads | None = None
        self.history = History(self.name_of)
        self.started_at = time.monotonic()
        self.commands = Commands(self)
        self._events: deque[events.Event] = deque()
        self._wake: int | None = None
        self._stopping = False
        self._fatal: P2PFusionError | None = None
        self._perform: dict[type, Callable[..., object]] = {
            events.Dial: lambda effect: links.dial(effect.record),
            events.Bar: lambda effect: links.bar(effect.peer),
            events.Ask: lambda effect: links.ask(effect.host, effect.port),
            events.Knock: lambda effect: links.knock(effect.way, effect.message),
            events.Reply: lambda effect: links.reply(effect.record, effect.message),
            events.Send: lambda effect: links.send(effect.peer, effect.message),
            events.SaveInvites: lambda effect: entrance.keep(effect.invites),
            events.Adopt: self._adopt,
            events.SaveFacts: self._save_facts,
            events.EnterRound: self._enter_round,
            events.StartTraining: self._start_training,
            events.OpenReduction: self._open_reduction,
            events.AddOwn: self._add_own,
            events.CloseReduction: self._close_reduction,
            events.OpenSink: self._open_sink,
            events.Absorb: self._absorb,
            events.CloseSink: self._close_sink,
            events.SendStart: self._send_start,
            events.SendChunk: self._send_chunk,
            events.StopServing: self._stop_serving,
            events.Seal: self._seal,
            events.Forget: self._forget,
            events.Assembled: self._assembled,
            events.Report: self._report,
        }

    def name_of(self, peer: str) -> str:
        """What people call a peer."""
        record = self.peer.gossip.facts.records.get(peer)
        return record.name if record else peer

    # --- The loop --------------------------------------------------------------------

    def catch_signals(self) -> None:
        """From now on SIGINT and SIGTERM end the loop, also one not begun yet."""
        self._wake = _catch_signals(self.stop)

    def run(self) -> None:
        """Runs until told to stop; raises what makes going on pointless."""
        while not self._stopping:
            self._turn(self._wake)
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        """Ends the loop after this turn."""
        self._stopping = True

    def end(self, error: P2PFusionError) -> None:
        """Ends the loop after this turn: with this error, going on is pointless."""
        self._fatal = error
        self.stop()

    def farewell(self) -> None:
        """After the loop: nothing is left half done, and the others are told."""
        self.commands.exports.abandon()
        self._handle(events.Stopping())

    @property
    def is_founder(self) -> bool:
        """Whether this peer's profile made the swarm, or is about to."""
        return self.profile.swarm is not None and not self.joins

    def _turn(self, wake: int | None) -> None:
        """One turn: wait, take what came, let the protocol answer."""
        now = time.monotonic()
        due = min(self.peer.deadline(), self.commands.deadline())
        descriptors = {
            **({} if wake is None else {wake: selectors.EVENT_READ}),
            **self.control.descriptors(),
            **self.apprentice.descriptors(),
        }
        timeout_s = 0.0 if self._events else max(0.0, due - now)
        arrivals, ready = self.transport.poll(timeout_s, descriptors)
        for arrival in arrivals:
            self._take(arrival)
            # What a message did wrong is known before the next of its sender counts.
            self._drain()
        for descriptor in ready:
            self._serve(descriptor, wake)
        if time.monotonic() >= self.peer.deadline():
            self.handle(events.Tick())
        self._drain()
        self.commands.check()

    def _drain(self) -> None:
        while self._events:
            self._handle(self._events.popleft())

    def _serve(self, descriptor: int, wake: int | None) -> None:
        if descriptor == wake:
            os.read(descriptor, 4096)
        elif descriptor in self.apprentice.descriptors():
            for outcome in self.apprentice.ready():
                self._outcome(outcome)
        else:
            for request in self.control.ready(descriptor):
                self.commands.take(request)

    def _take(self, arrival: Arrival) -> None:
        if not isinstance(arrival, Incoming):
            for event in self.entrance.arrived(arrival):
                self._handle(event)
            return
        try:
            message = self.links.open(arrival, self._place)
            if message is None:
                return  # data that its sender has not sealed
            if isinstance(message, Chunk) and self.payloads is not None:
                # Before the protocol counts it: what is refused never arrived.
                self.payloads.check(arrival.sender, message.pull, message.payload)
        except RemoteProtocolError as error:
            self.handle(events.Misbehaved(arrival.sender, str(error)))
            return
        self._handle(events.Received(arrival.sender, message))

    def _place(self, sender: str, chunk: Chunk) -> memoryview | None:
        return self.payloads.place(sender, chunk) if self.payloads else None

    def handle(self, event: events.Event) -> None:
        """Queues an event; the loop takes it up before it waits again."""
        self._events.append(event)

    def _handle(self, event: events.Event) -> None:
        effects = self.peer.handle(event, time.monotonic())
        if log.isEnabledFor(logging.DEBUG):
            log.debug("event %r: %d effects %r", event, len(effects), effects)
        for effect in effects:
            self._perform[type(effect)](effect)

    # --- The trainer -----------------------------------------------------------------

    def _outcome(self, outcome: Outcome) -> None:
        match outcome:
            case Described():
                self._found(outcome)
            case Trained():
                self._trained(outcome)
            case NotTrained(round_index, reason):
                self.handle(events.TrainingFailed(round_index, reason))
            case Fatal(error):
                self.end(error)

    def _found(self, described: Described) -> None:
        """The model has a layout now: this is the swarm, to found or to expect."""
        swarm = self.profile.swarm
        assert swarm is not None
        try:
            founder = self.peer.gossip.record.key if self.is_founder else b""
            manifest = swarm.with_model_arguments(described.arguments).manifest(
                described.layout, founder
            )
        except P2PFusionError as error:
            self.end(error)
            return
        if self.is_founder:
            self.handle(events.Found(manifest))
            return
        self.handle(events.Expect(manifest))
        for join in self.joins:
            self.handle(join)

    def _trained(self, trained: Trained) -> None:
        assert self.payloads is not None
        number, loss = trained.round_index, trained.loss
        if number not in self.peer.exchange.rounds:
            return  # the swarm has gone on without us
        self.payloads.offered(number, trained.offer, trained.split)
        self.history.accuracies[number] = trained.accuracy
        self.commands.accuracy, self.commands.loss = trained.accuracy, loss
        samples, norm, seconds = trained.samples, trained.norm, trained.seconds
        self.handle(events.TrainingFinished(number, samples, loss, norm, seconds))

    # --- Effects: streams ------------------------------------------------------------

    def _send_start(self, effect: events.SendStart) -> None:
        assert self.payloads is not None
        peer, pull = effect.peer, effect.pull
        size, absent = self.payloads.start(peer, pull, effect.stream)
        self.links.send(peer, StreamStart(pull, size, effect.samples, absent))

    def _send_chunk(self, effect: events.SendChunk) -> None:
        assert self.payloads is not None
        peer, pull = effect.peer, effect.pull
        payload = self.payloads.chunk(peer, pull, effect.offset, effect.size)
        if payload is None:
            return
        if self.links.send(peer, Chunk(pull, effect.offset, payload)):
            self.history.count_sent(effect.stream.round_index, payload.nbytes)

    def _stop_serving(self, effect: events.StopServing) -> None:
        if self.payloads is not None:
            self.payloads.stop_serving(effect.peer, effect.pull)

    # --- Effects: the swarm ----------------------------------------------------------

    def _adopt(self, effect: events.Adopt) -> None:
        """The manifest is known: check that we fit, open the store, set up.

        What fails here ends the loop at once: no later effect can be performed.
        """
        if self.payloads is not None:
            return  # a founder that is back adopts its own swarm once more
        manifest = effect.manifest
        fraction = split_fraction(
            self.peer.gossip.record.split_fraction, f"{self.profile.source}: [peer]"
        )
        check_fraction(manifest.layout, fraction, self.profile.source)
        store = self.state.open_store(manifest)
        self.payloads = Payloads(self.peer.gossip.me, store, manifest.wire_dtype)
        self.links.adopt(manifest)
        self.entrance.open(self.peer.door, manifest)
        self.apprentice.set_up(
            manifest, store=self.state.store, offers=self.state.offers
        )

    def _save_facts(self, effect: events.SaveFacts) -> None:
        self.state.save_facts(effect.facts)

    def _seal(self, effect: events.Seal) -> None:
        assert self.payloads is not None
        self.payloads.store.flush()
        self.state.save_progress(effect.next_round, effect.homes)

    def _report(self, effect: events.Report) -> None:
        traffic = self.transport.traffic
        self.history.note(
            effect,
            sent_bytes=traffic.sent_bytes(),
            received_bytes=traffic.received_bytes(),
        )
        told = self.commands.reported(effect)
        error = refusal(effect)
        if error is not None and not told and self.joins and not self.peer.manifest:
            self.end(error)  # the start named a way in, and it leads nowhere
        if effect.kind == "revoked" and effect.details["peer"] == self.peer.gossip.me:
            self.end(self._put_out(effect))

    def _put_out(self, report: events.Report) -> DeniedError:
        by, reason = self.name_of(str(report.details["by"])), report.details["reason"]
        return DeniedError(
            f"{by} has put this peer out of the swarm"
            + (f": {reason}" if reason else ""),
            hint="talk to its owner; with another --home this machine is a new peer",
        )

    # --- Effects: a round ------------------------------------------------------------

    def _enter_round(self, effect: events.EnterRound) -> None:
        assert self.payloads is not None
        self.payloads.enter(effect.plan, effect.homes)

    def _start_training(self, effect: events.StartTraining) -> None:
        rate = effect.learning_rate
        for outcome in self.apprentice.train(effect.round_index, effect.split, rate):
            self._outcome(outcome)

    def _open_reduction(self, effect: events.OpenReduction) -> None:
        assert self.payloads is not None
        self.payloads.open_reduction(effect.round_index, effect.instead_of)

    def _add_own(self, effect: events.AddOwn) -> None:
        assert self.payloads is not None
        self.payloads.add_own(effect.round_index, effect.instead_of, effect.weight)

    def _close_reduction(self, effect: events.CloseReduction) -> None:
        assert self.payloads is not None
        self.payloads.close_reduction(effect.round_index, effect.instead_of)

    def _open_sink(self, effect: events.OpenSink) -> None:
        assert self.payloads is not None
        try:
            self.payloads.open_sink(effect, self.commands.exports.writer)
        except RemoteProtocolError as error:
            self.handle(events.Misbehaved(effect.stream.source, str(error)))

    def _absorb(self, effect: events.Absorb) -> None:
        assert self.payloads is not None
        round_index = self.payloads.round_of(effect.pull)
        if round_index is not None:
            self.history.count_received(round_index, effect.payload.nbytes)
        self.payloads.absorb(effect.pull, effect.payload)

    def _close_sink(self, effect: events.CloseSink) -> None:
        assert self.payloads is not None
        self.payloads.close_sink(effect.pull, complete=effect.complete)

    def _forget(self, effect: events.Forget) -> None:
        assert self.payloads is not None
        self.payloads.forget(effect.round_index)

    def _assembled(self, effect: events.Assembled) -> None:
        self.commands.exports.assembled(effect)


def _catch_signals(stop: Callable[[], None]) -> int:
    """SIGINT and SIGTERM end the loop; a descriptor that wakes the poller for them."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader
