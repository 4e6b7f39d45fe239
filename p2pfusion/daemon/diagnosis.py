"""In which state a running peer is, in words, whom it waits for, and what to do.

A state is one of ``STATES``; docs/operations.md explains each. What a peer waits for
says ``protocol/waiting.py``; here it gets people's names, the trainer's progress and
the seconds that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.joining import Knocking
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.phases import Phase
from p2pfusion.protocol.waiting import (
    gives_up_at,
    is_returning,
    members_there,
    waiting_for,
    without_offer,
)

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

Data = dict[str, object]

STATES = {
    "no-swarm": "join one: p2pfusion join TICKET, with a ticket from an admin of it",
    "founding": "",
    "knocking": "check the address, and that a daemon of the swarm listens there",
    "pending": "ask an admin to compare your id (p2pfusion id) and let you in",
    "denied": "ask an admin of the swarm for a new ticket: p2pfusion invite create",
    "fetching": "",
    "waiting-start": "start the others, or let some in: p2pfusion invite create; "
    "then round 0 begins",
    "returning": "",
    "waiting-epoch": "",
    "catching-up": "",
    "training": "",
    "waiting-offers": "",
    "exchanging": "",
    "paused": "start the others or repair the network; if they are gone for good, an "
    "admin can go on without them: p2pfusion recover",
    "draining": "to stop at once: p2pfusion stop",
    "coming-back": "",
    "left": "to come back: p2pfusion join TICKET; to end the daemon: p2pfusion stop",
    "cloned": "stop one of the two daemons for good, and start the other one again",
    "done": "assemble the model: p2pfusion export model.safetensors",
    "put-out": "talk to an admin; with another --home this machine is a new peer",
}
"""Every state, and what a person can do about it; "" where there is nothing to do."""


@dataclass(frozen=True)
class State:
    """Where a peer stands, for people."""

    code: str
    text: str

    def to_data(self) -> Data:
        """For the answer to ``status``."""
        advice = STATES[self.code]
        return {"code": self.code, "text": self.text, "advice": advice or None}


# --- Whom it waits for ---------------------------------------------------------------


def waits(node: Node) -> list[Data]:
    """Whom this peer waits for: name, id, reason, seconds until it goes on without."""
    peer, now = node.peer, node.now()
    if _is_founding(node):
        return [_wait("trainer", None, "the model's layout")]
    ends, known = gives_up_at(peer), peer.gossip.facts.records
    return [
        _wait(
            node.name_of(who),
            who if who in known else None,
            _progress(node, who, reason),
            max(0.0, ends[who] - now) if who in ends else None,
        )
        for who, reason in waiting_for(peer, now).items()
    ]


def wait_text(wait: Data) -> str:
    """One wait in words."""
    left = wait["gives_up_in_s"]
    until = f" for at most {left:.0f} s more" if isinstance(left, float) else ""
    return f"{wait['peer']}: {wait['reason']}{until}"


def _wait(
    name: str, peer: str | None, reason: str, gives_up_in_s: float | None = None
) -> Data:
    return {
        "peer": name,
        "id": peer,
        "reason": reason,
        "gives_up_in_s": gives_up_in_s,
    }


def _progress(node: Node, who: str, reason: str) -> str:
    progress = node.apprentice.progress
    if who != node.peer.gossip.me or reason != "training":
        return reason
    if progress is None:
        state = node.apprentice.state
        return reason if state == reason else f"training (the trainer is {state})"
    return f"training, step {progress[0]} of {progress[1]}"


# --- In which state it is ------------------------------------------------------------


def state_of(node: Node) -> State:
    """The state, by the first rule that fits."""
    peer, now = node.peer, node.now()
    if peer.gossip.me in peer.gossip.facts.revoked:
        return State("put-out", "an admin has put this peer out of the swarm")
    if peer.twin.address:
        text = f"another daemon has this peer's identity, at {peer.twin.address}"
        return State("cloned", text)
    if node.ending.drains_until is not None:
        left_s = max(0.0, node.ending.drains_until - now)
        text = f"finishes its round, then stops, in {left_s:.0f} s at the latest"
        return State("draining", text)
    if peer.exchange.fetching.is_on:
        return _fetching(node)
    if _is_coming_back(node):
        epoch = peer.gossip.facts.join_epoch(peer.gossip.record)
        text = f"was out of the roster, and takes part again from epoch {epoch} on"
        return State("coming-back", text)
    match peer.standing:
        case Standing.NO_SWARM:
            return _on_the_way_in(node)
        case Standing.WAITING:
            return _before_rounds(peer, now)
        case Standing.PAUSED:
            return State("paused", f"{quorum(peer, now)}; rounds stand still")
        case Standing.LEFT:
            return State("left", f"has left the swarm with epoch {_epoch(peer)}")
        case Standing.CATCHING_UP:
            return _behind(peer, now)
        case Standing.DONE:
            return State("done", _done(peer, now))
    return _in_round(peer)


def _done(peer: Peer, now: float) -> str:
    """All rounds are over; and what it lacks of what it shall keep, if anything."""
    rounds, upkeep = peer.manifest.rounds if peer.manifest else 0, peer.exchange.upkeep
    text = f"all {rounds} rounds are done; it serves the result"
    if not upkeep.lacking:
        return text
    rests = upkeep.is_at_rest(now)
    what = "that nobody there has" if rests else "and asks others for them"
    return f"{text}; it lacks copies of {upkeep.lacking} parts {what}"


def _is_coming_back(node: Node) -> bool:
    """Whether the others had put it out, and the epoch of its return lies ahead."""
    peer, gossip = node.peer, node.peer.gossip
    if peer.manifest is None or peer.standing is Standing.LEFT:
        return False
    epoch = gossip.facts.join_epoch(gossip.record) or 0
    lies_ahead = gossip.me in node.history.back and epoch > gossip.epoch(node.now())
    return lies_ahead or peer.course.is_outside


def quorum(peer: Peer, now: float) -> str:
    """``no quorum: 2 of 5``: how many are there of how many that count."""
    return next(iter(waiting_for(peer, now).values()))


def _is_founding(node: Node) -> bool:
    return node.peer.standing is Standing.NO_SWARM and node.is_founder


def _on_the_way_in(node: Node) -> State:
    if _is_founding(node):
        return State("founding", "about to found a swarm")
    tries = node.peer.gossip.joining.knocking
    if not tries:
        return State("no-swarm", "in no swarm, and on the way into none")
    if any(tried.answer == "pending" for tried in tries):
        return State("pending", "has knocked, and waits to be let in by an admin")
    if node.peer.gossip.joining.is_hopeless:
        return State("denied", f"was turned away: {tries[0].last_error}")
    return State("knocking", f"knocks at {_places(tries)}; nobody has let it in yet")


def _places(tries: Sequence[Knocking]) -> str:
    return ", ".join(tried.address for tried in tries)


def _fetching(node: Node) -> State:
    """Without the checkpoint that the swarm begins with it can begin nothing."""
    fetching = node.peer.exchange.fetching
    source = fetching.source
    from_whom = "a member that has it" if source is None else node.name_of(source)
    return State("fetching", f"gets {fetching.text}, from {from_whom}")


def _epoch(peer: Peer) -> int:
    return peer.gossip.record.leave_epoch


def _before_rounds(peer: Peer, now: float) -> State:
    if is_returning(peer):
        number = peer.gossip.round_index
        text = f"is back after a restart, with everything before round {number}"
        return State("returning", text)
    facts = peer.gossip.facts
    if facts.start and peer.gossip.me not in facts.start:
        return State("waiting-epoch", "is a member, and hears how far the others are")
    there, manifest = members_there(peer, now), peer.manifest
    wanted = manifest.min_peers if manifest else 1
    text = f"waits for the start: {there} of {wanted} members are connected"
    return State("waiting-start", text)


def _behind(peer: Peer, now: float) -> State:
    """Behind the others, or new among them."""
    gossip, manifest = peer.gossip, peer.manifest
    epoch = gossip.facts.join_epoch(gossip.record) or 0
    seen = gossip.claims.observed_round(now)
    if manifest is not None and epoch > manifest.epoch(max(seen, 0)):
        first = epoch * manifest.rounds_per_epoch
        text = f"is a member from epoch {epoch} on, which begins with round {first}"
        return State("waiting-epoch", text)
    target = max(peer.course.tables.target, 0)
    text = f"catches up with the others, to go on with them from round {target}"
    return State("catching-up", text)


def _in_round(peer: Peer) -> State:
    round_ = peer.round
    if round_ is None:
        return State("catching-up", "looks for a round to go on with")
    where = f"round {round_.number}"
    if round_.phase is Phase.TRAIN:
        return State("training", f"{where}: trains its sub-model")
    late = without_offer(round_)
    if late:
        count = f"{len(late)} of {len(round_.attendance.expected)} others"
        return State("waiting-offers", f"{where}: {count} still train")
    return State("exchanging", f"{where}: exchanges values with the others")
