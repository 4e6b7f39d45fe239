"""Liars in simulated swarms: they are caught, and no honest peer ever is."""

from __future__ import annotations

import dataclasses

import pytest

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import SignedOffer
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.statements import author, read_offer, sign_offer
from p2pfusion.simulation.checkers import Violation
from p2pfusion.simulation.run import Setting, simulate
from p2pfusion.simulation.world import World
from tests.simulation.broken import broken

LIAR = "p1"
CALM = Setting(peers=5, rounds=10, faults="none")
WRONGLY = "wrongly convicted"
"""What the simulator says of every quarantine, because all its peers are honest."""

OUT = ("accused", "not back")
"""What it says of a peer that is put out of the roster without being silent."""


def two_faced(peer: Peer, effects: list[e.Effect]) -> list[e.Effect]:
    """Tells every second peer of another norm, signed as well."""
    return [_said_otherwise(peer, at, effect) for at, effect in enumerate(effects)]


def _said_otherwise(peer: Peer, at: int, effect: e.Effect) -> e.Effect:
    if not isinstance(effect, e.Send) or not isinstance(effect.message, SignedOffer):
        return effect
    gossip, message = peer.gossip, effect.message
    if author(message.statement) != gossip.record.key or at % 2:
        return effect
    said = read_offer(
        message.statement, gossip.scheme, swarm=gossip.swarm_id, key=gossip.record.key
    )
    offer = dataclasses.replace(said.offer, norm=said.offer.norm + 1.0)
    lie = sign_offer(
        gossip.swarm_id, dataclasses.replace(said, offer=offer), 0, gossip.signer
    )
    return e.Send(effect.peer, SignedOffer(lie, message.proof))


def promises_another(peer: Peer, event: e.Event) -> e.Event | None:
    """Its offers name other contents than it sends."""
    if not isinstance(event, e.Hashed):
        return event
    digests = tuple((reducer, bytes(32)) for reducer, _ in event.digests)
    return e.Hashed(event.round_index, digests)


def caught(violations: list[Violation]) -> dict[str, str]:
    """By whom the liar was caught, and at what; nobody else may be."""
    found = {}
    for violation in violations:
        if violation.check == WRONGLY:
            assert f"goes on without {LIAR}: " in violation.text, violation
            found[violation.peer] = violation.text
    return found


def test_who_signs_two_offers_is_convicted_by_everybody() -> None:
    violations = simulate(CALM, make=broken(LIAR, after=two_faced)).violations
    found = caught(violations)
    assert set(found) == {"p0", "p2", "p3", "p4"}
    assert all("two different offers" in text for text in found.values())
    # It is accused, and out, although it can be heard: no honest peer ever is.
    assert {violation.check for violation in violations} <= {*OUT, WRONGLY}


def test_who_promises_another_contribution_is_caught_by_its_reducers() -> None:
    violations = simulate(CALM, make=broken(LIAR, before=promises_another)).violations
    found = caught(violations)
    assert found and all("other values" in text for text in found.values())
    assert {violation.check for violation in violations} == {WRONGLY}


@pytest.mark.parametrize("seed", range(6))
def test_random_faults_make_no_honest_peer_guilty(seed: int) -> None:
    """Crashes, restarts, partitions, loss: and one lies all the time."""
    setting = Setting(peers=5, rounds=10, seed=seed, faults="random")
    caught(simulate(setting, make=broken(LIAR, after=two_faced)).violations)


def test_what_was_held_against_a_peer_is_known_after_a_crash() -> None:
    """Also where that happens in the round in which it was caught."""

    def on_world(world: World) -> None:
        world.at(4.0, lambda _: world.kill("p2"), None)
        world.at(5.0, lambda _: world.start("p2"), None)

    outcome = simulate(
        CALM, make=broken(LIAR, before=promises_another), on_world=on_world
    )
    told = [v for v in outcome.violations if v.peer == "p2" and v.check == WRONGLY]
    assert len(told) == 2, "once when it was caught, once when it was started again"
