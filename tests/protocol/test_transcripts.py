"""Short scenarios with everything that happens in them, as text.

A transcript's lines that begin with ``>`` are commands; below each stands what
followed: ``<`` is an event that a peer was given, ``:`` an effect that came out. Probes
are left out. After a change of the protocol, rewrite them and read the difference:
``pytest tests/protocol/test_transcripts.py --rewrite-transcripts``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfusion.protocol import access, schema
from p2pfusion.protocol import events as e
from p2pfusion.protocol import messages as m
from p2pfusion.protocol.statements import (
    author,
    read_closing,
    read_offer,
    read_record,
    read_revocation,
)
from tests.methods.toy import toy_methods
from tests.protocol.names import NAMES, invitation
from tests.protocol.swarm import GUEST, Swarm, started

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


def swarm_of(statement: m.Signed) -> str:
    """The swarm that a statement is about: the first thing it says."""
    return str(schema.unpack(statement.payload[32:])[0])


def told(facts: m.Facts) -> Iterator[str]:
    """Facts in a few words each."""
    records = [read_record(member.record, NAMES) for member in facts.members]
    if records:
        rows = [f"{r.peer} {r.incarnation}.{r.sequence}" for r in records]
        yield f"of {', '.join(rows)}"
    if facts.start is not None:
        yield f"start {', '.join(schema.unpack(facts.start.payload[32:])[1])}"
    for each in facts.revocations:
        fact = read_revocation(each.statement, NAMES, swarm=swarm_of(each.statement))
        yield f"{fact.by} puts out {fact.peer} from epoch {fact.epoch}: {fact.reason}"


def said(message: m.Message) -> str:
    """A message in a few words."""
    name = type(message).__name__
    match message:
        case m.Hello(_, swarm, _, credential, invite):
            shown = f" with {invite}" if invite else ""
            shown += " with a credential" if credential else ""
            return f"{name} {'as one of the swarm' if swarm else 'from outside'}{shown}"
        case m.Facts():
            return f"{name} {'; '.join(told(message))}"
        case m.Welcome(_, number, length, credential):
            text = f"{name} round {number}, manifest of {length} bytes"
            return text + (", a credential" if credential else "")
        case m.Refused(code, text):
            return f"{name} {code}: {text}"
        case m.SignedOffer(statement):
            key = author(statement)
            said = read_offer(statement, NAMES, swarm=swarm_of(statement), key=key)
            text = f"{said.offer.samples} samples"
            return f"Offer {said.sequence} round {said.offer.round_index}, {text}"
        case m.SignedClosing(statement):
            by, listed = read_closing(statement, NAMES, swarm=swarm_of(statement))
            rows = [f"{x.position} of {x.l1:g}" for x in listed.entries]
            text = f"{'; '.join(rows) or 'nothing'}; moved {listed.distances}"
            return f"ClosingList by {by} of round {listed.round_index}: {text}"
        case m.Request(_, hop, number, _, instead_of, offset, limit):
            instead = f" instead of {instead_of}" if instead_of else ""
            what = "no further than" if limit == offset else "from"
            return f"{name} {hop} of round {number}{instead} {what} byte {offset}"
        case m.Refusal(_, reason):
            return f"{name}: {reason}"
        case m.StreamStart(_, total, samples, _, _):
            return f"{name} {total} bytes, {samples} samples"
        case m.Chunk(_, offset, payload):
            return f"{name} {offset}+{payload.nbytes}"
    return name


def line(what: e.Event | e.Effect) -> str:
    """An event or effect in a few words; empty for what is left out."""
    name = type(what).__name__
    match what:
        case e.Received(peer, message) | e.Send(peer, message):
            if isinstance(message, m.Ping | m.Pong):
                return ""
            way = "from" if isinstance(what, e.Received) else "to"
            guest = "a guest" if peer.startswith(GUEST) else peer
            return f"{way} {guest}: {said(message)}"
        case e.Reply(record, message):
            return f"{name} to {record.peer}: {said(message)}"
        case access.JoinBy(way):
            ticket = f" with {way.invite}" if way.invite else ""
            return f"{name} {way.host}:{way.port}{ticket}"
        case access.Introduced(host, port, peer):
            return f"{name} {peer} at {host}:{port}"
        case access.Invited(invite):
            return f"{name} {invite.id}, a {invite.role} {invite.uses} times"
        case e.SaveInvites(invites):
            rows = [
                f"{i.id} used by {','.join(i.used_by) or 'nobody'}" for i in invites
            ]
            return f"{name} {'; '.join(rows) or 'none'}"
        case e.Knock(way, message):
            return f"{name} at {way.host}:{way.port}: {said(message)}"
        case e.Tick() | e.SaveFacts():
            return ""
        case e.Dial(record):
            return f"{name} {record.peer}"
        case e.EnterRound(plan, _):
            return f"{name} {plan.round_index}"
        case e.StartTraining(number, _, _) | e.TrainingFinished(number):
            return f"{name} {number}"
        case e.Resume(_, _, number, _) | e.Seal(number, _):
            return f"{name} {number}"
        case e.OpenSink(_, stream, weight, size, _):
            return f"{name} {stream.hop} from {stream.source}, {size} bytes x {weight}"
        case e.SendStart(peer, _, stream, _, _):
            return f"{name} {stream.hop} to {peer}"
        case e.SendChunk(peer, _, stream, offset, size):
            return f"{name} {stream.hop} to {peer}, {offset}+{size}"
        case e.Absorb(_, offset, payload):
            return f"{name} {offset}+{payload.nbytes}"
        case e.CloseSink(_, complete):
            return f"{name} {'complete' if complete else 'given up'}"
        case e.StopServing(peer, _):
            return f"{name} {peer}"
        case e.Found() | e.Adopt():
            return name
        case e.Report("round-sealed", details):
            missing = [f"{x['peer']} {x['reason']}" for x in details["missing"]]
            text = f"{name} round-sealed {details['round']}"
            return f"{text} by {','.join(details['contributors'])} missing {missing}"
        case e.Report(kind, details):
            shown = {k: v for k, v in details.items() if k not in ("swarm", "name")}
            return f"{name} {kind} {shown or ''}".rstrip()
    return repr(what)


class Played:
    """A transcript's commands, applied to a swarm one after the other."""

    def __init__(self) -> None:
        self.swarm: Swarm | None = None
        self.seen: list[str] = []

    def note(self, name: str, what: e.Event | e.Effect, mark: str) -> None:
        assert self.swarm is not None
        text = line(what)
        if text:
            self.seen.append(f"{self.swarm.now:.3f} {name} {mark} {text}")

    def do(self, command: str) -> list[str]:
        """One command; the lines that follow from it."""
        self.seen = []
        verb, *words = command.split()
        if verb == "swarm":
            settings = dict(word.split("=") for word in words[1:])
            changes = {k: int(v) if v.isdigit() else v for k, v in settings.items()}
            self.swarm = started(int(words[0]), **changes)
            self.swarm.watch = self.note
            return self.seen
        assert self.swarm is not None
        self._act(self.swarm, verb, words)
        return self.seen

    def _act(self, swarm: Swarm, verb: str, words: list[str]) -> None:
        match verb, words:
            case "run", [seconds]:
                swarm.run_to(swarm.now + float(seconds))
            case "finish", []:
                swarm.run_until_done()
            case "slow", [name, seconds]:
                swarm.hosts[name].training_s = float(seconds)
            case "kill", [name]:
                swarm.kill(name)
            case "restart", [name]:
                swarm.restart(name)
            case "stop", [name]:
                swarm.event(name, e.Stopping())
                swarm.kill(name)
            case "join", [name, "by", other]:
                swarm.add(name)
                swarm.join(name, by=other)
            case "join", [name, "by", "address", "of", other]:
                swarm.add(name)
                swarm.join_address(name, by=other)
            case "join", [name, "by", "ticket", "of", other]:
                swarm.add(name)
                invites = swarm.hosts[other].peer.door.admission.invites
                swarm.join(name, other, invites["invite-1"])
            case "invite", [name]:
                swarm.event(name, access.Invited(invitation()))
            case "accept" | "deny", [name, "at", other]:
                swarm.event(other, access.Decided(name, verb == "accept"))
            case "revoke", [name, "at", other]:
                swarm.event(other, access.Revoke(name, "sold"))
            case "export", [name]:
                swarm.event(name, e.ExportRequested(1, swarm.lacked_by(name)))
            case "fail", [name]:
                number = swarm.hosts[name].trained[-1]
                swarm.event(name, e.TrainingFailed(number, "out of memory"))
            case _:
                raise ValueError(f"no such command: {verb} {words}")


def played(text: str) -> Iterator[str]:
    """The transcript with its commands played anew."""
    play = Played()
    for row in text.splitlines():
        if row.startswith("#") or not row:
            yield row
        elif row.startswith("> "):
            yield row
            yield from play.do(row[2:])


@pytest.fixture(autouse=True, scope="module")
def toys() -> Iterator[None]:
    """Commands may name the toy methods."""
    with toy_methods():
        yield


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_everything_happens_as_written(path: Path, rewrites: bool) -> None:
    written = path.read_text()
    happened = "\n".join(played(written)) + "\n"
    if rewrites:
        path.write_text(happened)
    assert happened == (path.read_text() if rewrites else written)


def test_there_are_transcripts_and_they_can_fail() -> None:
    assert len(TRANSCRIPTS) >= 4
    text = TRANSCRIPTS[0].read_text()
    command = next(row for row in text.splitlines() if row.startswith("> swarm"))
    assert "\n".join(played(command.replace("rounds=1", "rounds=2"))) + "\n" != text
