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
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from p2pfusion.daemon.apprentice import Apprentice
from p2pfusion.daemon.checkpoints import Checkpoints
from p2pfusion.daemon.chronicle import Chronicle
from p2pfusion.daemon.commands import Commands, refusal
from p2pfusion.daemon.config import Profile
from p2pfusion.daemon.control import ControlServer
from p2pfusion.daemon.diagnosis import state_of
from p2pfusion.daemon.disk import Disk
from p2pfusion.daemon.ending import Ending
from p2pfusion.daemon.entrance import Entrance
from p2pfusion.daemon.fetch import Fetch
from p2pfusion.daemon.health import Trouble
from p2pfusion.daemon.hidden_payloads import owed_of, payloads_of
from p2pfusion.daemon.history import History, brief
from p2pfusion.daemon.home import Home
from p2pfusion.daemon.labour import Labour
from p2pfusion.daemon.last_words import TOLD_TO
from p2pfusion.daemon.links import Links
from p2pfusion.daemon.outcomes import (
    Described,
    Fatal,
    Fitted,
    FoundOut,
    Measured,
    NotFoundOut,
    NotTrained,
    Outcome,
    TooLarge,
    Trained,
)
from p2pfusion.daemon.payloads import Payloads
from p2pfusion.daemon.privacy import check_private
from p2pfusion.daemon.service import Service
from p2pfusion.daemon.signals import EndingSignals
from p2pfusion.daemon.state import SwarmState
from p2pfusion.daemon.streams import Streams
from p2pfusion.daemon.training import Training
from p2pfusion.errors import (
    DeniedError,
    DiskFullError,
    P2PFusionError,
    RemoteProtocolError,
)
from p2pfusion.methods.base import split_fraction
from p2pfusion.protocol import events
from p2pfusion.protocol.access import JoinBy
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import Message
from p2pfusion.protocol.peer import Peer
from p2pfusion.split.blocks import check_blocks
from p2pfusion.split.depth import check_depth
from p2pfusion.split.windows import check_fraction
from p2pfusion.transport import Arrival, Incoming, Moving

log = logging.getLogger("p2pfusion")


class Node:
    """A running peer: protocol, transport, store, trainer and local socket."""

    def __init__(
        self,
        *,
        home: Home,
        peer: Peer,
        profile: Profile,
        links: Links,
        entrance: Entrance,
        control: ControlServer,
        apprentice: Apprentice,
        state: SwarmState,
        joins: Sequence[JoinBy] = (),
        service: Service | None = None,
    ) -> None:
        """``joins``: ways in that the start named; their swarm, or none, is ours."""
        self.home = home
        self.peer = peer
        self.profile = profile
        self.links = links
        self.transport = links.transport
        self.entrance = entrance
        self.control = control
        self.apprentice = apprentice
        self.state = state
        self.joins = tuple(joins)
        self.service = service or Service()
        self.payloads: Payloads | None = None
        self.history = History(self.name_of)
        self.chronicle = Chronicle(home.root, self.name_of)
        self.started_at = time.monotonic()
        self.troubles: dict[str, Trouble] = {}
        """What is wrong now, by code; whoever notes it takes it back."""
        self.disk = Disk(self, state.directory.parent)
        self.training = Training(self)
        self.checkpoints = Checkpoints(self, Home(state.directory.parent).checkpoints)
        self.commands = Commands(self)
        self._labour = Labour(self.transport.traffic.dropped, peer.gossip.others)
        self._events: deque[events.Event] = deque()
        self._wake: int | None = None
        self.ending = Ending(self)
        self.fetch = Fetch(self)
        self.streams = Streams(self)
        self._perform: dict[type, Callable[..., object]] = {
            events.Dial: lambda effect: links.dial(effect.record, effect.relay),
            events.Bar: lambda effect: links.bar(effect.peer),
            events.Ask: lambda effect: links.ask(effect.host, effect.port),
            events.Knock: lambda effect: links.knock(effect.way, effect.message),
            events.Reply: lambda effect: links.reply(effect.record, effect.message),
            events.Send: lambda effect: links.say(effect.peer, effect.message),
            events.SaveInvites: self.disk.save_invites,
            events.Adopt: self._adopt,
            events.SaveFacts: self.disk.save_facts,
            events.SaveOffences: self.disk.save_offences,
            events.StartTraining: self.training.start,
            events.Seal: self.disk.seal,
            events.Assembled: self._assembled,
            events.Report: self._report,
            **self.fetch.effects,
            **self.streams.effects,
        }

    @staticmethod
    def now() -> float:
        """The clock of all events, which only goes forward."""
        return time.monotonic()

    def name_of(self, peer: str) -> str:
        """What people call a peer."""
        record = self.peer.gossip.facts.records.get(peer)
        return record.name if record else peer

    # --- The loop --------------------------------------------------------------------

    def obey(self, signals: EndingSignals) -> None:
        """From now on SIGINT and SIGTERM end the loop, also one not begun yet."""
        signals.lead_to(stop=self.ending.stop, ask=self.ending.ask)
        self._wake = signals.descriptor

    def run(self) -> None:
        """Runs until told to stop; raises what makes going on pointless."""
        self.chronicle.begin()
        try:
            while not self.ending.is_now:
                self._turn(self._wake)
        finally:
            self.fetch.drop()
        if self.ending.error is not None:
            self.chronicle.end(str(self.ending.error))
            raise self.ending.error

    def farewell(self) -> None:
        """After the loop: nothing is left half done, and the others are told."""
        self.service.stopping()
        self.commands.exports.abandon()
        self._handle(events.Stopping())
        self.disk.settle()
        self.chronicle.end(TOLD_TO)
        self.commands.followers.end()

    @property
    def is_founder(self) -> bool:
        """Whether this peer's profile made the swarm, or is about to."""
        return self.profile.swarm is not None and not self.joins

    def _turn(self, wake: int | None) -> None:
        """One turn: wait, take what came, let the protocol answer."""
        now = time.monotonic()
        parts = (self.peer, self.commands, self.disk, self.apprentice, self.service)
        due = min(part.deadline() for part in parts)
        descriptors = {
            **({} if wake is None else {wake: selectors.EVENT_READ}),
            **self.control.descriptors(),
            **self.apprentice.descriptors(),
        }
        has_work = self._events or self.streams.hashing.is_busy
        timeout_s = 0.0 if has_work else max(0.0, due - now)
        arrivals, ready = self.transport.poll(timeout_s, descriptors)
        for descriptor in ready:  # the own side first: others may say a lot
            self._serve(descriptor, wake)
        for arrival in self._labour.heard(arrivals):
            self._take(arrival)
            self._drain()
        if time.monotonic() >= self.peer.deadline():
            self.handle(events.Tick())
        self.disk.check(self.now())
        self.performed(self.apprentice.check())
        self.training.check()
        self._drain()
        self.streams.hashing.look()
        self._drain()
        self.streams.outbox.flush()
        self.ending.check()
        self.chronicle.compare(self.troubles)
        self.commands.check()
        self.service.check(time.monotonic(), lambda: state_of(self).text)

    def _drain(self) -> None:
        while self._events:
            self._handle(self._events.popleft())

    def _serve(self, descriptor: int, wake: int | None) -> None:
        if descriptor == wake:
            os.read(descriptor, 4096)
        elif descriptor in self.apprentice.descriptors():
            self.performed(self.apprentice.ready())
            # What came too late for its round may take the place of one that waits.
            self._drain()
            self.apprentice.go_on()
        else:
            for request in self.control.ready(descriptor):
                self.commands.take(request)

    def _take(self, arrival: Arrival) -> None:
        if isinstance(arrival, Moving):
            self._handle(events.Arriving(arrival.sender))
            return
        if not isinstance(arrival, Incoming):
            for event in self.entrance.arrived(arrival):
                self._handle(event)
            return
        for message in self._messages(arrival):
            self.commands.heard(arrival.sender, message)
            self._handle(events.Received(arrival.sender, message))
            # What a message did wrong is known before the next of its sender counts.
            self._drain()

    def _messages(self, arrival: Incoming) -> Iterator[Message]:
        try:
            yield from self.links.open(arrival, self.payloads)
        except RemoteProtocolError as error:
            sender, kind = arrival.sender, error.offence
            self.handle(events.Misbehaved(sender, str(error), kind))

    def handle(self, event: events.Event) -> None:
        """Queues an event; the loop takes it up before it waits again."""
        self._events.append(event)

    def _handle(self, event: events.Event) -> None:
        effects = self.peer.handle(event, time.monotonic())
        if log.isEnabledFor(logging.DEBUG):
            log.debug("event %r: %d effects %r", event, len(effects), effects)
        for effect in effects:
            self._perform[type(effect)](effect)
        self.links.flush()

    # --- The trainer -----------------------------------------------------------------

    def performed(self, outcomes: Sequence[Outcome]) -> None:
        """What the trainer has done."""
        for outcome in outcomes:
            self._outcome(outcome)

    def _outcome(self, outcome: Outcome) -> None:
        match outcome:
            case Described():
                self._found(outcome)
            case Fitted(chosen):
                self.training.fitted(chosen)
            case Trained():
                self.training.trained(outcome)
            case Measured():
                self.training.measured(outcome)
            case NotTrained(round_index, reason, cause):
                if cause == DiskFullError.name:
                    self.disk.offer_refused(reason)
                self.handle(events.TrainingFailed(round_index, reason))
            case FoundOut():
                self.training.found_out(outcome)
            case NotFoundOut(reason):
                self.training.not_found_out(reason)
            case TooLarge(reason):
                self.training.too_large(reason)
            case Fatal(error):
                self.ending.fail(error)

    def _found(self, described: Described) -> None:
        """The model has a layout now: this is the swarm, to found or to expect."""
        swarm = self.profile.swarm
        assert swarm is not None
        try:
            founder = self.peer.gossip.record.key if self.is_founder else b""
            completed = swarm.completed(
                described.arguments,
                described.vocabulary,
                self.state.pool,
                versions=described.versions,
            )
            manifest = completed.manifest(described.layout, founder)
            stated = self.profile.peer.split_fraction
            where = f"{self.profile.source}: [peer]"
            check_depth(manifest.layout, is_deep=described.is_deep)
            check_fraction(manifest.layout, stated, where)
            check_blocks(manifest.layout, stated, where)
        except P2PFusionError as error:
            self.ending.fail(error)
            return
        if self.is_founder:
            # Its first round begins at once: how much it trains is known before.
            self.training.set_up(manifest, lambda: self.handle(events.Found(manifest)))
            return
        self.handle(events.Expect(manifest))
        for join in self.joins:
            self.handle(join)

    # --- Effects: the swarm ----------------------------------------------------------

    def _adopt(self, effect: events.Adopt) -> None:
        """The manifest is known: check that we fit, open the store, set up.

        What fails here ends the loop at once: no later effect can be performed. If what
        the swarm begins with has to come from others, there is no store before.
        """
        if self.payloads is not None:
            return  # a founder that is back adopts its own swarm once more
        manifest = effect.manifest
        fraction = split_fraction(
            self.peer.gossip.record.split_fraction, f"{self.profile.source}: [peer]"
        )
        check_fraction(manifest.layout, fraction, self.profile.source)
        check_private(self.profile.peer.privacy, manifest)
        self.links.adopt(manifest)
        self.entrance.open(self.peer.door, manifest)
        if self.fetch.is_needed(manifest):
            self.handle(events.LacksCheckpoint())
        else:
            self.open_store(manifest)

    def open_store(self, manifest: Manifest) -> None:
        """Nothing is lacking: from now on this peer keeps a part of the model."""
        store, me = self.state.open_store(manifest), self.peer.gossip.me
        owed, secret = owed_of(manifest, self.state.owed), self.links.pair_secret
        self.payloads = payloads_of(manifest, me, store, owed=owed, pair_secret=secret)
        if manifest.pretrained:
            self.handle(events.HasCheckpoint(store.checkpoint.nbytes))
        self.training.set_up(manifest)

    def _report(self, effect: events.Report) -> None:
        traffic = self.transport.traffic
        self.history.note(
            effect,
            sent_bytes=traffic.sent_bytes(),
            received_bytes=traffic.received_bytes(),
        )
        self.chronicle.note(effect.kind, brief(effect))
        self.ending.reported(effect.kind)
        self.checkpoints.report(effect)
        if effect.kind == "too-slow":
            self.training.too_slow()
        told = self.commands.reported(effect)
        error = refusal(effect)
        if error is not None and not told and self.joins and not self.peer.manifest:
            self.ending.fail(error)  # the start named a way in, and it leads nowhere
        if effect.kind == "cloned":
            incarnation = effect.details["incarnation"]
            assert isinstance(incarnation, int)
            self.state.keep_incarnation(incarnation)
        if effect.kind == "revoked" and effect.details["peer"] == self.peer.gossip.me:
            self.ending.fail(self._put_out(effect))

    def _put_out(self, report: events.Report) -> DeniedError:
        by, reason = self.name_of(str(report.details["by"])), report.details["reason"]
        return DeniedError(
            f"{by} has put this peer out of the swarm"
            + (f": {reason}" if reason else ""),
            hint="talk to its owner; with another --home this machine is a new peer",
        )

    # --- Effects: a round ------------------------------------------------------------

    def _assembled(self, effect: events.Assembled) -> None:
        self.commands.exports.assembled(effect)
