"""Closing lists as values: who makes them, what is refused, which shares follow."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import MAX_AMOUNT, MAX_CLOSING_BYTES, MAX_ROSTER
from p2pfusion.methods.base import Update
from p2pfusion.protocol.closing import Steps, Terms, offer_name, ranked, shares_of
from p2pfusion.protocol.messages import ClosingEntry, ClosingList, Offer
from p2pfusion.protocol.statements import sign_closing
from tests.methods.toy import ToySharing
from tests.protocol.kinds import REAL

PEERS = ("a", "b", "c", "d")
amounts = st.floats(0.0, MAX_AMOUNT)
OFFER = Offer(5, bytes(16), 10, 1.0, 1.0, 1.0, 4, 7.0, 2.0)
TERMS = Terms(5, PEERS, {"a", "b", "d"}, 3)
GOOD = ClosingEntry(1, offer_name(OFFER), 1, 7.0, 0.5)


def listed(*entries: ClosingEntry, distances: tuple[float, ...] = (0.0, 2.0)):
    return ClosingList(5, bytes(16), entries, distances)


# --- Rank ----------------------------------------------------------------------------


@given(st.sets(st.text(min_size=1, max_size=4), min_size=1, max_size=9), st.data())
def test_the_rank_is_the_same_whoever_is_missing(
    peers: set[str], data: st.DataObject
) -> None:
    order = ranked(3, 7, peers)
    assert sorted(order) == sorted(peers)
    some = data.draw(st.sets(st.sampled_from(sorted(peers))))
    assert ranked(3, 7, some) == tuple(peer for peer in order if peer in some)


def test_everybody_has_its_turn() -> None:
    firsts = Counter(ranked(0, number, PEERS)[0] for number in range(400))
    assert min(firsts[peer] for peer in PEERS) > 60


def test_the_rank_is_the_same_in_every_version() -> None:
    assert ranked(0, 0, PEERS) == ("b", "c", "a", "d")


# --- What is refused -----------------------------------------------------------------


def test_an_honest_list_is_taken() -> None:
    TERMS.check(listed(), {})
    TERMS.check(listed(GOOD), {"b": OFFER})
    other = dataclasses.replace(OFFER, l1=3.0)
    TERMS.check(listed(GOOD), {"b": other})  # an offer of an earlier life, say


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"position": 4}, "out of order"),
        ({"position": 2}, "does not train"),
        ({"rounds_late": 4}, "too late"),
        ({"rounds_late": 2}, "lacks a distance"),
        ({"split_fraction": 0.0}, "no split fraction"),
        ({"split_fraction": 1.5}, "no split fraction"),
        ({"l1": 8.0}, "lies about an offer"),
        ({"rounds_late": 0}, "lies about an offer"),
    ],
)
def test_what_no_honest_closer_says_is_refused(
    changes: dict[str, float], reason: str
) -> None:
    entry = dataclasses.replace(GOOD, **changes)  # type: ignore[arg-type]
    with pytest.raises(RemoteProtocolError, match=reason):
        TERMS.check(listed(entry), {"b": OFFER})


def test_an_update_counts_once_and_nothing_moves_in_no_time() -> None:
    with pytest.raises(RemoteProtocolError, match="out of order"):
        TERMS.check(listed(GOOD, GOOD), {})
    with pytest.raises(RemoteProtocolError, match="fresh"):
        TERMS.check(listed(distances=(1.0,)), {})


def test_the_list_of_the_largest_swarm_fits_a_message() -> None:
    longest = ClosingEntry(MAX_ROSTER - 1, bytes(8), 99, MAX_AMOUNT, 1.0)
    said = listed(*[longest] * MAX_ROSTER, distances=(1.0,) * 99)
    assert len(sign_closing("x" * 26, said, REAL).payload) <= MAX_CLOSING_BYTES


offers = st.builds(
    Offer,
    *(st.integers(0, 9), st.just(bytes(16)), st.integers(1, 9)),
    *([st.floats(-1.0, 1.0)] * 3),
    *(st.integers(0, 9), amounts, amounts),
)


@given(offers, offers)
def test_offers_that_differ_have_different_names(one: Offer, other: Offer) -> None:
    same = repr(one) == repr(other)  # which tells 0.0 and -0.0 apart
    assert (offer_name(one) == offer_name(other)) == same


# --- Shares --------------------------------------------------------------------------

entries = st.lists(
    st.builds(
        ClosingEntry,
        position=st.integers(0, 3),
        offer=st.just(bytes(8)),
        rounds_late=st.integers(0, 2),
        l1=amounts | st.floats(0.0, 10.0),
        split_fraction=st.floats(0.05, 1.0),
    ),
    unique_by=lambda entry: entry.position,
)


@given(entries, amounts, amounts)
def test_shares_follow_from_the_list(
    found: list[ClosingEntry], near: float, far: float
) -> None:
    said = listed(*found, distances=(0.0, near, far))
    shares = shares_of(said, PEERS, ToySharing())
    assert shares.keys() == {PEERS[entry.position] for entry in found}
    assert all(math.isfinite(share) and share >= 0.0 for share in shares.values())
    assert sum(shares.values()) == pytest.approx(1.0) or not any(shares.values())
    weights = [entry.l1 / (1 + (0.0, near, far)[entry.rounds_late]) for entry in found]
    for entry, weight in zip(found, weights, strict=True):
        expected = weight / sum(weights) if sum(weights) else 0.0
        assert shares[PEERS[entry.position]] == pytest.approx(expected)


@dataclasses.dataclass(frozen=True)
class Odd(ToySharing):
    """Its numbers are no shares."""

    def shares(self, updates: list[Update]) -> tuple[float, ...]:  # type: ignore[override]
        assert all(isinstance(update.split_fraction, Fraction) for update in updates)
        return (float("nan"), float("inf"), -1.0)


def test_what_is_no_share_counts_as_none() -> None:
    said = listed(*(dataclasses.replace(GOOD, position=at) for at in (0, 1, 3)))
    assert shares_of(said, PEERS, Odd()) == {"a": 0.0, "b": 0.0, "d": 0.0}


# --- Distances -----------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from(PEERS), st.integers(1, 6), st.floats(0, 9))),
    st.integers(0, 3),
)
def test_distances_are_sums_of_what_offers_say(
    told: list[tuple[str, int, float]], most: int
) -> None:
    steps, last = Steps(), dict[tuple[str, int], float]()
    for peer, number, moved in told:
        steps.note(peer, dataclasses.replace(OFFER, round_index=number, moved=moved))
        last[peer, number - 1] = moved
    found = steps.distances(6, most)
    assert len(found) == most + 1 and found[0] == 0.0
    for late, distance in enumerate(found):
        moved = [each for (_, n), each in last.items() if 6 - late <= n < 6]
        assert distance == pytest.approx(sum(moved))


def test_what_a_peer_fuses_in_parts_adds_up_and_is_forgotten() -> None:
    steps = Steps()
    for l1 in (1.0, 2.0, MAX_AMOUNT):
        steps.add("a", 3, l1)
    assert steps.of("a", 3) == MAX_AMOUNT and steps.of("b", 3) == 0.0
    steps.add("a", 4, 1.0)
    assert steps.distances(5, 2) == (0.0, 1.0, MAX_AMOUNT)
    steps.forget(4)
    assert steps.distances(5, 2) == (0.0, 1.0, 1.0)
