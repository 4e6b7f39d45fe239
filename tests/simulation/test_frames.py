"""What shares a frame on its way, and what goes by itself."""

from __future__ import annotations

from collections import Counter

import pytest

from p2pfusion.limits import MAX_TOGETHER
from p2pfusion.protocol.messages import Chunk, Credit, Message, StreamStart
from p2pfusion.simulation.carrier import Envelope
from p2pfusion.simulation.machine import Life
from p2pfusion.simulation.run import Setting, populate
from p2pfusion.simulation.world import World

ROUGH = {"loss": 0.01, "duplicates": 0.01, "in_order": False}


def frames(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> list[list[Message]]:
    """What arrives together in a few rounds, on links that are changed so."""
    found: list[list[Message]] = []
    deliver = World.deliver

    def noted(world: World, life: Life, sender: str, frame: Envelope) -> None:
        found.append([message for _, message in frame.messages])
        deliver(world, life, sender, frame)

    monkeypatch.setattr(World, "deliver", noted)
    world = World(Setting(peers=4, rounds=4, faults="none").manifest())
    populate(world, Setting(peers=4, rounds=4, faults="none"))
    names = list(world.machines)
    world.network.change([(a, b) for a in names for b in names], **changes)
    world.run(30.0)
    assert max(machine.sealed for machine in world.machines.values()) > 1
    assert world.checks.violations == []
    return found


def kinds(found: list[list[Message]]) -> Counter[str]:
    return Counter("+".join(type(m).__name__ for m in frame) for frame in found)


def test_what_is_said_at_once_shares_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = kinds(frames(monkeypatch, {}))
    assert seen["StreamStart+Chunk"] and seen["Request+Request"]
    assert not seen["Chunk"] and not seen["StreamStart"]


def test_a_head_is_of_the_stream_of_its_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [frame for frame in frames(monkeypatch, {}) if len(frame) > 1]
    streams = [frame for frame in found if isinstance(frame[0], StreamStart)]
    assert streams
    for head, chunk in streams:
        assert isinstance(head, StreamStart) and isinstance(chunk, Chunk)
        assert (head.pull, chunk.offset) == (chunk.pull, 0)


def test_a_greeting_goes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = kinds(frames(monkeypatch, {}))
    assert seen["Hello"]
    assert not [kind for kind in seen if "Hello" in kind and kind != "Hello"]


@pytest.mark.parametrize("changes", [ROUGH, {"bytes_per_s": 1e6}])
def test_where_not_all_arrives_in_order_everything_goes_by_itself(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    found = frames(monkeypatch, changes)
    assert found and all(len(frame) == 1 for frame in found)


def test_a_frame_has_room_for_so_many() -> None:
    setting = Setting(peers=2, rounds=2, faults="none")
    world = World(setting.manifest())
    populate(world, setting)
    world.run(2.0)
    life = world.machines["p0"].life
    assert life is not None
    sent: list[Envelope] = []

    def kept(instant: float, action: object, what: object) -> None:
        assert isinstance(what, Envelope)
        sent.append(what)

    world.at = kept  # type: ignore[method-assign]
    world.carrier.close()
    for number in range(MAX_TOGETHER + 3):
        world.carrier.post(life, "p1", Credit(number, 1))
    world.carrier.close()
    world.carrier.post(life, "p1", Credit(99, 1))
    assert [len(frame.messages) for frame in sent] == [MAX_TOGETHER, 3, 1]


def test_what_is_passed_on_shares_no_frame_with_what_the_relay_is_told() -> None:
    setting = Setting(peers=3, rounds=2, faults="none")
    world = World(setting.manifest())
    populate(world, setting)
    world.run(2.0)
    for name in ("p1", "p2"):
        world.machines[name].is_outward = True
    life = world.machines["p1"].life
    assert life is not None
    life.relays["p2"] = "p0"
    told: list[tuple[str, int]] = []

    def taken(life: Life, sender: str, frame: Envelope) -> None:
        told.extend((life.name, number) for number, _ in frame.messages)

    world.deliver = taken  # type: ignore[method-assign]
    world.carrier.close()
    for peer in ("p0", "p2", "p0", "p2"):
        world.carrier.post(life, peer, Credit(1, 1))
    last = world.carrier.posted
    world.run(2.1)
    mine = [(name, number) for name, number in told if last - 4 < number <= last]
    assert sorted(mine) == [
        ("p0", last - 3),
        ("p0", last - 1),
        ("p2", last - 2),
        ("p2", last),
    ]
