"""What the command line asks of a running daemon, and the answers.

A question is answered at once from what is known (``answers.py`` says how that looks),
or kept until it can be: ``join`` until there is a swarm, ``wait`` until its condition
holds, ``export`` (``exports.py``) until the whole model is assembled. Every wait has a
time limit and says, when it ends without success, what it was still waiting for.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfusion.daemon import answers
from p2pfusion.daemon.access import AccessCommands, named_peer
from p2pfusion.daemon.arguments import number, text
from p2pfusion.daemon.control import Request
from p2pfusion.daemon.departures import Departures
from p2pfusion.daemon.diagnosis import wait_text, waits
from p2pfusion.daemon.echo import Echo
from p2pfusion.daemon.exports import Exports
from p2pfusion.daemon.followers import Followers
from p2pfusion.daemon.members import member_details, member_rows
from p2pfusion.daemon.throughput import Throughput
from p2pfusion.daemon.view import view
from p2pfusion.daemon.ways import ways_of
from p2pfusion.errors import (
    ConfigError,
    ConflictError,
    DeniedError,
    IncompatibleError,
    NotFoundError,
    P2PFusionError,
    WaitTimeoutError,
)
from p2pfusion.protocol.access import JoinBy
from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.events import Report
from p2pfusion.protocol.messages import (
    BEFORE_START,
    NEVER,
    Chunk,
    Credit,
    Message,
    Pong,
)

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

DEFAULT_TIMEOUT_S = 3_600.0
MAX_TIMEOUT_S = 30 * 86_400.0


@dataclass
class Waiting:
    """A question that is answered later."""

    request: Request
    until: float
    condition: str


@dataclass
class Commands:
    """Everything that local clients have asked and not been told yet."""

    node: Node
    loss: float | None = None
    accuracy: float | None = None
    _waiting: list[Waiting] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.exports = Exports(self.node)
        self.access = AccessCommands(self.node)
        self.followers = Followers(self.node)
        self.echo = Echo(self.node)
        self.throughput = Throughput(self.node)
        self.departures = Departures(self.node)

    def take(self, request: Request) -> None:
        """Answers a request, or keeps it."""
        handlers = {
            "status": self._status,
            "view": self._view,
            "peers": self._peers,
            "peer": self._peer,
            "rounds": self._rounds,
            "events": self.followers.take,
            "ping": self.echo.take,
            "bench-link": self.throughput.take,
            "join": self._join,
            "wait": self._wait,
            "stop": self._stop,
            "export": self._export,
            "checkpoint-create": self.node.checkpoints.create,
            "plan": self._plan,
            **self.access.handlers,
            **self.departures.handlers,
        }
        handler = handlers.get(request.command)
        try:
            if handler is None:
                raise NotFoundError(f"this daemon knows no command {request.command!r}")
            handler(request)
        except P2PFusionError as error:
            request.fail(error)

    def heard(self, peer: str, message: Message) -> None:
        """A peer has said something: perhaps what one of these commands waits for."""
        match message:
            case Pong():
                self.echo.answered(peer, message)
            case Chunk():
                self.throughput.came(peer, message)
            case Credit():
                self.throughput.credited(peer, message)

    # --- At once ---------------------------------------------------------------------

    def _status(self, request: Request) -> None:
        request.reply(self._status_now())

    def _status_now(self) -> answers.Data:
        return answers.status(self.node, loss=self.loss, accuracy=self.accuracy)

    def _view(self, request: Request) -> None:
        request.reply(view(self.node, self._status_now(), request.arguments))

    def _peers(self, request: Request) -> None:
        request.reply({"peers": member_rows(self.node)})

    def _peer(self, request: Request) -> None:
        records = self.node.peer.gossip.facts.records
        names = {peer: record.name for peer, record in records.items()}
        peer = named_peer(text(request.arguments, "peer"), names)
        request.reply(member_details(self.node, records[peer]))

    def _rounds(self, request: Request) -> None:
        count = number(request.arguments, "count", 10.0)
        request.reply({"rounds": self.node.history.rounds(max(1, int(count)))})

    def _plan(self, request: Request) -> None:
        peer = self.node.peer
        manifest = peer.manifest
        if manifest is None:
            raise NotFoundError(
                "this peer has no swarm yet", hint="join one, or start with a [swarm]"
            )
        number = peer.gossip.round_index
        roster = peer.gossip.facts.roster(manifest.epoch(number))
        members = [
            {
                "peer": member.peer,
                "name": self.node.name_of(member.peer),
                "split_fraction": str(member.split_fraction),
            }
            for member in roster
        ]
        packed = base64.b64encode(manifest.to_bytes()).decode()
        request.reply(
            {
                "swarm_id": manifest.swarm_id,
                "manifest": packed,
                "roster": members,
                "round": number,
            }
        )

    def _export(self, request: Request) -> None:
        self.exports.start(request, Path(text(request.arguments, "path")))

    def _stop(self, request: Request) -> None:
        limit_s = number(request.arguments, "drain_s", 0.0)
        request.reply({})
        if limit_s > 0:
            self.node.ending.ask(min(limit_s, MAX_TIMEOUT_S))
        else:
            self.node.ending.stop()

    # --- Later -----------------------------------------------------------------------

    def _join(self, request: Request) -> None:
        manifest = self.node.peer.manifest
        leaves = self.node.peer.gossip.record.leave_epoch != NEVER
        if manifest is not None and not leaves:
            raise ConflictError(
                f"this peer is already in the swarm {manifest.name!r}",
                hint="use another --home for another swarm",
            )
        typed = text(request.arguments, "address")
        ways = ways_of(typed, "the address", time.time())
        self._keep(request, "joined")
        for way in ways:
            self.node.handle(JoinBy(way))

    def _wait(self, request: Request) -> None:
        condition = text(request.arguments, "for")
        self._reached(condition)
        self._keep(request, condition)

    def _keep(self, request: Request, condition: str) -> None:
        timeout = number(request.arguments, "limit_s", DEFAULT_TIMEOUT_S)
        until = time.monotonic() + min(max(timeout, 0.0), MAX_TIMEOUT_S)
        self._waiting.append(Waiting(request, until, condition))

    def check(self) -> None:
        """Answers what can be answered by now, and ends what took too long."""
        now = time.monotonic()
        self.exports.check(now)
        self.node.checkpoints.check()
        self.followers.tell()
        self.echo.check()
        self.throughput.check()
        self.departures.check()
        kept: list[Waiting] = []
        for waiting in self._waiting:
            if waiting.request.closed:
                continue
            if self._is_over(waiting):
                waiting.request.reply(self._arrival(waiting))
            elif now >= waiting.until:
                waiting.request.fail(self._too_late(waiting))
            else:
                kept.append(waiting)
        self._waiting = kept

    def deadline(self) -> float:
        """When the next wait ends."""
        ends = (waiting.until for waiting in self._waiting)
        askers = (self.echo, self.throughput, self.exports)
        return min([*(each.deadline() for each in askers), *ends])

    def _is_over(self, waiting: Waiting) -> bool:
        if waiting.request.command != "join":
            return self._reached(waiting.condition)
        # The manifest alone does not say from when on this peer counts. The facts do,
        # which a member sends before it says in which round it is.
        gossip = self.node.peer.gossip
        if (
            self.node.payloads is None
            or gossip.record.leave_epoch != NEVER
            or gossip.claims.observed_round(time.monotonic()) < 0
        ):
            return False
        first, epoch = gossip.facts.start, gossip.record.join_epoch
        return not first or gossip.me in first or epoch != BEFORE_START

    def _reached(self, condition: str) -> bool:
        peer = self.node.peer
        if condition == "joined":
            return self.node.payloads is not None
        if condition == "done":
            measures = self.node.history.measured_now is not None
            return peer.standing is Standing.DONE and not measures
        kind, _, value = condition.partition("=")
        if kind in ("peers", "round") and value.isascii() and value.isdigit():
            wanted = int(value[:18])
            if kind == "peers":
                return len(answers.online(self.node)) >= wanted
            return peer.round is not None and peer.round.number >= wanted
        raise ConfigError(
            f"cannot wait for {condition!r}",
            hint="wait for joined, peers=K, round=T or done",
        )

    def _arrival(self, waiting: Waiting) -> object:
        peer = self.node.peer
        manifest = peer.manifest
        if waiting.request.command == "join" and manifest is not None:
            record = peer.gossip.record
            return {
                "swarm": {"id": manifest.swarm_id, "name": manifest.name},
                "member_from_epoch": peer.gossip.facts.join_epoch(record) or 0,
                "role": peer.gossip.facts.role(record.peer),
                "first_contacts": self.node.entrance.first_contacts,
            }
        return {"reached": waiting.condition, "round": peer.gossip.round_index}

    def _too_late(self, waiting: Waiting) -> WaitTimeoutError:
        reasons = "; ".join(map(wait_text, waits(self.node))) or "nothing in particular"
        return WaitTimeoutError(
            f"{waiting.condition} did not come in time; waiting for: {reasons}",
            hint="see: p2pfusion status",
        )

    def reported(self, report: Report) -> bool:
        """The protocol reported something; whether somebody waited to hear it."""
        error = refusal(report)
        if error is None:
            return False
        joins = [w for w in self._waiting if w.request.command == "join"]
        self._waiting = [w for w in self._waiting if w.request.command != "join"]
        for waiting in joins:
            waiting.request.fail(error)
        return bool(joins)


def refusal(report: Report) -> P2PFusionError | None:
    """The error that tells a person why there is no way in; None for other reports."""
    if report.kind == "incompatible":
        return _incompatible(report)
    if report.kind == "denied":
        return DeniedError(
            str(report.details["text"]),
            hint="ask an admin of the swarm for a ticket: p2pfusion invite create",
        )
    return None


def _incompatible(report: Report) -> IncompatibleError:
    """The error that tells a person about another version or another swarm."""
    if report.details["key"] == "version":
        hint = "install the same version of p2pfusion on both machines"
    else:
        hint = "leave out [swarm] to take what the swarm has, or check the address"
    return IncompatibleError(str(report.details["text"]), hint=hint)
