"""Facts merge by union, whatever the order; the roster is a fold of them.

Who is out by revocations stands in ``test_revocations``.
"""

from __future__ import annotations

import dataclasses

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import MAX_CHAIN_LINKS, MAX_RECOVERIES, MAX_ROSTER
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.messages import Facts, Membership, Signed
from p2pfusion.protocol.statements import read_record, sign_start
from p2pfusion.security import ED25519, DeviceKey, check
from tests.protocol.family import (
    CHAINS,
    SWARM,
    accused,
    everybody,
    fresh,
    member,
    merged,
    out,
    start,
)
from tests.protocol.names import (
    NAMES,
    NamedKey,
    Names,
    accusation,
    credential,
    forged_credential,
    membership,
    record,
    recovery,
    revocation,
)
from tests.protocol.swarm import small_manifest

# --- Union ---------------------------------------------------------------------------


POOL: list[Facts] = [
    *(
        Facts((member(p, which=w, incarnation=i, sequence=s, epoch=3 * i + s, name=n),))
        for p, chains in CHAINS.items()
        for w in range(len(chains))
        for i, s in ((1, 0), (1, 1), (2, 0))
        # One that says two things at once must not divide the swarm.
        for n in ("one", "two")[: 1 + (p == "m")]
    ),
    Facts(start=start("p0", "a")),
    Facts(start=start("p0", "a", "m")),
    *(
        out(peer, by, which=which, epoch=epoch, reason=reason)
        for by in ("p0", "a", "b", "c", "d")
        for which, shown in enumerate(CHAINS[by])
        if not shown or shown == CHAINS[by][-1]
        for peer in ("a", "b", "c", "d", "m", "n", "stranger")
        for epoch, reason in ((4, "x"), (2, "y"), (2, "x"))
    ),
]
news = st.lists(st.sampled_from(POOL), max_size=25)


def state(facts: FactSet) -> tuple[object, ...]:
    """Everything that others ask of a set."""
    rosters = [facts.roster(epoch) for epoch in range(9)]
    admins = [facts.is_admin(peer) for peer in CHAINS]
    return (facts.all(), facts.digest, facts.revoked, rosters, admins)


@given(news, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(known: list[Facts], random) -> None:
    one = merged(known)
    shuffled = [*known, *known]
    random.shuffle(shuffled)
    assert state(merged(shuffled)) == state(one)
    # In one message, too.
    at_once = Facts(
        tuple(m for facts in shuffled for m in facts.members),
        one.all().start,
        tuple(r for facts in shuffled for r in facts.revocations),
    )
    assert state(merged([at_once])) == state(one)


@given(news, news)
def test_sets_are_equal_when_their_digests_are(a: list[Facts], b: list[Facts]) -> None:
    one, other = merged(a), merged(b)
    assert (one.digest == other.digest) is (one.all() == other.all())
    for left, right in ((one, other), (other, one)):
        for message in left.messages():
            right.merge(message)
    assert state(one) == state(other)


def rights(shown: bytes, by: str) -> tuple[bool, int, bytes]:
    if not shown:
        return (True, 0, b"")
    key = NamedKey("p0").public
    found = check(shown, swarm=SWARM, founder=key, scheme=NAMES)
    assert found.subject == by
    return (found.role == "admin", -len(found.issuers), shown)


@given(news)
def test_a_set_is_what_the_slow_obvious_version_says(known: list[Facts]) -> None:
    facts = merged(known)
    members = [m for each in known for m in each.members]
    spoken = [(read_record(m.record, NAMES), m) for m in members]
    expected = []
    for peer in sorted({said.peer for said, _ in spoken}):
        own = [(said, m) for said, m in spoken if said.peer == peer]
        newest = max(own, key=lambda each: (each[0].age, each[1].record.payload))
        best = max((m.credential for _, m in own), key=lambda c: rights(c, peer))
        expected.append(Membership(newest[1].record, best))
        assert facts.records[peer] == newest[0]
    assert list(facts.all().members) == expected
    starts = [each.start for each in known if each.start is not None]
    assert facts.all().start == (min(starts, key=listed) if starts else None)


def listed(said: Signed) -> tuple[str, ...]:
    known = {start("p0", "a"): ("a", "p0"), start("p0", "a", "m"): ("a", "m", "p0")}
    return known[said]


@given(news)
def test_what_is_new_is_told_and_nothing_else(known: list[Facts]) -> None:
    facts = fresh()
    for each in known:
        before = facts.all()
        new = facts.merge(each)
        assert (new == Facts()) is (facts.all() == before)
        assert set(new.members) <= set(facts.all().members)
        assert set(new.revocations) <= set(facts.all().revocations)
        assert facts.merge(each) == Facts()


class Careless(Names):
    """Checks all but the last byte, so that one statement has many signatures."""

    def verify(
        self, public: bytes, domain: str, payload: bytes, signature: bytes
    ) -> bool:
        right = NamedKey(self.peer_id(public)).sign(domain, payload)
        return signature[:63] == right[:63]


def resigned(signed: Signed, last: int) -> Signed:
    return Signed(signed.payload, signed.signature[:63] + bytes([last]))


@given(st.permutations(range(4)))
def test_two_signatures_of_one_statement_do_not_chase_each_other(
    order: list[int],
) -> None:
    """Ed25519 lets the owner of a key sign the same bytes in many ways."""
    own = [
        Facts(
            (Membership(resigned(member("a").record, last), CHAINS["a"][0]),),
            resigned(start("p0", "a"), last),
            (
                dataclasses.replace(
                    said := out("m").revocations[0],
                    statement=resigned(said.statement, last),
                ),
            ),
        )
        for last in range(4)
    ]
    facts, there = fresh(Careless()), fresh(Careless())
    for number in range(4):
        there.merge(own[number])
    for number in order:
        facts.merge(own[number])
    assert facts.all() == there.all() and facts.digest == there.digest
    assert all(facts.merge(each) == Facts() for each in own)


# --- Looked at once ------------------------------------------------------------------


class Counting(Names):
    """Counts the signatures that are checked."""

    def __init__(self) -> None:
        self.checked = 0

    def verify(
        self, public: bytes, domain: str, payload: bytes, signature: bytes
    ) -> bool:
        self.checked += 1
        return super().verify(public, domain, payload, signature)

    def since(self) -> int:
        """How many since the last question."""
        count, self.checked = self.checked, 0
        return count


def test_a_fact_is_verified_when_it_is_new_and_never_again() -> None:
    scheme = Counting()
    facts = fresh(scheme)
    facts.merge(Facts(everybody().members, start("p0", "a")))
    links = sum(len(msgpack.unpackb(c[-1])) for c in CHAINS.values() if c[-1])
    assert scheme.since() == len(CHAINS) + 1 + links
    facts.merge(out("m", "a"))
    assert scheme.since() == 1, "the statement: its chain is known"
    for message in [*facts.messages(), facts.all(), out("m", "a")]:
        assert facts.merge(message) == Facts()
    assert facts.roster(7) and facts.revoked and facts.digest and facts.messages()
    assert scheme.since() == 0
    facts.merge(Facts((member("n", which=-1, sequence=1),)))
    assert scheme.since() == 1, "its chain is known"
    newer = member("n", which=0, sequence=1)
    facts.merge(Facts((newer,)))
    assert scheme.since() == 3, "its record is known, and the chain has three links"
    assert facts.revoked.keys() == {"m"} and scheme.since() == 0


# --- Rosters -------------------------------------------------------------------------


def test_rank_is_join_epoch_then_peer_id() -> None:
    known = Facts((member("n"), member("a"), member("m", epoch=2)), start("n", "a"))
    facts = merged([known])
    assert [each.peer for each in facts.roster(0)] == ["a", "n"]
    assert [each.peer for each in facts.roster(2)] == ["a", "n", "m"]


def test_who_came_before_the_start_and_is_not_in_it_does_not_count() -> None:
    facts = merged([Facts((member("a"), member("b")))])
    assert facts.roster(5) == ()
    facts.merge(Facts(start=start("a")))
    assert [each.peer for each in facts.roster(5)] == ["a"]


# --- What nobody honest passes on ----------------------------------------------------


BAD = {
    "an impossible fraction": Facts((member("b", split_fraction="two"),)),
    "another swarm's record": Facts(
        (Membership(membership(record("b"), "other").record, CHAINS["b"][0]),)
    ),
    "another's credential": Facts((Membership(member("b").record, CHAINS["a"][0]),)),
    "no credential": Facts((Membership(member("b").record, b""),)),
    "another founder": Facts((membership(record("b"), SWARM, by="a"),)),
    "another swarm's credential": Facts(
        (Membership(member("b").record, credential("b", "other", by="p0")),)
    ),
    "admitted by a member": Facts(
        (
            Membership(
                member("b").record,
                forged_credential(SWARM, ("p0", "m", "member"), ("m", "b", "member")),
            ),
        )
    ),
    "a start by another": Facts(start=sign_start(SWARM, ["a"], NamedKey("a"))),
    "another swarm's start": Facts(start=sign_start("other", ["a"], NamedKey("p0"))),
    "a revocation by a member": Facts(
        revocations=(revocation("b", SWARM, by="m", chain=CHAINS["m"][0]),)
    ),
    "a revocation with another's chain": Facts(
        revocations=(revocation("b", SWARM, by="m", chain=CHAINS["a"][0]),)
    ),
    "another swarm's revocation": Facts(revocations=(revocation("b", "other"),)),
    "a former fraction that is none": Facts((member("b", former_fraction="two"),)),
    "another swarm's accusation": Facts(
        accusations=(accusation("b", "other", by="a"),)
    ),
    "an accusation of oneself": accused("a", "a", epoch=3),
    "a recovery by a member": Facts(
        recoveries=(recovery("b", swarm=SWARM, by="m", chain=CHAINS["m"][0]),)
    ),
    "a recovery with another's chain": Facts(
        recoveries=(recovery("b", swarm=SWARM, by="m", chain=CHAINS["a"][0]),)
    ),
    "another swarm's recovery": Facts(recoveries=(recovery("b", swarm="other"),)),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_refused_with_all_that_came_with_it(name: str) -> None:
    good = Facts((member("a"),), start("a"), out("n").revocations)
    bad = BAD[name]
    mixed = Facts(
        (*good.members, *bad.members),
        bad.start or good.start,
        (*good.revocations, *bad.revocations),
        bad.accusations,
        bad.recoveries,
    )
    facts = fresh()
    before = facts.digest
    with pytest.raises(RemoteProtocolError):
        facts.merge(mixed)
    assert facts.all() == Facts() and facts.digest == before and not facts.revoked
    facts.merge(good)


def test_without_a_manifest_nothing_is_believed() -> None:
    with pytest.raises(RemoteProtocolError):
        FactSet(NAMES).merge(Facts((member("a"),)))


def test_a_chain_that_is_full_makes_an_admin_that_cannot_admit() -> None:
    facts = fresh()
    shown: bytes = b""
    by = "p0"
    facts.merge(Facts((member("p0"),)))
    for number in range(MAX_CHAIN_LINKS):
        assert facts.can_admit(by)
        peer = f"x{number}"
        shown = credential(peer, SWARM, by=by, role="admin", chain=shown)
        there = membership(record(peer), SWARM).record
        facts.merge(Facts((Membership(there, shown),)))
        by = peer
    assert facts.is_admin(by) and not facts.can_admit(by)


def test_more_recoveries_than_allowed_are_refused() -> None:
    facts = fresh()
    said = [recovery("a", swarm=SWARM, epoch=n) for n in range(MAX_RECOVERIES + 1)]
    facts.merge(Facts(recoveries=tuple(said[1:])))
    with pytest.raises(RemoteProtocolError, match="more recoveries"):
        facts.merge(Facts(recoveries=(said[0],)))
    assert len(facts.recoveries) == MAX_RECOVERIES


def test_more_than_a_roster_of_members_or_revocations_is_refused() -> None:
    facts = fresh()
    names = [f"x{number}" for number in range(MAX_ROSTER + 1)]
    many = [membership(record(name), SWARM) for name in names]
    said = [revocation(name, SWARM) for name in names]
    facts.merge(Facts(tuple(many[:-1]), None, tuple(said[:-1])))
    for one in (Facts((many[-1],)), Facts(revocations=(said[-1],))):
        with pytest.raises(RemoteProtocolError, match="more"):
            facts.merge(one)
    assert len(facts.records) == len(facts.revocations) == MAX_ROSTER
    facts.merge(Facts((membership(record("x0", incarnation=2), SWARM),)))
    facts.merge(Facts(revocations=(revocation("x0", SWARM, reason="again"),)))


def test_real_keys_do_the_same() -> None:
    founder = DeviceKey.from_seed(bytes(32))
    facts = FactSet(ED25519, small_manifest(founder=founder.public.hex()))
    assert facts.standing_of(founder.public, b"").role == "admin"
    with pytest.raises(RemoteProtocolError):
        facts.standing_of(DeviceKey.generate().public, b"")
    with pytest.raises(RemoteProtocolError):
        facts.merge(everybody())
