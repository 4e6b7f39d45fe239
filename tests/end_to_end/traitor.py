"""A member that trains as all do, and floods the others with what members may say.

    python -m tests.end_to_end.traitor start PROFILE --join TICKET

It is the program itself, with a node that between two turns of its loop says more than
it should, over its own connections and sessions: to everybody a member of good
standing. What it says is named in the file ``orders`` in its home, while that is there;
how many messages it has said it writes to ``told``.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

import zmq

from p2pfusion.cli import main as program
from p2pfusion.daemon import assemble
from p2pfusion.daemon.node import Node
from p2pfusion.limits import CHUNK_BYTES, MAX_CONTROL_FRAME_BYTES, MAX_NAMED_FACTS
from p2pfusion.protocol import events
from p2pfusion.protocol import messages as m
from p2pfusion.protocol.statements import (
    SESSION_BYTES,
    OfferFact,
    sign_closing,
    sign_offer,
)
from p2pfusion.protocol.wire import encode
from p2pfusion.transport import Plane
from p2pfusion.transport.connection import PREFIX
from p2pfusion.transport.passage import Wish, request

ORDERS, TOLD = "orders", "told"

BURST = 64
"""Messages to each other member in one turn, as long as there is room for them."""

LOOK_EVERY_S = 0.05
"""How often the orders are read."""

MOST_PASSAGES = 600
"""Connections for circuits, or standing by, that are open at once."""

MOST_LINES = 64
"""Control connections beside its own."""

HOPS = ("contribution", "fused", "home", "restore", "export", "table")


class Traitor(Node):
    """A node with orders."""

    _orders = ""
    _looked_at = 0.0
    _sent = 0
    _number = 0

    def _turn(self, wake: int | None) -> None:
        self._look()
        attack = ATTACKS.get(self._orders)
        if attack is not None and self.payloads is not None:
            for record in self._others():
                self._sent += attack(self, record)
            self.handle(events.Tick())  # nothing to wait for: the next burst
        super()._turn(wake)

    def _others(self) -> list[m.PeerRecord]:
        records = self.peer.gossip.facts.records
        return [record for peer, record in records.items() if peer != self.me]

    @property
    def me(self) -> str:
        """The own id."""
        return self.peer.gossip.me

    def _look(self) -> None:
        """Reads the orders; after the last, says something true once more."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        orders = ""
        with suppress(FileNotFoundError):
            orders = (self.home.root / ORDERS).read_text()
        told = self.home.root / TOLD
        if orders != self._orders:
            self._orders, self._sent = orders, 0
            _PASSAGES.clear()
            while _LINES:
                _LINES.pop().close(linger=0)
        temporary = told.with_suffix(".tmp")
        temporary.write_text(json.dumps({"orders": orders, "sent": self._sent}))
        temporary.replace(told)

    def say(self, peer: str, messages: Iterable[m.Message]) -> int:
        """Says them one by one; how many found room."""
        return sum(self.links.send(peer, message) for message in messages)

    def say_raw(self, peer: str, frames: list[bytes], count: int) -> int:
        """Says bytes that may be no message."""
        send = self.transport.send
        return sum(send(peer, Plane.CONTROL, frames) for _ in range(count))

    def number(self) -> int:
        """Another number each time."""
        self._number += 1
        return self._number


Attack = Callable[[Traitor, m.PeerRecord], int]


def _always(make: Callable[[Traitor], m.Message]) -> Attack:
    """A burst of messages, each made anew."""

    def attack(traitor: Traitor, record: m.PeerRecord) -> int:
        return traitor.say(record.peer, (make(traitor) for _ in range(BURST)))

    return attack


def _round(traitor: Traitor) -> tuple[int, bytes]:
    round_ = traitor.peer.round
    return (0, bytes(16)) if round_ is None else (round_.number, round_.plan.digest)


def _facts_digest(traitor: Traitor) -> bytes:
    return os.urandom(len(traitor.peer.gossip.facts.digest))


def _renewed(traitor: Traitor) -> m.Facts:
    """A record of its own that nobody has seen: all verify it, keep it, pass it on."""
    gossip = traitor.peer.gossip
    gossip._renew(name=f"traitor {traitor.number()}")
    return m.Facts((gossip.membership(),))


def _many_members(traitor: Traitor) -> m.Facts:
    """As many true facts as fit into a frame, which everybody knows."""
    one = traitor.peer.gossip.membership()
    size = len(encode(m.Facts((one,)))[0])
    return m.Facts((one,) * (MAX_CONTROL_FRAME_BYTES // size))


def _offer(traitor: Traitor) -> m.SignedOffer:
    """That it has nothing to offer in this round, again under another number. Another
    update would convict it at once (``test_quarantine.py``)."""
    gossip = traitor.peer.gossip
    number, digest = _round(traitor)
    offer = m.Offer(number, digest, 0, 0.0, 0.0, 0.0)
    session = gossip.record.exchange_key[:SESSION_BYTES]
    sequence = 10**6 + traitor.number()
    said = OfferFact(gossip.record.incarnation, sequence, offer, session)
    return m.SignedOffer(sign_offer(gossip.swarm_id, said, 0, gossip.signer))


def _closing(traitor: Traitor) -> m.SignedClosing:
    number, digest = _round(traitor)
    said = m.ClosingList(number, digest, (), (0.0,))
    gossip = traitor.peer.gossip
    return m.SignedClosing(sign_closing(gossip.swarm_id, said, gossip.signer))


def _request(traitor: Traitor) -> m.Request:
    """Wants a stream of this round, all of it at once."""
    number, digest = _round(traitor)
    hop = HOPS[traitor.number() % len(HOPS)]
    pull = (1 << 40) + traitor.number()
    return m.Request(pull, hop, number, digest, traitor.me, 0, 1 << 40)


def _names(traitor: Traitor) -> m.Known:
    """Names of facts that nobody has, as many as a message may hold."""
    return m.Known(b"\xff" * 8, os.urandom(8 * MAX_NAMED_FACTS))


def _wanted(traitor: Traitor) -> m.Wanted:
    facts = traitor.peer.gossip.facts
    names = [name for at in range(64) for name in facts.names(at)]
    return m.Wanted(b"".join(names))


def _probe_for(traitor: Traitor) -> m.ProbeFor:
    others = [record.peer for record in traitor._others()]
    return m.ProbeFor(traitor.number(), others[traitor.number() % len(others)])


def _incarnation(traitor: Traitor, record: m.PeerRecord) -> int:
    """A start of its own that never was: the others give up one session, and make
    another. One in a turn: each is a reason for all to forget what they were doing."""
    gossip = traitor.peer.gossip
    later = replace(gossip.record, sequence=gossip.record.sequence + 1)
    gossip.record = replace(later, incarnation=gossip.record.incarnation + 1)
    gossip._renew(name="again")
    return traitor.say(record.peer, [m.Facts((gossip.membership(),))])


def _knock(traitor: Traitor, record: m.PeerRecord) -> int:
    """Greets, as whoever is back does."""
    hello = traitor.peer.gossip.hello()
    return traitor.say(record.peer, [hello] * BURST)


def _chunks(traitor: Traitor, record: m.PeerRecord) -> int:
    """Values that nobody has asked for, sealed as they should be."""
    payload = memoryview(bytes(CHUNK_BYTES))
    pull = (1 << 41) + traitor.number()
    return traitor.say(record.peer, [m.Chunk(pull, 0, payload)] * 8)


def _starts(traitor: Traitor, record: m.PeerRecord) -> int:
    """Streams that nobody has asked for."""
    made = (
        m.StreamStart((1 << 41) + traitor.number(), 1 << 40, 1, b"\xff" * 4_096)
        for _ in range(BURST)
    )
    return traitor.say(record.peer, made)


_PASSAGES: list[socket.socket] = []


def _passages(wishes: tuple[Wish, ...]) -> Attack:
    """Connections that stand by, and circuits to others, over the raw data port."""

    def attack(traitor: Traitor, record: m.PeerRecord) -> int:
        while len(_PASSAGES) >= MOST_PASSAGES:
            _PASSAGES.pop(0).close()
        token = traitor.links._tokens[record.transport_key]
        for wish in wishes:
            with suppress(OSError):
                channel = socket.create_connection((record.host, record.data_port), 1.0)
                others = [other.peer for other in traitor._others()]
                target = others[traitor.number() % len(others)]
                said = request(token, wish, "" if wish is Wish.STANDBY else target)
                channel.sendall(said)
                _PASSAGES.append(channel)
        return len(wishes)

    return attack


def _bulk_connections(traitor: Traitor, record: m.PeerRecord) -> int:
    """Connections of its session that begin the largest message and never end it."""
    while len(_PASSAGES) >= MOST_PASSAGES:
        _PASSAGES.pop(0).close()
    session = traitor.links._sessions[record.peer][1]
    with suppress(OSError):
        channel = socket.create_connection((record.host, record.data_port), 1.0)
        channel.sendall(PREFIX.pack(session.sending_token, 64, CHUNK_BYTES) + b"x")
        _PASSAGES.append(channel)
    return 1


_CONTEXT: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
_LINES: deque[zmq.Socket[bytes]] = deque()


def _reconnects(traitor: Traitor, record: m.PeerRecord) -> int:
    """Connections with its own key, which prove it, say a word and are closed."""
    while len(_LINES) >= MOST_LINES:
        _LINES.popleft().close(linger=0)
    # Of those that were closed many are not gone yet: then there is room for no other.
    with suppress(zmq.ZMQError):
        line = _CONTEXT.socket(zmq.PUSH)
        line.set(zmq.CURVE_SERVERKEY, record.transport_key)
        line.set(zmq.CURVE_PUBLICKEY, traitor.peer.gossip.record.transport_key)
        line.set(zmq.CURVE_SECRETKEY, traitor.links._secret)
        line.connect(f"tcp://{record.host}:{record.port}")
        line.send(encode(traitor.peer.gossip.hello())[0], zmq.DONTWAIT)
        _LINES.append(line)
        return 1
    return 0


ATTACKS: dict[str, Attack] = {
    # Every type of message, as often as it finds room.
    "hello": _knock,
    "welcome": _always(lambda t: t.peer.gossip.welcome()),
    "manifest-part": _always(lambda t: m.ManifestPart(0, bytes(60_000))),
    "refused": _always(lambda t: m.Refused("denied", "x" * 400)),
    "records": _always(_renewed),
    "facts": _always(_many_members),
    "ping": _always(lambda t: m.Ping(t.number(), _round(t)[0], _facts_digest(t))),
    "pong": _always(lambda t: m.Pong(t.number(), 0, _facts_digest(t), 1e9)),
    "goodbye": _always(lambda t: m.Goodbye()),
    "digests": _always(lambda t: m.Digests(os.urandom(512))),
    "known": _always(_names),
    "wanted": _always(_wanted),
    "probe-for": _always(_probe_for),
    "seen": _always(lambda t: m.Seen(t.number(), t.me)),
    "offers": _always(_offer),
    "closings": _always(_closing),
    "requests": _always(_request),
    "refusals": _always(lambda t: m.Refusal(t.number(), "gone")),
    "credits": _always(lambda t: m.Credit(t.number(), 1 << 60)),
    "stream-starts": _starts,
    "chunks": _chunks,
    # What is no message, and what is more than one.
    "garbage": lambda t, r: t.say_raw(r.peer, [os.urandom(60_000)], BURST),
    "incarnations": _incarnation,
    "reconnects": _reconnects,
    "standing-by": _passages((Wish.STANDBY,) * 4),
    "circuits": _passages((Wish.CONTROL, Wish.DATA) * 2),
    "stuck-bulk": _bulk_connections,
}
"""What it can be told to do."""


def main() -> int:
    """The program, with a traitor for a node."""
    assemble.Node = Traitor  # type: ignore[misc]
    return program.main()


if __name__ == "__main__":
    sys.exit(main())
