"""Messages between machines: who is let in, what is lost on the way, what waits.

As the real transport does it, in short. Control messages come from senders whose key is
admitted; a stranger may only greet, and what others send waits until they are known.
Bulk needs a session, which names one life of either side. A control message for a
daemon that is away waits at its sender, bulk does not; what was on the way to a daemon
that ended is lost.

A message goes through the wire format on its way. Decoding gives back an equal message
(``tests/protocol/test_wire.py`` tests it, and the simulator's own tests run both ways),
so unless ``exact`` is set only the bytes are made, and the frozen message itself
arrives.

As in the daemon, what a peer says to another at once shares a frame, and a stream's
head leaves with its first chunk (``daemon/links.py``, ``daemon/outbox.py``): a frame
arrives, waits or is lost as a whole, on a connection as here. Only where the network
lets everything through in order, though: on a link that loses, repeats, reorders or
queues, each message goes by itself, which is harder on the peers than any connection.

Two machines that can only dial out have no link of their own: what they send goes over
two, by way of the machine that the sender's peer has chosen, and is lost if that one is
away or does not know both.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from p2pfusion.limits import MAX_CONTROL_FRAME_BYTES, MAX_TOGETHER
from p2pfusion.protocol import events as e
from p2pfusion.protocol.access import Introduced, KnockFailed
from p2pfusion.protocol.messages import Chunk, Hello, Message
from p2pfusion.protocol.wire import decode
from p2pfusion.simulation.holdings import Parcel
from p2pfusion.simulation.machine import ALIVE, Life, Machine, State
from p2pfusion.simulation.network import Link
from p2pfusion.simulation.writing import Writing
from p2pfusion.transport.bounds import (
    CONTROL_SEND_QUEUE_MESSAGES,
    DATA_SEND_QUEUE_MESSAGES,
    DATA_SIGN_MS,
)

if TYPE_CHECKING:
    from p2pfusion.simulation.world import World

GUEST = "guest "
"""Begins the sender's name of messages from keys that are not admitted."""

ANSWER_S = 0.005
"""How long it takes to hear that a knock leads nowhere."""

ENDINGS = frozenset({Chunk, Hello})
"""Nothing comes after a chunk in its frame, and nothing beside a greeting."""

SIGN_S = DATA_SIGN_MS / 1_000
"""How often a peer hears that bytes of a message come that is not whole yet."""


@dataclass(slots=True, eq=False)
class Envelope:
    """A frame on its way."""

    source: Life
    sender: str
    """The name that the connection gives its sender."""
    target: Machine
    messages: list[tuple[int, Message]]
    """What is in it, each with its number in the log."""
    sent_at: float
    link: Link[Envelope]
    generation: int
    session: bytes | None
    """Of bulk: the key of the life that it was sealed for."""
    parcel: Parcel | None
    """Of bulk: what it is a part of."""
    onward: Link[Envelope] | None
    """The link by which it goes on from the machine that passes it on."""
    size: int

    def fits(
        self, message: Message, size: int, parcel: Parcel | None, instant: float
    ) -> bool:
        """Whether what the same event makes its sender say leaves with it, too."""
        if self.sent_at != instant or self.parcel is not parcel:
            return False
        if parcel is not None:
            return type(message) is Chunk  # the first one, as the head is here
        if type(message) is Hello or len(self.messages) >= MAX_TOGETHER:
            return False
        return self.size + size <= MAX_CONTROL_FRAME_BYTES


class Carrier:
    """Takes messages from one machine to another."""

    def __init__(self, world: World, *, exact: bool) -> None:
        self._world = world
        self._machines = world.machines
        self._network = world.network
        self._exact = exact
        self._writing = Writing()
        self._open: dict[Link[Envelope], Envelope] = {}
        """What the present event has made somebody say: more may leave with it."""
        self._arriving = self._arrive
        """The method, bound once for all messages."""
        self.posted = 0
        self.lost = 0

    # --- Leaving ---------------------------------------------------------------------

    def close(self) -> None:
        """What is said from now on shares no frame with what was said before."""
        self._open.clear()

    def post(
        self,
        life: Life,
        peer: str,
        message: Message,
        *,
        sender: str = "",
        parcel: Parcel | None = None,
    ) -> str:
        """Sends a message; gives its line of the log."""
        frames, size, head = self._writing.of(message)
        self.posted = number = self.posted + 1
        machine, session, on_data = life.machine, None, parcel is not None
        if not on_data:
            machine.control_bytes += size
        elif (session := life.sessions.get(peer)) is None:
            return f"> {peer} no session"
        if self._exact:
            message = decode(frames, data_plane=on_data)
        line, target = f"> {peer} #{number} {head}", self._machines.get(peer)
        if machine.is_outward and target is not None and target.is_outward:
            link, onward = self._way_around(life, target, on_data=on_data)
        else:
            network, onward = self._network, None
            link = network.links.get((life.name, peer, on_data))
            if link is None:
                link = network.link(life.name, peer, on_data=on_data)
        if link is None or link.cut or target is None:
            self.lost += 1
            return f"{line} cut"
        now = life.clock
        # What somebody passes on shares the link to that one, but no frame.
        frame = self._open.pop(link, None) if onward is None else None
        if frame is not None and frame.fits(message, size, parcel, now):
            frame.messages.append((number, message))
            frame.size += size
        else:
            frame = Envelope(
                life,
                sender or life.name,
                target,
                [(number, message)],
                now,
                link,
                link.generation,
                session,
                parcel,
                onward,
                size,
            )
            if not link.conditions.is_calm:
                self._launch(frame, now)
                return line
            self._world.at(link.arrival(now), self._arriving, frame)
        if onward is None and type(message) not in ENDINGS:
            self._open[link] = frame
        return line

    def _way_around(
        self, life: Life, target: Machine, *, on_data: bool
    ) -> tuple[Link[Envelope] | None, Link[Envelope] | None]:
        """The links by which a message goes to a machine that cannot be dialled, one
        after the other; none where it cannot, and but one to itself."""
        name, peer = life.name, target.name
        if peer == name:
            return self._network.link(name, peer, on_data=on_data), None
        relay = life.relays.get(peer, "")
        if not self._passes_on(relay, name, peer):
            return None, None
        onward = self._network.link(relay, peer, on_data=on_data)
        return self._network.link(name, relay, on_data=on_data), onward

    def _passes_on(self, relay: str, *ends: str) -> bool:
        """Whether a daemon runs there that knows both ends, and can be dialled."""
        machine = self._world.machines.get(relay)
        if machine is None or machine.is_outward or machine.state is not ALIVE:
            return False
        return machine.life is not None and machine.life.admitted.issuperset(ends)

    def _launch(self, envelope: Envelope, instant: float) -> None:
        """It goes over its link."""
        link, world = envelope.link, self._world
        for arrival in link.arrivals(instant, envelope.size):
            world.at(arrival, self._arriving, envelope)
        is_bulk = envelope.parcel is not None
        if is_bulk and (takes_s := link.takes_s(envelope.size)) > SIGN_S:
            # Also one that will not count has its bytes on the line.
            whole_at = link.free_at + link.conditions.latency_s
            first = whole_at - takes_s + SIGN_S
            world.at(first, self._moving, (envelope, whole_at))

    # --- Arriving --------------------------------------------------------------------

    def _arrive(self, envelope: Envelope) -> None:
        link, machine = envelope.link, envelope.target
        if (
            envelope.generation != link.generation
            or envelope.sent_at >= envelope.source.ended_at
        ):
            self.lost += 1
            return
        if envelope.onward is not None:
            self._pass_on(envelope, envelope.onward)
            return
        if machine.state is ALIVE and not link.clogged and not link.held:
            self._deliver(machine, envelope)
            return
        is_bulk = envelope.session is not None
        room = DATA_SEND_QUEUE_MESSAGES if is_bulk else CONTROL_SEND_QUEUE_MESSAGES
        is_away = machine.state is State.DEAD
        was_on_the_way = envelope.sent_at < machine.ended_at
        if len(link.held) >= room or (is_away and (is_bulk or was_on_the_way)):
            self.lost += 1
            return
        link.held.append(envelope)

    def _pass_on(self, envelope: Envelope, onward: Link[Envelope]) -> None:
        """It has come to the machine that passes it on."""
        source, target = envelope.source.name, envelope.target.name
        relay = envelope.source.relays.get(target, "")
        is_open = not (envelope.link.clogged or onward.cut)
        if not is_open or not self._passes_on(relay, source, target):
            self.lost += 1
            return
        following = replace(
            envelope, link=onward, generation=onward.generation, onward=None
        )
        self._launch(following, self._world.now)

    def _moving(self, what: tuple[Envelope, float]) -> None:
        """A part of a message has come; the whole is there at an instant."""
        envelope, whole_at = what
        link, life = envelope.link, envelope.target.life
        is_cut = link.cut or envelope.generation != link.generation
        if is_cut or life is None or envelope.target.state is not ALIVE:
            return
        if not link.clogged and self._is_sealed_for(life, envelope):
            self._world.give(life, e.Arriving(envelope.sender))
        if self._world.now + SIGN_S < whole_at:
            self._world.at(self._world.now + SIGN_S, self._moving, what)

    def _is_sealed_for(self, life: Life, envelope: Envelope) -> bool:
        """Of bulk: whether both ends have the session that it was sealed in."""
        sealed_by = envelope.source.exchange_key
        is_ours = envelope.session == life.exchange_key
        return is_ours and life.sessions.get(envelope.sender) == sealed_by

    def release(self, machine: Machine, delay_s: float) -> None:
        """What waits for this machine arrives, soon: it is there again."""
        for link in self._world.network.into(machine.name):
            if link.held and not link.clogged:
                self._world.at(self._world.now + delay_s, self._flow, link)

    def flow(self, links: list[Link[Envelope]]) -> None:
        """What waits on these links arrives."""
        for link in links:
            self._flow(link)

    def _flow(self, link: Link[Envelope]) -> None:
        if link.clogged or not link.held:
            return
        machine = link.held[0].target
        if machine.state is not ALIVE:
            return
        for envelope in link.release():
            self._deliver(machine, envelope)

    def _deliver(self, machine: Machine, envelope: Envelope) -> None:
        """To a daemon that runs, if it lets the sender in."""
        life, sender = machine.life, envelope.sender
        if life is None or sender in life.barred:
            self.lost += 1
            return
        if envelope.session is not None:
            if not self._is_sealed_for(life, envelope):
                self.lost += 1
                return
        elif sender not in life.admitted:
            is_hello = isinstance(envelope.messages[0][1], Hello)
            manifest = life.peer.manifest
            is_open = manifest is not None and manifest.admission != "ticket"
            if is_hello and not sender.startswith(GUEST) and is_open:
                sender = GUEST + envelope.source.machine.transport_key.hex()
            elif not (is_hello and sender.startswith(GUEST)):
                life.parked = [*life.parked, envelope][-CONTROL_SEND_QUEUE_MESSAGES:]
                return
        life.heard[sender] = self._world.now
        self._world.deliver(life, sender, envelope)

    # --- Who is let in ---------------------------------------------------------------

    def admit(self, life: Life, peer: str) -> None:
        """From now on this peer's messages are its own; those that waited arrive."""
        life.admitted.add(peer)
        life.barred.discard(peer)
        if life.parked:
            waited = [x for x in life.parked if x.sender == peer]
            life.parked = [x for x in life.parked if x.sender != peer]
            for envelope in waited:
                self._world.at(life.clock, self._unpark, (life, envelope))

    def _unpark(self, what: tuple[Life, Envelope]) -> None:
        life, envelope = what
        if life.is_current:
            self._deliver(life.machine, envelope)

    def bar(self, life: Life, peer: str) -> None:
        """This peer's connections are closed, and it gets no other."""
        life.barred.add(peer)
        life.admitted.discard(peer)
        life.sessions.pop(peer, None)
        pairs = [(peer, life.name), (life.name, peer)]
        self._world.network.break_(pairs)

    def ask(self, life: Life, at: e.Ask) -> None:
        """Who listens there? Only those say so that take strangers."""
        there = self._listening(at.port)
        if there is None:
            return
        manifest = there.peer.manifest
        if manifest is not None and manifest.admission != "ticket":
            machine = there.machine
            said = (machine.name, machine.transport_key)
            self._answer(life, Introduced(at.host, at.port, *said))
        else:
            self._answer(life, KnockFailed(at.host, at.port, "no-banner"))

    def knock(self, life: Life, knock: e.Knock) -> str:
        """Greets whoever listens there; gives the line of the log."""
        way = knock.way
        there = self._listening(way.port)
        if there is None:
            return f"knock {way.port} nobody"
        if way.key != there.machine.transport_key:
            self._answer(life, KnockFailed(way.host, way.port, "wrong-key"))
            return f"knock {way.port} wrong key"
        self.admit(life, there.name)
        sender = ""
        if way.invite:
            sender = GUEST + hashlib.sha256(way.secret).hexdigest()
            invites = there.peer.door.admission.invites.values()
            if all(invite.secret != way.secret for invite in invites):
                self._answer(life, KnockFailed(way.host, way.port, "refused"))
                return f"knock {way.port} refused"
        return self.post(life, there.name, knock.message, sender=sender)

    def _listening(self, port: int) -> Life | None:
        machine = self._world.by_port.get(port)
        if machine is None or machine.is_outward or machine.state is not ALIVE:
            return None
        return machine.life

    def _answer(self, life: Life, event: e.Event) -> None:
        self._world.at(life.clock + ANSWER_S, self._answered, (life, event))

    def _answered(self, what: tuple[Life, e.Event]) -> None:
        life, event = what
        if life.is_current:
            self._world.give(life, event)
