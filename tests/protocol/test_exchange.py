"""Requests that wait or are refused, and exports."""

from __future__ import annotations

import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import (
    TABLE,
    Message,
    Refusal,
    Request,
    StreamStart,
)
from p2pfusion.split.grid import cell_elements
from p2pfusion.split.plan import Hop
from tests.protocol.swarm import Swarm, described, started

FAR = 2**62


def running(count: int = 4, *, at: float = 3.5, **changes: object) -> Swarm:
    """A swarm in the middle of a round."""
    swarm = started(count, **changes)
    swarm.run(lambda: swarm.now >= at)
    return swarm


def tell(swarm: Swarm, victim: str, sender: str, message: Message) -> list[e.Effect]:
    """Gives a peer a message by hand; returns the effects, performed or not."""
    effects = swarm.hosts[victim].peer.handle(e.Received(sender, message), swarm.now)
    for effect in effects:
        swarm._perform(swarm.hosts[victim], effect)
    return effects


def request(swarm: Swarm, **changes: object) -> Request:
    """A well-formed request of p1 to p0 in the current round."""
    plan = swarm.hosts["p0"].plans[swarm.hosts["p0"].peer.round.number]
    values = {
        "pull": 9_999,
        "hop": "contribution",
        "round_index": plan.round_index,
        "digest": plan.digest,
        "instead_of": "",
        "offset": 0,
        "limit": 1 << 20,
        **changes,
    }
    return Request(**values)  # type: ignore[arg-type]


def refusals(effects: list[e.Effect]) -> list[str]:
    sent = [effect.message for effect in effects if isinstance(effect, e.Send)]
    return [message.reason for message in sent if isinstance(message, Refusal)]


# --- Requests ------------------------------------------------------------------------


def test_a_request_waits_until_the_values_are_ready() -> None:
    swarm = running(2)
    assert tell(swarm, "p0", "p1", request(swarm)) == []
    number = swarm.hosts["p0"].peer.round.number
    event = e.TrainingFinished(number, 10, 1.0, 1.0, 1.0)
    (asks,) = swarm.hosts["p0"].peer.handle(event, swarm.now)
    assert asks == e.HashOffer(number, ("p1",)), "what p1 gets is said with the offer"
    hashed = e.Hashed(number, (("p1", bytes(32)),))
    effects = swarm.hosts["p0"].peer.handle(hashed, swarm.now)
    heads = [x for x in effects if isinstance(x, e.SendStart) and x.pull == 9_999]
    assert [head.samples for head in heads] == [10]
    chunks = [x for x in effects if isinstance(x, e.SendChunk) and x.pull == 9_999]
    assert chunks[0].offset == 0


def test_a_request_for_a_later_round_waits_for_it() -> None:
    swarm = running(2)
    number = swarm.hosts["p0"].peer.round.number
    early = Request(7, TABLE, number + 1, bytes(16), "", 0, 1 << 20)
    assert tell(swarm, "p0", "p1", early) == []
    start = len(swarm.log)
    swarm.run(lambda: swarm.hosts["p0"].peer.round.number > number)
    assert any("SendStart(peer='p1', pull=7" in line for line in swarm.log[start:])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"digest": bytes(16)}, "plan"),
        ({"round_index": 0}, "gone"),
        ({"instead_of": "nobody", "hop": "fused"}, "plan"),
        ({"instead_of": "nobody", "hop": "home"}, "plan"),
        ({"instead_of": "p0", "hop": "fused"}, "plan"),
        ({"instead_of": "p0", "hop": "export"}, "plan"),
        ({"hop": TABLE, "offset": 1 << 30}, "plan"),
    ],
)
def test_refusals(changes: dict[str, object], reason: str) -> None:
    swarm = running(4)
    effects = tell(swarm, "p0", "p1", request(swarm, **changes))
    assert refusals(effects) == [reason]
    assert not any(isinstance(effect, e.OpenReduction) for effect in effects)


def test_who_does_not_train_says_so() -> None:
    swarm = running(2)
    number = swarm.hosts["p0"].peer.round.number
    swarm.event("p0", e.TrainingFailed(number, "no memory"))
    effects = tell(swarm, "p0", "p1", request(swarm))
    assert refusals(effects) == ["not-training"]
    swarm.run_until_done()
    (details,) = [d for d in swarm.hosts["p1"].sealed if d["round"] == number]
    assert [entry["peer"] for entry in details["missing"]] == ["p0"]


def test_one_request_too_many_is_refused_and_ended_ones_give_way() -> None:
    swarm = running(2)
    serves = swarm.hosts["p0"].peer.exchange.serves
    reasons: list[str] = []
    for pull in range(10_000, 10_070):
        waits = request(swarm, pull=pull, round_index=FAR)
        reasons += refusals(tell(swarm, "p0", "p1", waits))
    assert set(reasons) == {"busy"} and len(list(serves)) == 64
    effects = tell(swarm, "p0", "p1", request(swarm, pull=1, hop=TABLE))
    assert refusals(effects) == ["busy"]


def test_a_hundred_tables_one_after_the_other_are_served() -> None:
    swarm = running(2)
    for pull in range(10_000, 10_100):
        effects = tell(swarm, "p0", "p1", request(swarm, pull=pull, hop=TABLE))
        assert any(isinstance(effect, e.SendChunk) for effect in effects)


# --- Exports -------------------------------------------------------------------------


def export(swarm: Swarm, name: str) -> tuple[str, ...]:
    """Which homes were missing in an export by this peer."""
    host = swarm.hosts[name]
    before = len(host.assembled)
    swarm.event(name, e.ExportRequested(before, swarm.lacked_by(name)))
    swarm.run(lambda: len(host.assembled) > before)
    return host.assembled[-1].missing


def exported(swarm: Swarm, name: str) -> dict[tuple[str, str], int]:
    """Bytes that came in exports, by source and silent home."""
    host = swarm.hosts[name]
    return {
        (stream.source, stream.instead_of): swarm._size(host, stream)[0]
        for streams in host.received.values()
        for stream in streams
        if stream.hop == Hop.EXPORT
    }


def test_an_export_gets_everything_that_lives_elsewhere() -> None:
    swarm = started(4)
    swarm.run_until_done()
    assert export(swarm, "p1") == ()
    plan = swarm.hosts["p1"].plans[6]
    homes = plan.homes
    layout = swarm.manifest.layout
    for name in ("p0", "p2", "p3"):
        lives = sum(s.size for s in homes.segments(layout, home=name)) * 4
        assert exported(swarm, "p1").get((name, ""), 0) == lives
    assert homes.ever_trained_fraction(layout) > 0.9


def test_an_export_of_one_alone_and_of_one_without_a_swarm() -> None:
    swarm = started(1)
    swarm.run_until_done()
    assert export(swarm, "p0") == ()
    swarm.add("p5")
    assert export(swarm, "p5") == ()


def fully_copied(swarm: Swarm, silent: str, reader: str) -> bool:
    """The slow obvious version: every cell homed there has a copy elsewhere."""
    host = swarm.hosts[reader]
    homes = host.plans[max(host.plans)].homes
    at = homes.position(silent)
    for home, newest in zip(homes.home, homes.newest, strict=True):
        others = [p for p in range(len(homes.peers)) if p != at]
        if not newest[others].any(axis=0)[home == at].all():
            return False
    return True


@pytest.mark.parametrize("silent", ["p0", "p2"])
@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("fraction", ["1/2", "1"])
def test_what_lived_at_a_silent_home_comes_from_copies(
    silent: str, count: int, fraction: str
) -> None:
    swarm = started(count, fraction=fraction, replication=1)
    swarm.run_until_done()
    assert fully_copied(swarm, silent, "p1") is (fraction == "1")
    expected = () if fully_copied(swarm, silent, "p1") else (silent,)
    swarm.kill(silent)
    swarm.run(lambda: bool(swarm.hosts["p1"].reported("peer-silent")))
    assert export(swarm, "p1") == expected
    got = exported(swarm, "p1")
    assert (silent, "") not in got
    homes, layout = swarm.hosts["p1"].plans[6].homes, swarm.manifest.layout
    elsewhere = 0
    for index, lacked in enumerate(swarm.lacked_by("p1")):
        copied = homes.copies(index, [p for p in swarm.hosts if p != silent]).any(
            axis=0
        )
        mask = lacked & copied & (homes.home[index] == homes.position(silent))
        elsewhere += int(cell_elements(layout, layout.signatures[index])[mask].sum())
    came = (size for (_, home), size in got.items() if home == silent)
    assert sum(came) == 4 * elsewhere


@pytest.mark.parametrize("fraction", ["1/2", "1"])
def test_a_home_that_dies_during_an_export_is_replaced_by_copies(fraction: str) -> None:
    swarm = started(4, fraction=fraction, replication=1)
    swarm.run_until_done()
    host = swarm.hosts["p1"]
    swarm.cut = lambda a, b, m: a == "p0" and isinstance(m, StreamStart)
    assert host.plans[6].sources(Hop.EXPORT, "p1")[0] == "p0"
    homes = host.plans[6].homes
    everything = tuple(home != homes.position("p1") for home in homes.home)
    swarm.event("p1", e.ExportRequested(5, everything))
    swarm.kill("p0")
    swarm.run(lambda: bool(host.assembled))
    expected = () if fraction == "1" else ("p0",)
    assert host.assembled == [e.Assembled(5, expected)]
    if fraction == "1":
        assert any(instead_of == "p0" for _, instead_of in exported(swarm, "p1"))


@pytest.mark.parametrize("silent", ["p0", "p2"])
def test_with_two_copies_nothing_is_missing_without_one_home(silent: str) -> None:
    swarm = started(4, fraction="1/4")
    swarm.run_until_done()
    assert fully_copied(swarm, silent, "p1")
    swarm.kill(silent)
    swarm.run(lambda: bool(swarm.hosts["p1"].reported("peer-silent")))
    assert export(swarm, "p1") == ()


def test_copies_that_only_the_reader_has_are_not_missing() -> None:
    """Two peers that train everything: each has all that lives at the other."""
    swarm = started(2, fraction="1")
    swarm.run_until_done()
    swarm.kill("p0")
    swarm.run(lambda: bool(swarm.hosts["p1"].reported("peer-silent")))
    assert export(swarm, "p1") == ()
    assert exported(swarm, "p1") == {}


def test_an_export_ends_although_the_rounds_go_on() -> None:
    swarm = running(3, rounds=12)
    swarm.cut = lambda a, b, m: a == "p0" and isinstance(m, StreamStart) and b == "p1"
    swarm.event("p1", e.ExportRequested(1, swarm.lacked_by("p1")))
    host = swarm.hosts["p1"]
    swarm.run(lambda: bool(host.assembled))
    assert "p0" in host.assembled[0].missing
    assert not host.peer.exchange.exports._exports


def test_one_that_no_plan_counts_gets_everything_from_others() -> None:
    swarm = started(2, rounds=4)
    swarm.run_until_done()
    swarm.add("p7")
    swarm.join("p7", by="p0")
    swarm.run(lambda: swarm.hosts["p7"].peer.standing.value == "done")
    homes, layout = swarm.hosts["p7"].plans[4].homes, swarm.manifest.layout
    assert homes.position("p7") is None
    assert export(swarm, "p7") == ()
    trained = homes.ever_trained_fraction(layout) * layout.size
    assert sum(exported(swarm, "p7").values()) == 4 * round(trained) > 0


def test_effects_are_described_in_one_line() -> None:
    swarm = running(2)
    assert all("\n" not in line and "array(" not in line for line in swarm.log)
    assert described(e.Tick()) == "Tick()"
