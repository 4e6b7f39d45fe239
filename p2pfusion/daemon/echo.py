"""Pings that a person asks for: the control plane's own probes, counted and timed.

They travel as every probe does, so that an answer proves the whole way there and back:
address, handshake, keys, and a daemon that runs. Their numbers lie above those of the
protocol's own probes, which therefore do not take the answers for theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from p2pfusion.daemon.access import named_peer
from p2pfusion.daemon.arguments import number, text
from p2pfusion.daemon.control import Request
from p2pfusion.daemon.members import address
from p2pfusion.errors import ConflictError
from p2pfusion.protocol.messages import Ping, Pong

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

FIRST_NUMBER = 1 << 62
MAX_PINGS = 1_000
INTERVAL_S = 0.2
PATIENCE_S = 2.0
"""How long an answer may take; after the last ping, so long is waited."""


def asked_peer(node: Node, request: Request) -> str:
    """Which of the other members a request names."""
    gossip = node.peer.gossip
    members = {record.peer: record.name for record in gossip.facts.members()}
    peer = named_peer(text(request.arguments, "peer"), members)
    if peer == gossip.me:
        raise ConflictError("this is you", hint="name another peer")
    return peer


@dataclass
class Series:
    """Some pings to one peer, and their answers."""

    request: Request
    peer: str
    count: int
    next_at: float
    sent_at: dict[int, float] = field(default_factory=dict)
    round_trips_s: list[float] = field(default_factory=list)
    unsent: int = 0


class Echo:
    """The pings under way."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._series: list[Series] = []
        self._numbers = FIRST_NUMBER

    def take(self, request: Request) -> None:
        """Begins to ping a peer."""
        peer = asked_peer(self._node, request)
        count = int(number(request.arguments, "count", 4.0))
        wanted = min(max(count, 1), MAX_PINGS)
        self._series.append(Series(request, peer, wanted, self._node.now()))

    def answered(self, peer: str, pong: Pong) -> None:
        """A peer has answered a ping, perhaps one of these."""
        for series in self._series:
            at = series.sent_at.pop(pong.nonce, None) if series.peer == peer else None
            if at is not None:
                took_s = self._node.now() - at
                series.round_trips_s.append(took_s)
                series.request.progress({"round_trip_s": took_s})

    def check(self) -> None:
        """Sends what is due, and answers what is over."""
        kept = []
        for series in self._series:
            if series.request.closed:
                continue
            if self._is_over(series):
                series.request.reply(self._outcome(series))
                continue
            if series.count > 0 and self._node.now() >= series.next_at:
                self._send(series)
            kept.append(series)
        self._series = kept

    def deadline(self) -> float:
        """When ``check`` has something to do."""
        return min((series.next_at for series in self._series), default=float("inf"))

    def _send(self, series: Series) -> None:
        gossip, now = self._node.peer.gossip, self._node.now()
        self._numbers += 1
        ping = Ping(self._numbers, gossip.round_index, gossip.facts.digest)
        series.count -= 1
        series.next_at = now + (INTERVAL_S if series.count else PATIENCE_S)
        if self._node.links.send(series.peer, ping):
            series.sent_at[ping.nonce] = now
        else:
            series.unsent += 1

    def _is_over(self, series: Series) -> bool:
        if series.count > 0:
            return False
        return not series.sent_at or self._node.now() >= series.next_at

    def _outcome(self, series: Series) -> dict[str, object]:
        gossip, peer, now = self._node.peer.gossip, series.peer, self._node.now()
        contact = gossip.detector.contacts.get(peer)
        heard_at = contact.heard_at if contact else None
        trips = series.round_trips_s
        return {
            "id": peer,
            "name": self._node.name_of(peer),
            "address": address(gossip.facts.records[peer]),
            "answered": len(trips),
            "unanswered": len(series.sent_at),
            "unsent": series.unsent,
            "round_trips_s": trips,
            "heard_s_ago": None if heard_at is None else now - heard_at,
            "asymmetric": gossip.detector.is_asymmetric(peer, now),
        }
