"""Many newcomers of one owner, each with an identity of its own, at one door.

Each is the real protocol over a real transport, without a trainer or a store, so that
dozens of them fit into the process of a test. It is in when the swarm's manifest and a
credential have come, and out when it has heard why not.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from p2pfusion.daemon.links import Links
from p2pfusion.daemon.ways import ways_of
from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol import events as e
from p2pfusion.protocol.access import JoinBy
from p2pfusion.protocol.messages import BEFORE_START, PeerRecord
from p2pfusion.protocol.peer import Peer
from p2pfusion.security import (
    DeviceKey,
    ExchangeKey,
    preferred_cipher,
    transport_public,
)
from p2pfusion.transport import Address, Incoming, Keys, NetworkTransport, Plane

PATIENCE_S = 240.0
TURN_S = 0.01


class Sybil:
    """One identity that wants in by a ticket."""

    def __init__(self, ticket: str) -> None:
        key, exchange = DeviceKey.generate(), ExchangeKey.generate()
        secret = key.derived("transport key/v1")
        keys = Keys(transport_public(secret), secret)
        self._transport = NetworkTransport(key.peer, Address("127.0.0.1", 0), keys)
        bound = self._transport.addresses[Plane.CONTROL]
        record = PeerRecord(
            peer=key.peer,
            name="sybil",
            host=bound.host,
            port=bound.port,
            split_fraction="1/4",
            incarnation=1,
            sequence=0,
            join_epoch=BEFORE_START,
            swarm="",
            key=key.public,
            transport_key=keys.public,
            exchange_key=exchange.public,
            cipher=preferred_cipher(),
        )
        self._peer = Peer(record, key)
        self._links = Links(
            self._transport, exchange, record, secret=secret, encrypted=True
        )
        self.is_in = False
        self.refused = ""
        for way in ways_of(ticket, "the ticket", time.time()):
            self._perform(self._peer.handle(JoinBy(way), time.monotonic()))

    def turn(self) -> None:
        """Hears what there is, and knocks again when it is time."""
        arrivals, _ = self._transport.poll(TURN_S, {})
        for arrival in arrivals:
            if isinstance(arrival, Incoming):
                self._hear(arrival)
        now = time.monotonic()
        if now >= self._peer.deadline():
            self._perform(self._peer.handle(e.Tick(), now))

    def _hear(self, arrival: Incoming) -> None:
        try:
            messages = list(self._links.open(arrival, None))
        except RemoteProtocolError:
            return
        for message in messages:
            event = e.Received(arrival.sender, message)
            self._perform(self._peer.handle(event, time.monotonic()))

    def _perform(self, effects: Sequence[e.Effect]) -> None:
        for effect in effects:
            match effect:
                case e.Knock(way, message):
                    self._links.knock(way, message)
                case e.Dial(record, relay):
                    self._links.dial(record, relay)
                case e.Send(peer, message):
                    self._links.say(peer, message)
                case e.Adopt(manifest):
                    self._links.adopt(manifest)
                    self.is_in = True
                case e.Report("denied", details):
                    self.refused = str(details["text"])
        self._links.flush()

    def close(self) -> None:
        """Goes away."""
        self._transport.close()


def knock_all(ticket: str, count: int) -> list[Sybil]:
    """So many come at once with this ticket, until each knows where it stands."""
    sybils = [Sybil(ticket) for _ in range(count)]
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not all(each.is_in or each.refused for each in sybils):
            assert time.monotonic() < deadline, "somebody never heard an answer"
            for each in sybils:
                each.turn()
    finally:
        for each in sybils:
            each.close()
    return sybils
