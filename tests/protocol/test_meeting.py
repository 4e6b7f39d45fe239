"""Whom a peer probes and greets, and what it does for others."""

from __future__ import annotations

from p2pfusion.protocol import events as e
from p2pfusion.protocol.meeting import Meeting
from p2pfusion.protocol.messages import Hello, Ping, Pong, ProbeFor, Seen
from p2pfusion.protocol.timing import DEFAULT_TIMING
from tests.protocol.names import record
from tests.protocol.test_gossip import member, of, sent


def to(effects: list[e.Effect], kind: type) -> list[str]:
    return [x.peer for x in effects if isinstance(x, e.Send) and _is(x, kind)]


def _is(effect: e.Send, kind: type) -> bool:
    return isinstance(effect.message, kind)


def test_who_is_there_is_pinged_and_who_is_not_is_greeted() -> None:
    gossip = member("a", "b", "c")
    gossip.detector.goodbye("b", 0.0)
    effects = Meeting(gossip).tick(1.0)
    assert to(effects, Ping) == ["a", "c"] and to(effects, Hello) == ["b"]
    assert not to(effects, ProbeFor), "it said that it goes"


def test_of_one_that_does_not_answer_others_are_asked_once_per_silence() -> None:
    gossip = member("a", "b", "c")
    meeting, asked = Meeting(gossip), list[str]()
    for second in range(1, 5):
        for peer in ("b", "c"):
            gossip.detector.heard(peer, float(second))
        effects = meeting.tick(second + 0.5)
        asked += to(effects, ProbeFor)
    assert sorted(asked) == ["b", "c"]


def test_who_is_asked_to_look_pings_and_says_what_it_saw() -> None:
    gossip = member("a", "b")
    meeting = Meeting(gossip)
    effects = meeting.on_probe_for("b", ProbeFor(7, "a"), 1.0)
    (ping,) = sent(effects, Ping)
    assert to(effects, Ping) == ["a"] and isinstance(ping, Ping)
    digest = gossip.facts.digest
    answered = meeting.on_probe("a", Pong(ping.nonce, 3, digest, 0.0), 1.1)
    assert answered == [e.Send("b", Seen(7, "a"))]
    for nobody in ("me", "b", "stranger"):
        assert meeting.on_probe_for("b", ProbeFor(8, nobody), 1.0) == []


def test_who_has_left_is_greeted_now_and_then_only() -> None:
    gossip = member("a", "b")
    meeting = Meeting(gossip)
    gossip.on_facts("b", of(record("b", sequence=1, leave_epoch=0)), 0.0)
    gossip.detector.goodbye("b", 0.0)
    greeted = []
    for second in range(1, 32):
        gossip.detector.heard("a", float(second))
        greeted += to(meeting.tick(float(second)), Hello)
    assert greeted == ["b"] * (1 + int(30 / DEFAULT_TIMING.suspicion_s))
