"""What liars send to a running swarm changes no round of the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from p2pfusion.limits import REPLAY_WINDOW
from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import (
    PROTOCOL_VERSION,
    TABLE,
    Chunk,
    Credit,
    Facts,
    Membership,
    Message,
    Offer,
    Ping,
    Refusal,
    Signed,
    SignedOffer,
    StreamStart,
    Welcome,
)
from p2pfusion.protocol.statements import OfferFact, sign_offer, sign_start
from tests.protocol.names import (
    NamedKey,
    credential,
    forged_credential,
    greeting,
    knocking,
    membership,
    offered,
    record,
    revocation,
)
from tests.protocol.swarm import Swarm, started
from tests.protocol.test_exchange import FAR, request, running, tell


def member(swarm: Swarm, peer: str, **changes: object) -> Membership:
    """A membership as the founder could have admitted it, with a record of any kind."""
    return membership(record(peer, **changes), swarm.manifest.swarm_id)


def stolen(swarm: Swarm, peer: str, of: str) -> Membership:
    """A peer's record with the credential of another."""
    shown = credential(of, swarm.manifest.swarm_id, by="p0")
    return Membership(member(swarm, peer).record, shown)


def self_made(swarm: Swarm, peer: str, role: str = "member") -> Membership:
    """Somebody whom a plain member, p3, has admitted."""
    links = (("p0", "p3", "member"), ("p3", peer, role))
    shown = forged_credential(swarm.manifest.swarm_id, *links)
    return Membership(member(swarm, peer).record, shown)


def in_the_name_of(peer: str, swarm: Swarm) -> SignedOffer:
    """What another would sign, signed by p3."""
    offer = Offer(1, bytes(16), 1, 0.0, 0.0, 0.0)
    payload = offered(peer, swarm.manifest.swarm_id, offer).statement.payload
    return SignedOffer(Signed(payload, NamedKey("p3").sign("offer/v1", payload)))


def as_facts(make: Callable[[Swarm], Membership]) -> Callable[[Swarm], Message]:
    return lambda swarm: Facts((make(swarm),))


def hello(of: Membership, swarm: Swarm) -> Message:
    return greeting(of, swarm.manifest.swarm_id)


def put_out(swarm: Swarm, peer: str, chain: bytes) -> Facts:
    its_id = swarm.manifest.swarm_id
    return Facts(revocations=(revocation(peer, its_id, by="p3", chain=chain),))


LIES: dict[str, Callable[[Swarm], Message]] = {
    "a hello that speaks for another": lambda s: hello(member(s, "p2"), s),
    "a hello that speaks for the victim": lambda s: hello(member(s, "p0"), s),
    "a hello of another version": lambda s: knocking(record("p3"), version=2**60),
    "a hello of a former version": lambda s: knocking(
        record("p3"), version=PROTOCOL_VERSION - 1
    ),
    "a hello with another's credential": lambda s: hello(stolen(s, "p3", "p2"), s),
    "a hello of one that was admitted by nobody": lambda s: hello(
        self_made(s, "p3"), s
    ),
    "an impossible fraction": as_facts(lambda s: member(s, "p9", split_fraction="7")),
    "no fraction at all": as_facts(lambda s: member(s, "p9", split_fraction="x" * 32)),
    "an enormous fraction": as_facts(
        lambda s: member(s, "p9", split_fraction="1e999999")
    ),
    "a fraction of zero": as_facts(lambda s: member(s, "p9", split_fraction="0/1")),
    "a member with another's credential": as_facts(lambda s: stolen(s, "p9", "p2")),
    "a member whom a plain member admitted": as_facts(lambda s: self_made(s, "p9")),
    "an admin whom a plain member admitted": as_facts(
        lambda s: self_made(s, "p9", role="admin")
    ),
    "a member of another swarm": lambda s: Facts(
        (membership(record("p9"), "another swarm"),)
    ),
    "a start that the founder never made": lambda s: Facts(
        start=sign_start(s.manifest.swarm_id, ["p0", "p3"], NamedKey("p3"))
    ),
    "a start of another swarm": lambda s: Facts(
        start=sign_start("another swarm", ["p0", "p3"], NamedKey("p0"))
    ),
    "a revocation by a plain member": lambda s: put_out(
        s, "p2", credential("p3", s.manifest.swarm_id, by="p0")
    ),
    "a revocation by one that is nobody": lambda s: put_out(s, "p2", b""),
    "a revocation of another swarm": lambda s: Facts(
        revocations=(revocation("p2", "another swarm"),)
    ),
    "an offer in another's name": lambda s: in_the_name_of("p2", s),
    "an offer in another swarm": lambda s: offered(
        "p3", "another swarm", Offer(1, bytes(16), 1, 0.0, 0.0, 0.0), sequence=99
    ),
    "credit for a stream that nobody asked for": lambda s: Credit(FAR, FAR),
    "a chunk that nobody asked for": lambda s: Chunk(FAR, 0, memoryview(b"abcd")),
    "a head that nobody asked for": lambda s: StreamStart(FAR, 8, 1, b""),
    "a refusal of nothing": lambda s: Refusal(FAR, "busy"),
    "an offer for a far round": lambda s: offered(
        "p3", s.manifest.swarm_id, Offer(FAR, bytes(16), 1, 0.0, 0.0, 0.0), sequence=99
    ),
    "a ping from a far round": lambda s: Ping(1, FAR, bytes(16)),
    "a welcome to a far round": lambda s: Welcome(s.manifest.swarm_id, FAR, 0),
    "a request for a far round": lambda s: request(s, round_index=FAR),
    "a request for a far table": lambda s: request(s, hop=TABLE, round_index=FAR),
    "a request behind the end": lambda s: request(s, offset=FAR, limit=FAR),
    "a request with endless credit": lambda s: request(s, limit=FAR),
    "a request instead of a stranger": lambda s: request(
        s, hop="fused", instead_of="stranger"
    ),
}


@pytest.fixture(scope="module")
def honest() -> Swarm:
    """What happens without any lie."""
    swarm = started(4, rounds=5)
    swarm.run_until_done()
    return swarm


@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("at", [0.5, 2.06, 3.5])
def test_a_lie_changes_no_round(name: str, at: float, honest: Swarm) -> None:
    """p3 follows the rules, but for the one message that it sends to p0 and p1.

    At these instants nothing of p3 is under way that would be given up with it.
    """
    swarm = running(4, at=at, rounds=5)
    for victim in ("p0", "p1"):
        swarm.event(victim, e.Received("p3", LIES[name](swarm)))
    swarm.run_until_done()
    for victim in ("p0", "p1", "p2"):
        rounds = [(d["round"], d["stale_ranges"]) for d in swarm.hosts[victim].sealed]
        assert rounds == [(number, 0) for number in range(5)]
        # The third waits for what the victims no longer send to the liar, so it may be
        # late once, and offers that in the round that follows.
        late = swarm.hosts[victim].reported("late-update") if victim == "p2" else []
        assert len(swarm.hosts[victim].trained) + len(late) == 5 and len(late) <= 1
        for number, plan in honest.hosts[victim].plans.items():
            assert swarm.hosts[victim].plans[number].digest == plan.digest


def test_an_offer_of_somebody_unknown_is_shown_in_vain() -> None:
    """Whoever shows it may have heard of a newcomer earlier: it is not to blame."""
    swarm = running(4, at=0.5)
    shown = offered(
        "p9", swarm.manifest.swarm_id, Offer(1, bytes(16), 1, 0.0, 0.0, 0.0)
    )
    assert tell(swarm, "p0", "p3", shown) == []
    assert not swarm.hosts["p0"].reported("protocol-error")


def test_an_offer_of_another_session_does_not_count() -> None:
    """Two daemons with one identity, or one that says so."""
    swarm = running(4, at=0.5)
    peer = swarm.hosts["p0"].peer
    offer = Offer(1, bytes(16), 1, 0.0, 0.0, 0.0)
    said = OfferFact(1, 99, offer, b"another.")
    statement = sign_offer(swarm.manifest.swarm_id, said, 0, NamedKey("p3"))
    swarm.event("p0", e.Received("p3", SignedOffer(statement)))
    (report,) = swarm.hosts["p0"].reported("protocol-error")
    assert "another session" in str(report.details["reason"])
    assert "p3" not in peer.exchange._early
    assert tell(swarm, "p0", "p2", SignedOffer(statement)) == []


FORGED = [
    name
    for name in LIES
    if any(word in name for word in ("member", "admin", "start", "revocation", "offer"))
    and "far" not in name
]


@pytest.mark.parametrize("name", FORGED)
def test_who_passes_on_what_nobody_has_signed_is_named(name: str) -> None:
    swarm = running(4, at=0.5)
    host = swarm.hosts["p0"]
    before = host.peer.gossip.facts.digest
    swarm.event("p0", e.Received("p3", LIES[name](swarm)))
    (report,) = host.reported("protocol-error")
    assert report.details["peer"] == "p3"
    assert host.peer.gossip.facts.digest == before


def open_pull(swarm: Swarm, victim: str, source: str, hop: str = "contribution"):
    pulls = swarm.hosts[victim].peer.exchange.pulls.of_source(source)
    return next(pull for pull in pulls if pull.stream.hop == hop)


BROKEN: dict[str, Callable[[int, int], list[Message]]] = {
    "another length": lambda pull, size: [StreamStart(pull, size + 4, 1, b"")],
    "no samples": lambda pull, size: [StreamStart(pull, size, 0, b"")],
    "beyond the end": lambda pull, size: [
        StreamStart(pull, size, 1, b""),
        Chunk(pull, size - 4, memoryview(bytes(8))),
    ],
    "too long": lambda pull, size: [
        StreamStart(pull, size, 1, b""),
        Chunk(pull, 0, memoryview(bytes(size + 1))),
    ],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_stream_is_dropped_and_its_sender_named(name: str) -> None:
    swarm = running(4)
    host = swarm.hosts["p0"]
    pull = open_pull(swarm, "p0", "p3")
    for message in BROKEN[name](pull.number, pull.total_bytes or 0):
        swarm.event("p0", e.Received("p3", message))
    (report,) = host.reported("protocol-error")
    assert report.details["peer"] == "p3"
    assert host.peer.exchange.pulls.find(pull.number, "p3") is None
    number = pull.stream.round_index
    swarm.run_until_done()
    (details,) = [d for d in host.sealed if d["round"] == number]
    (missed,) = details["missing"]
    assert missed["peer"] == "p3" and "broke the rules" in missed["reason"]
    assert [d["round"] for d in host.sealed] == list(range(6))


def test_only_the_source_of_a_stream_can_send_it() -> None:
    swarm = running(4)
    pull = open_pull(swarm, "p0", "p3")
    head = StreamStart(pull.number, pull.total_bytes or 0, 1, b"")
    assert tell(swarm, "p0", "p2", head) == []
    assert not pull.opened


def test_a_parked_request_behind_the_end_does_no_harm_when_its_time_comes() -> None:
    swarm = running(2)
    tell(swarm, "p0", "p1", request(swarm, offset=FAR, limit=FAR + 1))
    start = len(swarm.log)
    swarm.run_until_done()
    assert any("Refusal(pull=9999" in line for line in swarm.log[start:])


def test_requests_in_place_of_living_reducers_reduce_each_once() -> None:
    swarm = running(4)
    plan = swarm.hosts["p0"].plans[3]
    asked = 0
    for pull in range(50):
        for instead_of in ("p1", "p2", "p3", "x", "y"):
            effects = tell(
                swarm,
                "p0",
                "p1",
                request(swarm, pull=pull, hop="fused", instead_of=instead_of),
            )
            asked += sum(isinstance(effect, e.OpenReduction) for effect in effects)
    useful = [r for r in ("p1", "p2", "p3") if plan.reduced_by("p0", instead_of=r).size]
    assert asked <= len(useful)


def test_another_table_than_the_format_allows_is_dropped() -> None:
    swarm = running(4, rounds=8)
    swarm.add("p7")
    swarm.join("p7", by="p0")
    host = swarm.hosts["p7"]
    swarm.run(lambda: host.peer.exchange.table.source is not None)
    source = host.peer.exchange.table.source or ""
    pull = host.peer.exchange.pulls.of_hop(TABLE)[0]
    for message in (
        StreamStart(pull.number, 8, 0, b""),
        Chunk(pull.number, 0, memoryview(b"no table")),
    ):
        swarm.event("p7", e.Received(source, message))
    (report,) = host.reported("protocol-error")
    assert "table of homes" in str(report.details["reason"])
    swarm.run(lambda: host.peer.exchange.table.source is not None)
    assert host.peer.exchange.table.source != source
    swarm.run_until_done()


def test_a_table_without_end_is_refused() -> None:
    swarm = running(4, rounds=8)
    swarm.add("p7")
    swarm.join("p7", by="p0")
    host = swarm.hosts["p7"]
    swarm.run(lambda: host.peer.exchange.table.source is not None)
    source = host.peer.exchange.table.source or ""
    pull = host.peer.exchange.pulls.of_hop(TABLE)[0]
    head = StreamStart(pull.number, FAR, 0, b"")
    swarm.event("p7", e.Received(source, head))
    assert host.reported("protocol-error")
    swarm.run_until_done()


def test_an_offer_counts_once_and_not_after_a_restart_of_its_maker() -> None:
    swarm = running(4)
    peer, its_id = swarm.hosts["p0"].peer, swarm.manifest.swarm_id

    def told(samples: int, sequence: int, incarnation: int) -> int:
        """What p0 keeps of p3's next round after one more offer of it."""
        number = peer.round.number + 1
        offer = Offer(number, bytes(16), samples, 1.0, 1.0, 1.0)
        numbers = {"sequence": sequence, "incarnation": incarnation}
        tell(swarm, "p0", "p3", offered("p3", its_id, offer, **numbers))
        return peer.exchange._early["p3"][1].samples

    assert told(10, 100, 1) == 10
    assert told(20, 101, 1) == 20
    assert told(10, 100, 1) == 20, "heard before"
    assert told(30, 99, 1) == 30, "late, but new"
    newest = REPLAY_WINDOW + 500
    assert told(40, newest, 1) == 40
    assert told(50, newest - REPLAY_WINDOW, 1) == 40, "too old to tell"
    assert told(60, 1, 2) == 60, "a restarted peer counts from the beginning"
    assert told(70, newest + 1, 1) == 60, "of its former life"
