"""The door's two sides: every event is taken, every effect is a known value."""

from __future__ import annotations

import dataclasses
import inspect
import typing

import pytest

from p2pfusion.protocol import access, beginning, flow, judging, lacking, results
from p2pfusion.protocol import events as e
from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.joining import KNOCK_FAILURES, Way
from p2pfusion.protocol.messages import Goodbye
from p2pfusion.protocol.peer import Peer
from tests.protocol.names import NAMES, NamedKey, invitation, knocking, record
from tests.protocol.swarm import described, small_manifest, started


def declared() -> set[type]:
    return {
        kind
        for part in (e, access, beginning, flow, judging, lacking, results)
        for _, kind in inspect.getmembers(part, inspect.isclass)
        if kind.__module__ == part.__name__ and dataclasses.is_dataclass(kind)
    }


def test_everything_declared_is_an_event_or_an_effect() -> None:
    events, effects = set(typing.get_args(e.Event)), set(typing.get_args(e.Effect))
    assert not events & effects
    assert events | effects == declared()
    for kind in declared():
        with pytest.raises(AttributeError):  # frozen, or without room for it
            made = object.__new__(kind)
            made.anything = 1  # type: ignore[attr-defined]


EVENTS: list[e.Event] = [
    e.Received("p1", Goodbye()),
    e.Misbehaved("p1", "noise"),
    e.Caught("p1", "values", "noise"),
    e.Pardon("p1"),
    e.Hashed(0, (("p1", bytes(32)),)),
    e.Came(e.StreamKey("contribution", 0, "p1", "p0"), bytes(32)),
    e.Tick(),
    flow.Arriving("p1"),
    e.Expect(small_manifest()),
    access.JoinBy(Way("127.0.0.1", 9)),
    access.JoinBy(Way("127.0.0.1", 9, "p1", bytes(32), "", "one", bytes(16))),
    access.Introduced("127.0.0.1", 9, "p1", bytes(32)),
    *(access.KnockFailed("127.0.0.1", 9, reason) for reason in KNOCK_FAILURES),
    access.Invited(invitation()),
    access.Decided("p1", True),
    e.TrainingFinished(0, 1, 1.0, 1.0, 1.0),
    e.TrainingFailed(0, "no reason"),
    e.Announced(b"something"),
    e.Moved(0, 1.0),
    e.ExportRequested(1),
    e.FoundLacking(0, (), ()),
    e.HasCheckpoint(5),
    e.BadCheckpoint(),
    e.Stopping(),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_a_peer_without_a_swarm_takes_any_event(event: e.Event) -> None:
    peer = Peer(record("p0"), NamedKey("p0"), NAMES)
    known = set(typing.get_args(e.Effect))
    for instant in (0.0, 1.0):
        for effect in peer.handle(event, instant):
            assert type(effect) in known
        assert peer.deadline() >= 0.0


def test_a_run_uses_every_event_and_effect_of_the_table() -> None:
    """What no scenario of ours ever produces would be untested."""
    swarm = started(3, rounds=16, fusion="median", second_opinions=True)
    swarm.hosts["p1"].training_s = 12.0
    swarm.add("p7")
    swarm.event("p0", access.Invited(invitation()))
    swarm.join_address("p7", by="p0")
    swarm.at(1.2, lambda: swarm.event("p0", access.Revoke("p7", "a test")))
    stranger = e.Received("guest 0", knocking(record("x"), version=0))
    swarm.at(1.3, lambda: swarm.event("p0", stranger))
    swarm.at(1.5, lambda: swarm.event("p0", e.ExportRequested(1)))
    swarm.at(1.6, lambda: swarm.event("p0", e.Misbehaved("p2", "noise")))
    swarm.at(2.5, lambda: swarm.kill("p2"))
    swarm.run(lambda: swarm.hosts["p1"].peer.standing is Standing.DONE)
    everything = tuple(
        version > 0 for version in swarm.hosts["p1"].plans[16].homes.version
    )
    for name in ("p0", "p1"):
        swarm.hosts[name].absent_here = b"\xff"
    nothing = tuple(mask.astype("int32") for mask in everything)
    swarm.event("p1", e.FoundLacking(16, everything, nothing))
    swarm.run_to(swarm.now + 3.0)
    seen = {kind for log in (swarm.log, _beginnings()) for kind in _kinds(log)}
    effects = {kind.__name__ for kind in typing.get_args(e.Effect)}
    assert effects <= seen
    assert described(e.Found(small_manifest())).startswith("Found ")


def _kinds(log: list[str]) -> set[str]:
    return {line.split()[3].split("(")[0] for line in log}


def _beginnings() -> list[str]:
    """One gets the checkpoint from the founder, and one that comes later cannot."""
    file = b"what the swarm begins with"
    swarm = started(2, checkpoint=file)
    swarm.run(lambda: swarm.hosts["p1"].checkpoint == file)
    for name in ("p0", "p1"):
        swarm.hosts[name].checkpoint = file[::-1]
    swarm.add("p2")
    swarm.join("p2", by="p0")
    swarm.run(lambda: swarm.hosts["p2"].is_lost)
    return swarm.log
