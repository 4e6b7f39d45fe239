"""What a member announces counts from one epoch on, for everybody, or is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import MAX_ANNOUNCED_BYTES, MAX_CONTROL_FRAME_BYTES
from p2pfusion.protocol import events as e
from p2pfusion.protocol.announcing import Announcements
from p2pfusion.protocol.batches import in_frames
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.messages import Facts, Membership, PeerRecord
from p2pfusion.protocol.statements import sign_record
from p2pfusion.protocol.wire import decode, encode
from p2pfusion.security import DeviceKey
from p2pfusion.split.indices import IndexSet
from tests.methods.toy import ANNOUNCING, said, toy_methods
from tests.protocol.names import NAMES, membership, record
from tests.protocol.stage import small_manifest
from tests.protocol.test_suspicion import Sleepy, agree, epoch, reach, running


@pytest.fixture(autouse=True, scope="module")
def toys() -> Iterator[None]:
    """Manifests may name the toy method."""
    with toy_methods():
        yield


def announced_by(swarm: Sleepy, host: str, peer: str, at: int) -> bytes:
    """What a host knows of a peer's announcement in an epoch."""
    roster = swarm.hosts[host].peer.gossip.facts.roster(at)
    return next(member.announced for member in roster if member.peer == peer)


def lacks(swarm: Sleepy, name: str) -> bool:
    return swarm.hosts[name].peer.leaving.lacks_announcement(swarm.now)


def test_it_counts_at_every_peer_from_the_epoch_after_the_next() -> None:
    swarm = running(3, method=ANNOUNCING)
    assert lacks(swarm, "p1")
    swarm.event("p1", e.Announced(said("1/2", 5)))
    assert not lacks(swarm, "p1")
    now = epoch(swarm, "p1")
    (report,) = swarm.hosts["p1"].reported("announced")
    assert report.details == {"peer": "p1", "epoch": now + 2}
    swarm.run(lambda: agree(swarm))
    for host in swarm.hosts:
        told = [announced_by(swarm, host, "p1", now + n) for n in range(4)]
        assert told == [b"", b"", said("1/2", 5), said("1/2", 5)]
        assert announced_by(swarm, host, "p0", now + 3) == b""
    reach(swarm, (now + 3) * 4)
    for number, split in swarm.hosts["p1"].splits.items():
        start = 5 if number >= (now + 2) * 4 else 0
        assert dict(split.sets)["h1"] == IndexSet.span(start, start + 16), number


def test_it_is_made_once() -> None:
    swarm = running(3, method=ANNOUNCING)
    swarm.event("p1", e.Announced(said("1/2", 5)))
    before = swarm.hosts["p1"].peer.gossip.record
    for other in (said("1/2", 5), said("1/2", 6), b""):
        swarm.event("p1", e.Announced(other))
    assert swarm.hosts["p1"].peer.gossip.record == before


def test_a_restart_keeps_it() -> None:
    swarm = running(3, method=ANNOUNCING)
    swarm.event("p1", e.Announced(said("1/2", 5)))
    counts_from = epoch(swarm, "p1") + 2
    swarm.kill("p1")
    swarm.restart("p1")
    swarm.run(lambda: agree(swarm))
    assert not lacks(swarm, "p1")
    for host in swarm.hosts:
        assert announced_by(swarm, host, "p1", counts_from) == said("1/2", 5)


def test_it_is_void_when_another_fraction_counts_and_may_then_be_made_anew() -> None:
    swarm = running(3, method=ANNOUNCING)
    swarm.event("p1", e.Announced(said("1/2", 5)))
    reach(swarm, (epoch(swarm, "p1") + 2) * 4)
    swarm.event("p1", e.ChangeFraction("1/4"))
    changes_at = swarm.hosts["p1"].peer.gossip.record.since_epoch
    assert not lacks(swarm, "p1"), "the old one still counts"
    swarm.event("p1", e.Announced(said("1/4", 1)))
    assert swarm.hosts["p1"].peer.gossip.record.announced != said("1/4", 1)
    swarm.run(lambda: agree(swarm))
    told = [announced_by(swarm, "p0", "p1", changes_at + n) for n in (-1, 0)]
    assert told == [said("1/2", 5), b""]
    reach(swarm, changes_at * 4)
    assert lacks(swarm, "p1")
    swarm.event("p1", e.Announced(said("1/2", 5)))
    assert swarm.hosts["p1"].reported("announcement-void")
    swarm.event("p1", e.Announced(said("1/4", 1)))
    swarm.run(lambda: agree(swarm))
    counts_from = swarm.hosts["p1"].peer.gossip.record.announced_epoch
    assert announced_by(swarm, "p0", "p1", counts_from) == said("1/4", 1)


def test_a_second_change_of_the_fraction_takes_it_back() -> None:
    swarm = running(3, method=ANNOUNCING)
    swarm.event("p1", e.Announced(said("1/2", 5)))
    for fraction in ("1/4", "3/4"):
        swarm.event("p1", e.ChangeFraction(fraction))
        changes_at = swarm.hosts["p1"].peer.gossip.record.since_epoch
        if fraction == "1/4":
            assert swarm.hosts["p1"].peer.gossip.record.announced
            reach(swarm, changes_at * 4)
    assert swarm.hosts["p1"].peer.gossip.record.announced == b""
    swarm.run(lambda: agree(swarm))
    assert not [
        host for host in swarm.hosts.values() if host.reported("protocol-error")
    ]


def test_other_methods_have_none() -> None:
    swarm = running(3)
    assert not lacks(swarm, "p1")
    swarm.event("p1", e.Announced(said("1/2", 5)))
    assert swarm.hosts["p1"].peer.gossip.record.announced == b""
    silent = record("a", announced=b"x")
    with pytest.raises(RemoteProtocolError, match="asks for nothing"):
        Announcements(small_manifest()).check(silent)


# --- From other peers ----------------------------------------------------------------


def member(manifest_id: str, **changes: object) -> Membership:
    """A membership of one that p0 has admitted."""
    return membership(record("p1", **changes), manifest_id)


@given(st.binary(max_size=MAX_ANNOUNCED_BYTES), st.sampled_from(["1/2", "1/4"]))
def test_any_bytes_are_an_announcement_or_refused(told: bytes, fraction: str) -> None:
    manifest = small_manifest(method=ANNOUNCING)
    facts = FactSet(NAMES, manifest)
    there = {"split_fraction": fraction, "announced": told, "announced_epoch": 3}
    good = not told or told in {said(fraction, start) for start in range(16)}
    try:
        facts.merge(Facts((member(manifest.swarm_id, **there),)))
    except RemoteProtocolError as error:
        assert not good and "no announcement" in str(error)
    else:
        assert good


@given(
    st.sampled_from(["", "1", "1/2", "1/4"]),
    st.sampled_from(["1/2", "1/4"]),
    st.integers(0, 4),
    st.integers(0, 4),
    st.sampled_from([b"", said("1", 2), said("1/2", 1), said("1/4", 3), b"?"]),
)
def test_what_counts_in_an_epoch_is_what_fits_its_fraction(
    former: str, present: str, since: int, counts_from: int, told: bytes
) -> None:
    manifest = small_manifest(method=ANNOUNCING)
    found = record(
        "a",
        split_fraction=present,
        former_fraction=former,
        since_epoch=since,
        announced=told,
        announced_epoch=counts_from,
    )
    announcements = Announcements(manifest)
    stated = told.partition(b":")[0].decode()
    assert announcements.fits(found) == (not told or stated in {present, former} - {""})
    for at in range(6):
        fraction = former if former and at < since else present
        wanted = told if told and at >= counts_from and stated == fraction else b""
        assert announcements.of(found, Fraction(fraction), at) == wanted


def test_the_longest_fits_every_message_that_has_a_record() -> None:
    key = DeviceKey.from_seed(bytes(32))
    long: PeerRecord = dataclasses.replace(
        record("a", swarm="x" * 26, key=key.public),
        announced=bytes(MAX_ANNOUNCED_BYTES),
    )
    shown = Membership(sign_record(long, key), bytes(2_048))
    for message in in_frames(Facts(members=(shown,) * 40)):
        (frame,) = encode(message)
        assert len(frame) <= MAX_CONTROL_FRAME_BYTES
        assert decode([frame], data_plane=False) == message
