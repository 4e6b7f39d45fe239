"""Who is out: whose word counts against whom, from when on, and who goes along."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol.messages import Facts
from p2pfusion.security import check
from tests.protocol.family import (
    CHAINS,
    SWARM,
    everybody,
    lost,
    member,
    merged,
    out,
    start,
)
from tests.protocol.names import NAMES, NamedKey, credential

ADMINS = {"p0", "a", "b", "c", "d"}


def outs(*said: Facts) -> set[str]:
    """Who is out after these revocations, among everybody; in any order."""
    found = {tuple(sorted(merged([everybody(), *said]).revoked))}
    found.add(tuple(sorted(merged([*said[::-1], everybody()]).revoked)))
    assert len(found) == 1
    return set(found.pop())


def test_an_admin_puts_out_members_and_admins_farther_from_the_founder() -> None:
    assert outs(out("m")) == {"m"}
    assert outs(out("m", "b")) == {"m"}, "whoever admitted it"
    assert outs(out("d", "b")) == {"d"}, "d is one step farther than b"
    assert outs(out("b", "d")) == set() and outs(out("a", "b")) == set()
    assert outs(out("p0", "a"), out("p0", "d")) == set(), "never the founder"
    assert outs(out("p0")) == set() and outs(out("a", "a")) == set(), "nor oneself"


def test_whom_a_revoked_admin_has_admitted_goes_with_it() -> None:
    assert outs(out("a")) == {"a", "d", "m"}
    assert outs(out("b")) == {"b", "c", "n"}
    assert outs(out("d")) == {"d"}, "n has a shorter chain, through b"


def test_of_mutual_revocations_that_nearer_to_the_founder_counts() -> None:
    assert outs(out("d", "a"), out("a", "d")) == {"d"}
    assert outs(out("a"), out("p0", "a")) == {"a", "d", "m"}
    assert outs(out("c", "b"), out("b", "c")) == {"c"}


def test_what_a_revoked_admin_says_and_has_said_is_void() -> None:
    assert outs(out("m", "b"), out("b")) == {"b", "c", "n"}
    assert outs(out("n", "d"), out("d", "b")) == {"d"}


def test_a_member_that_was_made_an_admin_is_one() -> None:
    facts = merged([Facts((member("b"), member("c", which=0)))])
    assert facts.role("c") == "member" and not facts.is_admin("c")
    with pytest.raises(RemoteProtocolError, match="no admin"):
        facts.merge(out("m", "c", which=0))
    for which in (1, 0):
        facts.merge(Facts((member("c", which=which),)))
        assert facts.role("c") == "admin" and facts.is_admin("c")
    facts.merge(out("c"))
    assert not facts.is_admin("c") and facts.role("c") == "admin"
    assert facts.admitted_by("c") == "b" and facts.admitted_by("p0") == ""


verdicts = st.lists(
    st.builds(
        out,
        st.sampled_from([*CHAINS, "stranger"]),
        st.sampled_from(["p0", "a", "b", "c", "d"]),
        epoch=st.integers(0, 5),
    ),
    max_size=12,
)


def issuers(peer: str) -> tuple[str, ...]:
    """Everybody between a peer and nobody, by its last chain."""
    shown = CHAINS.get(peer, [b""])[-1]
    if not shown:
        return ()
    key = NamedKey("p0").public
    return check(shown, swarm=SWARM, founder=key, scheme=NAMES).issuers


def may_put_out(by: str, peer: str) -> bool:
    return peer not in ADMINS or len(issuers(peer)) > len(issuers(by))


@given(verdicts)
def test_the_fold_is_what_the_slow_obvious_version_says(said: list[Facts]) -> None:
    """Until nothing changes: who is put out by somebody who is in, and its guests."""
    facts = merged([everybody(), *said])
    spoken = [v.fact for v in facts.revocations.values()]
    gone: set[str] = set()
    for _ in range(9):
        directly = {
            fact.peer
            for fact in spoken
            if fact.by not in gone and may_put_out(fact.by, fact.peer)
        }
        gone = directly | {peer for peer in CHAINS if directly & set(issuers(peer))}
    assert facts.revoked.keys() == gone
    for peer, fact in facts.revoked.items():
        assert fact.by not in gone
        assert fact.peer == peer or fact.peer in issuers(peer)
    assert "p0" not in gone


def test_out_of_the_plans_from_the_stated_epoch_and_of_the_members_at_once() -> None:
    facts = merged([everybody(), Facts(start=start("p0", "a", "m"))])
    facts.merge(out("m", epoch=3))
    assert [p.peer for p in facts.roster(2)] == ["a", "m", "p0"]
    assert [p.peer for p in facts.roster(3)] == ["a", "p0"]
    assert "m" not in [r.peer for r in facts.members()] and "m" in facts.records


def test_the_earlier_of_two_revocations_by_one_admin_counts() -> None:
    for said in ([out("m", epoch=3), out("m", epoch=5)] * 2, [out("m", epoch=3)]):
        facts = merged([everybody(), *said])
        assert facts.revoked["m"].epoch == 3
        assert len(facts.revocations) == 1


# --- Who is lost ---------------------------------------------------------------------


def test_any_admin_may_declare_anybody_lost_and_nobody_else() -> None:
    for by in ("p0", "a", "d"):
        assert merged([everybody(), lost("p0", "a", "m", by=by)]).lost.keys() == {
            *("p0", "a", "m")
        }
    for by in ("m", "n"):
        with pytest.raises(RemoteProtocolError, match="no admin"):
            merged([everybody(), lost("a", by=by)])


def test_what_a_revoked_admin_has_declared_is_void() -> None:
    said = [everybody(), lost("m", by="a", epoch=3), lost("n", by="b", epoch=5)]
    assert merged(said).lost.keys() == {"m", "n"}
    for order in ([*said, out("a")], [out("a"), *said]):
        facts = merged(order)
        assert facts.lost.keys() == {"n"} and len(facts.recoveries) == 2


def test_the_first_of_several_recoveries_counts_and_two_chains_are_one() -> None:
    later, sooner = lost("m", epoch=5, reason="x"), lost("m", "n", epoch=3, reason="y")
    for order in ([later, sooner], [sooner, later]):
        facts = merged([everybody(), *order])
        assert facts.lost["m"].epoch == facts.lost["n"].epoch == 3
    (said,) = lost("m", by="c").recoveries
    # c could have been made an admin in another way, too.
    other = credential("c", SWARM, by="p0", role="admin")
    both = [Facts(recoveries=(replace(said, credential=other),)), lost("m", by="c")]
    found = {merged([everybody(), *order]).all() for order in (both, both[::-1])}
    assert len(found) == 1
    (kept,) = found.pop().recoveries
    assert kept.credential == other, "the shorter chain counts"


def test_who_has_no_record_is_not_lost_until_it_has_one() -> None:
    facts = merged([lost("m", epoch=3)])
    assert facts.lost == {} and len(facts.recoveries) == 1
    facts.merge(everybody())
    assert facts.lost.keys() == {"m"}
    facts.merge(Facts((member("m", sequence=1, epoch=4),)))
    assert facts.lost == {}, "it has come back"
