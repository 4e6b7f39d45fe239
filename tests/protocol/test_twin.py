"""Two daemons with one identity: both stand still, and neither goes on talking."""

from __future__ import annotations

from dataclasses import replace

from p2pfusion.protocol import events as e
from p2pfusion.protocol.course import ALONE_AFTER_S
from p2pfusion.protocol.messages import Facts, Pong
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.standing import Standing
from tests.protocol.names import NAMES, NamedKey, credential, membership, record
from tests.protocol.swarm import Swarm, small_manifest, started

MANIFEST = small_manifest()
SWARM = MANIFEST.swarm_id


def life(port: int, incarnation: int) -> Peer:
    """A daemon with the identity p2, somewhere."""
    peer = Peer(record("p2", port=port, incarnation=incarnation), NamedKey("p2"), NAMES)
    peer.gossip.adopt(MANIFEST, credential("p2", SWARM, by="p0"))
    peer.course.prepare()
    others = tuple(membership(record(name), SWARM) for name in ("p0", "p1"))
    peer.gossip.facts.merge(Facts(others))
    return peer


def told(peer: Peer, news: Facts) -> tuple[list[e.Report], list[Facts]]:
    """What a daemon makes of news that p0 passes on: reports, and its own news."""
    effects = peer.handle(e.Received("p0", news), 1.0)
    reports = [x for x in effects if isinstance(x, e.Report) and x.kind == "cloned"]
    said = [x.message for x in effects if isinstance(x, e.Send) and x.peer == "p0"]
    return reports, [x for x in said if isinstance(x, Facts) and x.members]


def own(peer: Peer) -> Facts:
    return Facts((peer.gossip.membership(),))


def test_both_stand_still_and_fall_silent_about_it() -> None:
    old, new = life(10, 3), life(20, 7)
    reports, said = told(old, own(new))
    assert [x.details for x in reports] == [
        {"address": "127.0.0.1:20", "incarnation": 8}
    ]
    assert len(said) == 1 and old.gossip.record.incarnation == 8
    reports, answer = told(new, said[0])
    assert new.twin.address == "127.0.0.1:10" and len(reports) == len(answer) == 1
    reports, more = told(old, answer[0])
    assert len(reports) == 1 and more == []  # noted for the next start, and no more
    assert told(old, answer[0]) == ([], []) and told(new, said[0]) == ([], [])


def test_one_that_is_back_after_a_restart_does_not_wake_again_and_again() -> None:
    swarm = started(3, rounds=12)
    swarm.run_to(5.0)
    swarm.kill("p2")
    swarm.cut = lambda a, b, message: True
    swarm.restart("p2")
    peer = swarm.hosts["p2"].peer
    newer = replace(peer.gossip.record, incarnation=9, port=77)
    twin = membership(newer, swarm.manifest.swarm_id)
    swarm.event("p2", e.Received("p0", Facts((twin,))))
    assert peer.twin.address == "127.0.0.1:77"
    swarm.run_to(swarm.now + ALONE_AFTER_S + 1.0)
    assert peer.deadline() > swarm.now


def test_two_copies_that_start_at_once_are_told_apart_by_their_bytes() -> None:
    one, other = life(10, 4), life(20, 4)
    told(one, own(other))
    assert one.twin.address == "127.0.0.1:20"


def test_what_a_peer_has_said_itself_before_is_no_twin() -> None:
    peer = life(10, 4)
    for before in (own(peer), own(life(10, 3)), own(life(20, 3))):
        assert told(peer, before) == ([], [])
    before = own(peer)
    peer.gossip.renew(join_epoch=3)
    assert told(peer, before) == ([], []) and not peer.twin.address


def test_one_with_a_twin_is_in_no_further_round_and_the_others_go_on() -> None:
    swarm = started(4, rounds=12, rounds_per_epoch=2)
    swarm.run(lambda: swarm.hosts["p3"].peer.course.round_index == 2)
    copy = replace(swarm.hosts["p3"].peer.gossip.record, host="10.0.0.9", incarnation=9)
    news = Facts((membership(copy, swarm.manifest.swarm_id),))
    swarm.event("p0", e.Received("p1", news))
    swarm.run(lambda: bool(swarm.hosts["p3"].reported("cloned")))
    at = swarm.hosts["p3"].peer.course.round_index
    swarm.run(lambda: done(swarm, "p0", "p1", "p2"))
    assert swarm.hosts["p3"].peer.course.round_index == at


def done(swarm: Swarm, *names: str) -> bool:
    return all(swarm.hosts[n].peer.standing is Standing.DONE for n in names)


def test_a_clock_that_is_ahead_shows_as_ahead() -> None:
    swarm = started(2)
    swarm.run(lambda: swarm.hosts["p0"].peer.course.round_index == 1)
    gossip = swarm.hosts["p0"].peer.gossip
    contact = gossip.detector.contacts["p1"]
    assert contact.skew_s is not None and abs(contact.skew_s) < 0.1
    pong = Pong(10**6, 1, gossip.facts.digest, swarm.now + 30.0)
    swarm.event("p0", e.Received("p1", pong))
    assert 29.0 < contact.skew_s < 31.0
