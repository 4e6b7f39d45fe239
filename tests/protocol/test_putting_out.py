"""Whole swarms in virtual time: who is put out, and what its words are worth then."""

from __future__ import annotations

import hashlib
import random

import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.access import Revoke
from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.door import REMINDER_INTERVAL_S
from p2pfusion.protocol.messages import (
    Facts,
    Goodbye,
    Message,
    Offer,
    Ping,
    SignedOffer,
)
from p2pfusion.security import ED25519, DeviceKey
from p2pfusion.split.plan import ExchangePlan, Hop
from tests.protocol.names import (
    greeting,
    knocking,
    membership,
    offered,
    record,
)
from tests.protocol.swarm import Swarm, small_manifest, started
from tests.protocol.test_access import founded, invited, is_in, newcomer, why
from tests.protocol.test_exchange import request
from tests.protocol.test_peer import sealed_rounds


def put_out(victim: str = "p2", *, at: float = 2.5, count: int = 4) -> Swarm:
    """A swarm in which p0 puts a member out, and the news has reached everybody."""
    swarm = started(count, rounds=12)
    swarm.run_to(at)
    swarm.event("p0", Revoke(victim, "sold"))
    swarm.run_to(at + 0.02)
    return swarm


def sources(plan: ExchangePlan, name: str) -> set[str]:
    """Who trains or averages something in this round that this peer gets."""
    hops = (Hop.CONTRIBUTION, Hop.FUSED)
    return {source for hop in hops for source in plan.sources(hop, name)}


@pytest.mark.parametrize("at", [0.5, 2.041, 2.5, 3.7])
def test_who_is_put_out_is_out_at_once_and_of_the_plans_from_the_stated_epoch(
    at: float,
) -> None:
    swarm = put_out(at=at)
    others = ["p0", "p1", "p3"]
    (report,) = swarm.hosts["p2"].reported("revoked")
    assert report.details == {"peer": "p2", "by": "p0", "reason": "sold"}
    for name in others:
        host = swarm.hosts[name]
        assert "p2" in host.barred and not host.peer.gossip.is_member("p2")
        assert len(host.reported("revoked")) == 1
    epoch = swarm.hosts["p0"].peer.gossip.facts.revoked["p2"].epoch
    swarm.run(lambda: all(swarm.hosts[n].peer.standing == "done" for n in others))
    last = [swarm.hosts[name].plans[2 * epoch - 1] for name in others]
    planned = zip(last, others, strict=True)
    assert any("p2" in sources(plan, name) for plan, name in planned)
    for name in others:
        host = swarm.hosts[name]
        assert sealed_rounds(swarm, name) == list(range(12))
        for number, plan in host.plans.items():
            if number >= 2 * epoch:
                assert "p2" not in sources(plan, name), number
        for details in host.sealed:
            assert details["seconds"] < 1.5, "nobody waits for it"
            if details["round"] > at:
                assert details["contributors"] == others
            if details["round"] >= 2 * epoch:
                assert details["missing"] == []


def test_the_others_make_the_same_plans_before_and_after() -> None:
    swarm = put_out()
    others = ["p0", "p1", "p3"]
    swarm.run(lambda: all(swarm.hosts[n].peer.standing == "done" for n in others))
    plans = [{n: p.digest for n, p in swarm.hosts[o].plans.items()} for o in others]
    assert plans[0] == plans[1] == plans[2]
    assert not any(swarm.hosts[name].reported("catching-up") for name in others)


def test_who_was_put_out_and_keeps_sending_changes_nothing() -> None:
    """Even if its messages came through the closed door."""
    quiet, swarm = put_out(), put_out()
    quiet.kill("p2")
    its_id, others = swarm.manifest.swarm_id, ["p0", "p1", "p3"]

    def noise(number: int) -> list[Message]:
        offer = Offer(number, bytes(16), 5, 1.0, 1.0, 1.0)
        renewed = membership(record("p2", port=3, incarnation=9), its_id)
        return [
            Ping(number, 11, bytes(16)),
            offered("p2", its_id, offer, sequence=1_000 + number),
            greeting(renewed, its_id),
            knocking(record("p2", port=3)),
            request(swarm, pull=5_000 + number),
            Facts((membership(record("p9"), its_id, by="p2"),)),
            Goodbye(),
        ]

    for number in range(6):
        for name in others:
            for message in noise(number):
                swarm.event(name, e.Received("p2", message))
        swarm.run_to(swarm.now + 0.7)
    for each in (quiet, swarm):
        each.kill("p2")
        each.run(lambda s=each: all(s.hosts[n].peer.standing == "done" for n in others))
    for name in others:
        host, same = swarm.hosts[name], quiet.hosts[name]
        assert host.plans.keys() == same.plans.keys()
        for number, plan in same.plans.items():
            assert host.plans[number].digest == plan.digest
        assert [d["contributors"] for d in host.sealed] == [
            d["contributors"] for d in same.sealed
        ]
        assert "p2" not in host.peer.gossip.detector.contacts
        assert "p9" not in host.peer.gossip.facts.records


def test_who_was_put_out_while_it_was_away_does_not_come_back() -> None:
    swarm = started(3, rounds=12)
    swarm.run_to(2.5)
    swarm.kill("p2")
    swarm.event("p0", Revoke("p2", ""))
    swarm.run_to(4.0)
    # Nor do the others forget it when they start again.
    for name in ("p0", "p1"):
        swarm.kill(name)
        swarm.restart(name)
        assert swarm.hosts[name].barred == {"p2"}
    swarm.restart("p2")
    swarm.run(lambda: bool(swarm.hosts["p2"].reported("revoked")))
    assert swarm.now < 4.0 + REMINDER_INTERVAL_S + 1, "it cannot ask, but it is told"
    swarm.run(lambda: swarm.hosts["p0"].peer.standing is Standing.DONE)
    assert not swarm.hosts["p0"].peer.gossip.is_member("p2")
    swarm.restart_empty("p2")
    swarm.join("p2", "p0", invited(swarm))
    swarm.run_to(swarm.now + 3.0)
    assert why(swarm, "p2") == "this peer has been put out"


def test_an_admin_is_put_out_with_those_that_it_has_admitted() -> None:
    swarm = founded("ticket", rounds=20, min_peers=1)
    newcomer(swarm, "p1", "p0", invited(swarm, role="admin"))
    swarm.run(lambda: swarm.hosts["p1"].peer.door.is_admin)
    newcomer(swarm, "p2", "p1", invited(swarm, by="p1"))
    newcomer(swarm, "p3", "p0", invited(swarm))
    swarm.run(lambda: is_in(swarm, "p2") and is_in(swarm, "p3"))
    swarm.run_to(swarm.now + 1.5)
    assert swarm.hosts["p0"].peer.door.would_put_out("p1") == ["p1", "p2"]
    swarm.event("p0", Revoke("p1", "lost"))
    swarm.run_to(swarm.now + 0.02)
    for name in ("p1", "p2"):
        assert not is_in(swarm, name)
        details = [r.details for r in swarm.hosts[name].reported("revoked")]
        assert {"peer": name, "by": "p0", "reason": "lost"} in details
        swarm.kill(name)
    swarm.run_until_done()
    assert swarm.hosts["p3"].sealed[-1]["contributors"] == ["p0", "p3"]


@pytest.mark.parametrize("ended", [True, False])
def test_whom_a_revoked_admin_has_put_out_is_back(ended: bool) -> None:
    """Its word is void, also what it has said before."""
    swarm = founded("ticket", rounds=30, min_peers=3)
    newcomer(swarm, "p1", "p0", invited(swarm, role="admin"))
    newcomer(swarm, "p2", "p0", invited(swarm))
    swarm.run_to(2.5)
    swarm.event("p1", Revoke("p2", "a quarrel"))
    swarm.run_to(8.0)
    assert not is_in(swarm, "p2")
    assert len(swarm.hosts["p2"].sealed) == 2, "it went nowhere without the others"
    swarm.event("p0", Revoke("p1", "the quarrel"))
    swarm.run_to(9.0)
    assert swarm.hosts["p0"].barred == {"p1"}
    assert swarm.hosts["p0"].peer.gossip.is_member("p2")
    swarm.kill("p1")
    if ended:
        # Its disk would tell it that it is out: it asks again without.
        swarm.kill("p2")
        swarm.restart_empty("p2")
        swarm.join("p2", "p0", invited(swarm))
    swarm.run_until_done()
    assert swarm.hosts["p0"].sealed[-1]["contributors"] == ["p0", "p2"]


# --- Once more -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_statements_that_somebody_repeats_change_nothing(seed: int) -> None:
    """Every offer and every fact comes again, later, from the same sender."""
    chance = random.Random(seed)
    plain, swarm = started(4, rounds=10), started(4, rounds=10)
    heard: list[tuple[str, e.Received]] = []
    repeated: list[Message] = []

    def note(name: str, what: e.Event | e.Effect, mark: str) -> None:
        is_new = isinstance(what, e.Received) and what.message not in repeated
        if is_new and isinstance(what.message, SignedOffer | Facts):
            heard.append((name, what))

    swarm.watch = note
    plain.run_to(2.5)
    swarm.run_to(2.5)
    while swarm.now < 8.0:
        swarm.run_to(swarm.now + 0.1)
        for name, received in chance.sample(heard, min(len(heard), 30)):
            repeated.append(received.message)
            swarm.event(name, received)
    for each in (plain, swarm):
        each.run_until_done()
    for name, host in swarm.hosts.items():
        assert host.sealed == plain.hosts[name].sealed
        assert not host.reported("protocol-error")


# --- Real keys -----------------------------------------------------------------------


def device(name: str) -> DeviceKey:
    return DeviceKey.from_seed(hashlib.sha256(name.encode()).digest())


def test_with_real_keys_peers_join_train_and_are_put_out() -> None:
    founder = device("p0")
    manifest = small_manifest(
        admission="ticket", rounds=8, min_peers=4, founder=founder.public.hex()
    )
    swarm = Swarm(manifest, device, ED25519)
    p0, p1, p2, p3 = (swarm.add(name).name for name in ("p0", "p1", "p2", "p3"))
    assert p0 == founder.peer
    swarm.found(p0)
    swarm.join(p1, p0, invited(swarm, by=p0, role="admin"))
    swarm.run(lambda: is_in(swarm, p1) and swarm.hosts[p1].peer.door.is_admin)
    invite = invited(swarm, by=p1, uses=2)
    for name in (p2, p3):
        swarm.join(name, p1, invite)
    swarm.run_to(3.5)
    for host in swarm.hosts.values():
        everybody = sorted([p0, p1, p2, p3])
        assert host.sealed[0]["contributors"] == everybody
    swarm.event(p1, Revoke(p3, "lost"))
    swarm.run_to(3.6)
    (report,) = swarm.hosts[p3].reported("revoked")
    assert report.details == {"peer": p3, "by": p1, "reason": "lost"}
    swarm.kill(p3)
    swarm.kill(p2)
    swarm.restart(p2)
    swarm.run_until_done()
    for name in (p0, p1, p2):
        host = swarm.hosts[name]
        assert sealed_rounds(swarm, name) == list(range(8))
        assert host.sealed[-1]["contributors"] == sorted([p0, p1, p2])
        assert not host.reported("protocol-error")
