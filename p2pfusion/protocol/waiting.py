"""Whom a peer waits for, and for what: never nothing, unless it is done.

The one source of these words: what ``status`` shows, what a ``wait`` that ends without
success says, and what the simulator checks.
"""

from __future__ import annotations

from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.messages import BEFORE_START
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.phases import Phase
from p2pfusion.protocol.round import Round
from p2pfusion.split.hops import ROUND_HOPS

Waits = dict[str, str]
"""Names, or words for whom; and the reason."""


def waiting_for(peer: Peer, now: float) -> Waits:
    """Empty for one that is done, or has nothing to do any more."""
    is_out = peer.gossip.me in peer.gossip.facts.revoked
    if is_out or peer.standing in NOTHING_TO_DO:
        return {}
    if peer.twin.address:
        return {
            "you": f"to stop the daemon with the same identity, {peer.twin.address}"
        }
    fetching = peer.exchange.fetching
    if fetching.is_on:
        return {fetching.source or "the others": fetching.text}
    if peer.standing is Standing.NO_SWARM:
        return _on_the_way_in(peer)
    if peer.standing is Standing.PAUSED:
        return peer.exchange.pause.waits(peer.course.round_index, now)
    if peer.standing is Standing.WAITING:
        return _before_rounds(peer, now)
    source, round_ = peer.exchange.table.source, peer.round
    if source is not None:
        return {source: _table(peer, now)}
    if round_ is None or round_.phase is Phase.SEAL or _seeks_round(peer):
        return {"the others": "a table of homes, to begin a round with"}
    late = without_offer(round_)
    waits = {
        who: f"its offer, then {reason}" if who in late and reason in LATER else reason
        for who, reason in round_.waiting_for().items()
    }
    return waits or _settling(peer)


NOTHING_TO_DO = (Standing.DONE, Standing.DRAINED, Standing.LEFT)

LATER = ("fused ranges", "ranges at home there")
"""What nobody gives who still trains."""


def without_offer(round_: Round) -> set[str]:
    """Of those that the round waits for, who has not said yet that it has trained."""
    asked = round_.pulls.of_round(round_.number)
    waited = {pull.stream.source for pull in asked if pull.stream.hop in ROUND_HOPS}
    return (
        (waited & round_.splits.keys())
        - round_.offers.keys()
        - round_.attendance.elsewhere
    )


def gives_up_at(peer: Peer) -> dict[str, float]:
    """When the present round gives up what each of these owes it next.

    Nobody is in it for whom nothing says that yet: the own offer comes first.
    """
    round_ = peer.round
    stands_still = peer.standing in (Standing.DONE, Standing.PAUSED)
    if round_ is None or stands_still:
        return {}
    earliest: dict[str, float] = {}
    for pull in round_.pulls.of_round(round_.number):
        is_waited_for = pull.stream.hop in ROUND_HOPS
        due = round_.attendance.due(pull) if is_waited_for else None
        if due is not None:
            source = pull.stream.source
            earliest[source] = min(due, earliest.get(source, due))
    return earliest


def is_returning(peer: Peer) -> bool:
    """Whether it is back after a restart and hears first how far the others are."""
    gossip = peer.gossip
    facts, epoch = gossip.facts, gossip.record.join_epoch
    if peer.standing is not Standing.WAITING or not facts.start:
        return False
    if peer.course.is_outside:
        return False
    # One that begins with the swarm enters round 0 as soon as it knows all records.
    began = gossip.me in facts.start and facts.records.keys() >= set(facts.start)
    return began or epoch != BEFORE_START


def _settling(peer: Peer) -> Waits:
    """All is there, but somebody fell silent a moment ago, and perhaps most do."""
    pause, round_ = peer.exchange.pause, peer.round
    if not pause.is_held:
        is_over = round_ is not None and round_.held
        return (
            {"the others": "a later round: this one is over for them"}
            if is_over
            else {}
        )
    silent = sorted(pause.pending) or ["the others"]
    return dict.fromkeys(silent, "a sign of life, or to see who else is silent")


def _seeks_round(peer: Peer) -> bool:
    """Whether it has left its round for one that the others are in."""
    behind = peer.standing is Standing.CATCHING_UP
    return behind and peer.round is not None and not peer.round.catches_up


def members_there(peer: Peer, now: float) -> int:
    """How many members are online, this peer included."""
    others = set(peer.gossip.others())
    return 1 + len(others & set(peer.gossip.detector.online(now)))


def _on_the_way_in(peer: Peer) -> Waits:
    tries = peer.gossip.joining.knocking
    knocks = {tried.address: tried.last_error for tried in tries}
    return knocks or {"you": "an address to join"}


def _before_rounds(peer: Peer, now: float) -> Waits:
    """In a swarm, but in no round yet."""
    gossip, manifest = peer.gossip, peer.manifest
    facts = gossip.facts
    if peer.course.is_outside:
        epoch = facts.join_epoch(gossip.record) or 0
        return {"the others": f"an epoch with this peer in it; it asked for {epoch}"}
    if is_returning(peer):
        heard = set(gossip.detector.online(now))
        silent = [name for name in gossip.others() if name not in heard]
        reason = "to say in which round it is, after the restart"
        return dict.fromkeys(silent, reason) or {"the others": reason}
    if facts.start:
        unknown = [name for name in facts.start if name not in facts.records]
        return {name: "its record" for name in unknown} or {"the others": "an answer"}
    if manifest is None:
        return {"the others": "an answer"}
    there = members_there(peer, now)
    count = f"{there} of {manifest.min_peers} members are connected"
    records = facts.records.values()
    founders = [each.peer for each in records if each.key == manifest.founder_key]
    if gossip.me in founders:
        return {"more members": f"to begin with: {count}"}
    return {(founders or ["the founder"])[0]: f"the start; {count}"}


def _table(peer: Peer, now: float) -> str:
    """A table of homes was asked for, of the round with which this peer begins."""
    course, gossip = peer.course, peer.gossip
    seen = gossip.claims.observed_round(now)
    if seen >= course.tables.target or peer.manifest is None:
        return f"the table of homes of round {course.tables.target}"
    told = f"round {course.tables.target} to begin there; round {seen} is under way"
    epoch = gossip.facts.join_epoch(gossip.record) or 0
    if epoch > peer.manifest.epoch(seen):
        told += f", and this peer counts from epoch {epoch} on"
    return told
