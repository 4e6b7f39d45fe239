"""The door's two sides: every event is taken, every effect is a known value."""

from __future__ import annotations

import dataclasses
import inspect
import typing

import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import Goodbye, PeerRecord
from p2pfusion.protocol.peer import Peer
from tests.protocol.swarm import described, small_manifest, started

RECORD = PeerRecord("p0", "p0", "127.0.0.1", 1, 2, "1/2", 1, 0, -1)
VALUES = {e.StreamKey}


def declared() -> set[type]:
    return {
        kind
        for _, kind in inspect.getmembers(e, inspect.isclass)
        if kind.__module__ == e.__name__ and dataclasses.is_dataclass(kind)
    }


def test_everything_declared_is_an_event_or_an_effect() -> None:
    events, effects = set(typing.get_args(e.Event)), set(typing.get_args(e.Effect))
    assert not events & effects
    assert events | effects | VALUES == declared()
    for kind in declared():
        with pytest.raises(dataclasses.FrozenInstanceError):
            made = object.__new__(kind)
            made.anything = 1  # type: ignore[attr-defined]


EVENTS: list[e.Event] = [
    e.Received("p1", Goodbye()),
    e.Misbehaved("p1", "noise"),
    e.Tick(),
    e.JoinAddress("127.0.0.1", 9),
    e.Expect(small_manifest()),
    e.TrainingFinished(0, 1, 1.0, 1.0, 1.0),
    e.TrainingFailed(0, "no reason"),
    e.ExportRequested(1),
    e.Stopping(),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_a_peer_without_a_swarm_takes_any_event(event: e.Event) -> None:
    peer = Peer(RECORD)
    known = set(typing.get_args(e.Effect))
    for instant in (0.0, 1.0):
        for effect in peer.handle(event, instant):
            assert type(effect) in known
        assert peer.deadline() >= 0.0


def test_a_run_uses_every_event_and_effect_of_the_table() -> None:
    """What no scenario of ours ever produces would be untested."""
    swarm = started(3, rounds=4)
    swarm.at(1.5, lambda: swarm.event("p0", e.ExportRequested(1)))
    swarm.at(1.6, lambda: swarm.event("p0", e.Misbehaved("p2", "noise")))
    swarm.at(2.5, lambda: swarm.kill("p2"))
    swarm.run_until_done()
    seen = {line.split()[3].split("(")[0] for line in swarm.log}
    effects = {kind.__name__ for kind in typing.get_args(e.Effect)}
    assert effects <= seen
    assert described(e.Found(small_manifest())).startswith("Found ")
