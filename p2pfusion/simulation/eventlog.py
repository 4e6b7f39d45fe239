"""The log of a simulation: one line per event and effect, and the hash of all of them.

Lines are short and complete: equal lines mean that equal things happened. The hash is
taken as the run goes, so nobody has to keep a line to compare two runs. A message is
logged with its bytes where it is sent, under a number; where it arrives the number says
it all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from p2pfusion.protocol import access as a
from p2pfusion.protocol import events as e
from p2pfusion.split.keeping import count_cells

HASHED_AT_ONCE = 1024
"""Lines: encoding and hashing each event's few by themselves would cost more."""

Watch = Callable[[str], None]
"""Gets every line, for people."""


class EventLog:
    """Hashes what happens, in order."""

    def __init__(self, watch: Watch | None = None) -> None:
        self.watch = watch
        self.at_once = HASHED_AT_ONCE if watch is None else 1
        """So many lines, and it is time to ``flush``."""
        self._hashed = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self.waiting: list[str] = []
        """Lines that are not hashed yet; others append to them."""

    def flush(self) -> None:
        """Hashes what waits; every line ends with a line feed."""
        if self.watch is not None:
            for line in self.waiting:
                self.watch(line)
        self._hashed += len(self.waiting)
        self.waiting.append("")
        self._hash.update("\n".join(self.waiting).encode())
        self.waiting.clear()

    @property
    def lines(self) -> int:
        """How many there are so far."""
        return self._hashed + len(self.waiting)

    @property
    def digest(self) -> str:
        """The hash of all lines so far, in hex."""
        self.flush()
        return self._hash.hexdigest()


def event_line(event: e.Event) -> str:
    """An event but for messages and ticks, which the world logs itself."""
    return EVENTS.get(type(event), repr)(event)


def stream_words(stream: e.StreamKey) -> str:
    """A stream, short."""
    return (
        f"{stream.hop} {stream.round_index} {stream.source}>{stream.target} "
        f"{stream.instead_of}"
    )


def _resume(event: e.Resume) -> str:
    homes, facts = event.homes.digest.hex(), len(event.facts)
    return f"Resume {event.next_round} {homes} {facts} facts"


def _dial(effect: e.Dial) -> str:
    through = "" if effect.relay is None else f" through {effect.relay.peer}"
    return f"dial {effect.record.peer} {effect.record.age}{through}"


def _knock(effect: e.Knock) -> str:
    return f"knock {effect.way.host}:{effect.way.port} {effect.way.peer}"


def _seal(effect: e.Seal) -> str:
    return f"seal {effect.next_round} {effect.homes.digest.hex()}"


def _enter(effect: e.EnterRound) -> str:
    return f"enter {effect.plan.round_index} {effect.plan.digest.hex()}"


def _train(effect: e.StartTraining) -> str:
    on = " on" if effect.goes_on else ""
    return f"train {effect.round_index} {effect.split.digest.hex()}{on}"


def _start(effect: e.SendStart) -> str:
    return f"start {effect.peer} {effect.pull} {stream_words(effect.stream)}"


def _open(effect: e.OpenSink) -> str:
    return f"open {effect.pull} {stream_words(effect.stream)} x {effect.weight}"


def _facts(effect: e.SaveFacts) -> str:
    members = [len(facts.members) for facts in effect.facts]
    return f"facts {members}"


def _report(effect: e.Report) -> str:
    details = dict(effect.details)
    details.pop("offers", None)  # they stand where they were sent, and are many
    return f"report {effect.kind} {details}"


EVENTS: dict[type, Callable[..., str]] = {
    e.Came: lambda x: f"came {stream_words(x.stream)} {x.digest.hex()}",
    e.Found: lambda x: f"Found {x.manifest.swarm_id}",
    e.Expect: lambda x: f"Expect {x.manifest.swarm_id}",
    e.Resume: _resume,
    a.JoinBy: lambda x: f"JoinBy {x.way.host}:{x.way.port} {x.way.peer} {x.way.invite}",
    a.Introduced: lambda x: f"Introduced {x.host}:{x.port} {x.peer}",
    a.Invited: lambda x: f"Invited {x.invite.id}",
}
"""How an event reads where its fields would say too much."""

FORMATS: dict[type, Callable[..., str]] = {
    e.Dial: _dial,
    e.Bar: lambda x: f"bar {x.peer}",
    e.Ask: lambda x: f"ask {x.host}:{x.port}",
    e.Knock: _knock,
    e.Reply: lambda x: f"reply {x.record.peer} {type(x.message).__name__}",
    e.SaveInvites: lambda x: f"invites {[(i.id, i.used_by) for i in x.invites]}",
    e.Adopt: lambda x: f"adopt {x.manifest.swarm_id}",
    e.SaveFacts: _facts,
    e.SaveOffences: lambda x: f"offences {len(x.charges)}",
    e.Settle: lambda x: f"settle {x.round_index} {x.reducer}",
    e.HashOffer: lambda x: f"hash {x.round_index} {' '.join(x.reducers)}",
    e.EnterRound: _enter,
    e.StartTraining: _train,
    e.OfferLate: lambda x: f"late {x.round_index} from {x.base_round}",
    e.OpenReduction: lambda x: f"reduce {x.round_index} {x.instead_of}",
    e.AddOwn: lambda x: f"own {x.round_index} {x.instead_of} x {x.weight}",
    e.CloseReduction: lambda x: f"fused {x.round_index} {x.instead_of}",
    e.FindLacking: lambda x: f"lacks {x.round_index} {count_cells(x.cells)}",
    e.KeepOld: lambda x: f"keep {x.round_index} {sum(int(m.sum()) for m in x.cells)}",
    e.OpenSink: _open,
    e.Absorb: lambda x: f"absorb {x.pull} {x.offset}+{x.payload.nbytes}",
    e.CloseSink: lambda x: f"close {x.pull} {x.complete}",
    e.SendStart: _start,
    e.SendChunk: lambda x: f"chunk {x.peer} {x.pull} {x.offset}+{x.size}",
    e.StopServing: lambda x: f"unserve {x.peer} {x.pull}",
    e.Seal: _seal,
    e.Forget: lambda x: f"forget {x.round_index}",
    e.Assembled: lambda x: f"assembled {x.number} {x.missing}",
    e.Report: _report,
}
"""How each effect reads; messages are logged where they are sent."""
