"""Evidence: what is proof, what is none, and what a swarm makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol import events as e
from p2pfusion.protocol.evidence import FOR_GOOD, contradict, evidence_of
from p2pfusion.protocol.messages import Evidence, Facts, Offer, Signed, SignedOffer
from p2pfusion.protocol.statements import (
    OfferFact,
    author,
    read_accusation,
    sign_offer,
)
from tests.protocol.family import CHAINS, SWARM, accused, everybody, merged, start
from tests.protocol.lying import lies
from tests.protocol.names import NAMES, NamedKey
from tests.protocol.swarm import Swarm, started
from tests.protocol.test_exchange import running

FIRST = Offer(4, bytes(16), 100, 1.0, 0.5, 1.0, contents=b"a" * 16)
OTHER = replace(FIRST, contents=b"b" * 16)


def signed(
    offer: Offer, by: str = "m", swarm: str = SWARM, **changes: object
) -> Signed:
    said = OfferFact(1, 1, offer, b"session.")
    return sign_offer(swarm, replace(said, **changes), 0, NamedKey(by))  # type: ignore[arg-type]


PROOF = evidence_of(signed(FIRST), signed(OTHER))


# --- What is proof -------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"contents": b"b" * 16},
        {"samples": 1},
        {"digest": b"b" * 16},
        {"base_round": 3},
        {"norm": 2.0},
    ],
)
def test_two_different_offers_of_one_life_contradict_each_other(
    changes: dict[str, object],
) -> None:
    one, other = OfferFact(1, 1, FIRST), OfferFact(1, 2, replace(FIRST, **changes))  # type: ignore[arg-type]
    assert contradict(one, other)
    assert contradict(other, one)


@pytest.mark.parametrize(
    "other",
    [
        OfferFact(1, 9, FIRST),
        OfferFact(2, 1, OTHER),
        OfferFact(1, 1, OTHER, b"another."),
        OfferFact(1, 1, replace(OTHER, round_index=5)),
        OfferFact(1, 1, replace(FIRST, samples=0)),
    ],
    ids=["repeated", "restarted", "a copied home", "another round", "nothing to give"],
)
def test_what_honest_peers_do_contradicts_nothing(other: OfferFact) -> None:
    one = OfferFact(1, 1, FIRST)
    assert not contradict(one, other)
    assert not contradict(other, one)


VOID: dict[str, Callable[[], Evidence]] = {
    "one offer twice": lambda: Evidence(PROOF.first, PROOF.first),
    "of two peers": lambda: evidence_of(signed(FIRST), signed(OTHER, by="b")),
    "of two lives": lambda: evidence_of(signed(FIRST), signed(OTHER, incarnation=2)),
    "of another swarm": lambda: evidence_of(
        signed(FIRST, swarm="another"), signed(OTHER, swarm="another")
    ),
    "the wrong way round": lambda: Evidence(PROOF.second, PROOF.first),
    "with a forged signature": lambda: Evidence(
        PROOF.first, replace(PROOF.second, signature=bytes(64))
    ),
    "of what is no offer": lambda: Evidence(
        *(Signed(NamedKey("m").public + text, bytes(64)) for text in (b"a", b"b"))
    ),
}


@pytest.mark.parametrize("name", VOID)
def test_what_proves_nothing_is_refused_and_held_against_its_sender(name: str) -> None:
    facts = merged([everybody()])
    before = facts.digest
    with pytest.raises(RemoteProtocolError, match="proves nothing") as caught:
        facts.merge(Facts(evidence=(VOID[name](),)))
    assert caught.value.offence == "evidence"
    assert facts.digest == before and not facts.convicted


def test_evidence_about_somebody_unknown_is_passed_over() -> None:
    facts = merged([everybody()])
    nobody = evidence_of(signed(FIRST, by="stranger"), signed(OTHER, by="stranger"))
    assert facts.merge(Facts(evidence=(nobody,))) == Facts()


def test_of_several_about_one_peer_one_counts_whatever_came_first() -> None:
    third = signed(replace(FIRST, contents=b"c" * 16))
    several = [
        Facts(evidence=(evidence_of(one, third),))
        for one in (PROOF.first, PROOF.second)
    ]
    several.append(Facts(evidence=(PROOF,)))
    one, other = (merged([everybody(), *said]) for said in (several, several[::-1]))
    assert one.all() == other.all() and one.digest == other.digest
    assert len(one.all().evidence) == 1 and set(one.convicted) == {"m"}


# --- What a swarm makes of it --------------------------------------------------------


def honest(swarm: Swarm, liar: str) -> list[str]:
    return [name for name in swarm.hosts if name != liar]


@pytest.mark.parametrize("count", [3, 5, 8])
def test_who_tells_two_peers_two_things_is_convicted_by_all(count: int) -> None:
    """Within the round; rounds go on, and it is out of the roster two epochs later."""
    swarm = running(count, at=3.5, rounds=14, rounds_per_epoch=2)
    liar, number = f"p{count - 1}", swarm.hosts["p0"].peer.round.number
    epoch = swarm.manifest.epoch(number)
    lies(swarm, liar, {"p0": b"one", "p1": b"another"}, number)
    others = honest(swarm, liar)
    swarm.run_to(swarm.now + 0.5)
    for name in others:
        gossip = swarm.hosts[name].peer.gossip
        assert set(gossip.facts.convicted) == {liar}
        assert gossip.quarantine.peers == {liar}
        (report,) = swarm.hosts[name].reported("quarantined")
        assert "two different offers" in str(report.details["why"])
    swarm.run(lambda: all(len(swarm.hosts[n].sealed) == 14 for n in others))
    for name in others:
        host = swarm.hosts[name]
        facts = host.peer.gossip.facts
        assert epoch < facts.evicted[liar] <= epoch + 3
        members = {member.peer for member in facts.roster(epoch + 4)}
        assert members == set(others), "it does not come back"
        assert set(facts.convicted) == {liar}, "nobody else is convicted"
        after = [d for d in host.sealed if d["round"] > number]
        assert all(liar not in d["contributors"] for d in after)
        assert all(not d["stale_ranges"] for d in host.sealed)


def test_one_that_is_shown_another_offer_than_its_own_convicts() -> None:
    """Only one was told something else, and knows only what the others show it."""
    swarm = running(4, at=3.5, rounds=10)
    number = swarm.hosts["p0"].peer.round.number
    lies(swarm, "p3", {"p2": b"for p2 alone"}, number)
    swarm.run(lambda: swarm.hosts["p0"].peer.round.number > number + 1)
    for name in ("p0", "p1", "p2"):
        assert set(swarm.hosts[name].peer.gossip.facts.convicted) == {"p3"}


def test_evidence_is_known_after_a_restart() -> None:
    swarm = running(4, at=3.5, rounds=10)
    lies(swarm, "p3", {"p0": b"a", "p1": b"b"}, swarm.hosts["p0"].peer.round.number)
    swarm.run_to(swarm.now + 0.5)
    swarm.kill("p1")
    swarm.restart("p1")
    swarm.run_to(swarm.now + 0.5)
    assert swarm.hosts["p1"].peer.gossip.quarantine.peers == {"p3"}


def test_a_newcomer_learns_it_with_the_facts() -> None:
    swarm = running(4, at=3.5, rounds=20)
    lies(swarm, "p3", {"p0": b"a", "p1": b"b"}, swarm.hosts["p0"].peer.round.number)
    swarm.run_to(swarm.now + 0.5)
    swarm.add("p4")
    swarm.join("p4", by="p0")
    swarm.run_to(swarm.now + 1.0)
    assert swarm.hosts["p4"].peer.gossip.quarantine.peers == {"p3"}


def test_accusations_for_good_count_against_nobody_who_is_not_convicted() -> None:
    """Without evidence they say that a record is accused that nobody has seen."""
    facts = merged([everybody(), Facts(start=start(*CHAINS))])
    facts.merge(accused("m", "p0", "a", "b", "c", "d", age=FOR_GOOD, epoch=2))
    assert facts.accusers("m") == {} and not facts.evicted
    facts.merge(Facts(evidence=(PROOF,)))
    assert len(facts.accusers("m")) == 5


def test_the_convicted_is_accused_once_by_each_that_observes_it() -> None:
    swarm = running(4, at=3.5, rounds=14)
    lies(swarm, "p3", {"p0": b"a", "p1": b"b"}, swarm.hosts["p0"].peer.round.number)
    swarm.run_to(swarm.now + 5)
    said = swarm.hosts["p0"].peer.gossip.facts.all().accusations
    swarm_id = swarm.manifest.swarm_id
    found = [read_accusation(each, NAMES, swarm=swarm_id) for each in said]
    by = [fact.by for fact in found]
    assert len(by) == len(set(by)) >= 2, "two of three are most, and so enough"
    assert {(fact.peer, fact.age) for fact in found} == {("p3", FOR_GOOD)}


def test_a_whole_run_without_liars_convicts_nobody() -> None:
    """Also where one is started again in the middle of a round, and offers anew."""
    swarm = started(4, rounds=10)
    swarm.run_to(3.2)
    swarm.kill("p2")
    swarm.run_to(3.4)
    swarm.restart("p2")
    swarm.run_until_done()
    for host in swarm.hosts.values():
        assert not host.peer.gossip.quarantine.peers
        assert not host.reported("protocol-error")


def test_an_offer_is_one_message_and_shown_without_the_proof_of_another() -> None:
    """Whoever needs no proof is told the very same, so that it is encoded once."""
    swarm = running(6, at=1.5)
    told: dict[bytes, list[SignedOffer]] = {}
    shown: list[SignedOffer] = []

    def watch(who: str, what: e.Event | e.Effect, mark: str) -> None:
        if isinstance(what, e.Send) and isinstance(what.message, SignedOffer):
            statement = what.message.statement
            if NAMES.peer_id(author(statement)) == who:
                told.setdefault(statement.payload, []).append(what.message)
            else:
                shown.append(what.message)

    swarm.watch = watch
    swarm.run_until_done()
    for messages in told.values():
        plain = [message for message in messages if not message.proof]
        assert all(message is plain[0] for message in plain)
    assert any(message.proof for messages in told.values() for message in messages)
    assert shown and not any(message.proof for message in shown)
