"""Who answers.

A peer probes those that it *observes* at an interval and remembers when it last heard
anything from them. Who has been heard within the network's silence is online; after
that it is silent, and nobody waits for it any longer than it takes to notice. In a
small swarm everybody observes everybody. In a large one the others count as online
until there is a reason to doubt: then they are observed, too, until they are heard.

Answers come from the daemon, never from the trainer, so a peer that trains slowly is
slow, not silent. Nobody looks at all peers at an event: instants at which somebody may
fall silent wait in a heap, one for each.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from p2pfusion.protocol.timing import (
    DEFAULT_TIMING,
    LONG_AGO,
    NEVER_S,
    Health,
    Timing,
)

ROUNDING_S = 1e-3
"""Sums of instants are not exact; looking so much earlier costs nothing."""


@dataclass(slots=True)
class Contact:
    """What is known of one peer's connection."""

    watched_since: float
    heard_at: float | None = None
    said_goodbye: bool = False
    round_index: int = -1
    rtt_s: float | None = None
    skew_s: float | None = None
    """How far its clock is ahead of ours."""
    observed: bool = True
    """Whether its silence is noticed here: it is probed, or was asked for something."""
    is_gone: bool = False
    """Whether the facts say that it is gone."""
    alive_until: float = LONG_AGO
    """Until then it is online without another sign."""
    seen_at: float = LONG_AGO
    """When another peer last said that it has an answer from it."""
    queued: bool = False


class Detector:
    """When each peer was last heard, and what it said about itself."""

    def __init__(self, timing: Timing = DEFAULT_TIMING) -> None:
        self.timing = timing
        self.health = Health()
        self.contacts: dict[str, Contact] = {}
        self.furthest = -1
        """The highest round that anybody has ever claimed to be in."""
        self.silent: set[str] = set()
        """Who went silent and was not heard since."""
        self._up: set[str] = set()
        self._connecting: set[str] = set()
        self._sorted_up: list[str] | None = None
        self._news: set[str] = set()
        self._ends: list[tuple[float, str]] = []
        self.quiet_until = NEVER_S
        """When somebody may fall silent; long ago while somebody is."""
        self._observed: frozenset[str] | None = None
        self._doubted: set[str] = set()

    # --- Signs of life ---------------------------------------------------------------

    def watch(self, peer: str, now: float) -> Contact:
        """What is known of a peer; from the first time on, it is watched."""
        contact = self.contacts.get(peer)
        if contact is None:
            observed = self._observed is None or peer in self._observed
            contact = self.contacts[peer] = Contact(now, observed=observed)
            if observed:
                self._connecting.add(peer)
                self._queue(peer, contact, now + self.timing.silence_s)
            else:
                self._rise(peer)
        return contact

    def heard(self, peer: str, now: float) -> bool:
        """Notes a sign of life; True if the peer was not online before."""
        contact = self.contacts.get(peer) or self.watch(peer, now)
        # As ``is_online``: of those that are up nobody has stopped, or is gone.
        is_here = now <= contact.alive_until or not contact.observed
        was_up = is_here and peer in self._up
        contact.heard_at, contact.alive_until = now, now + self.timing.silence_s
        if was_up:
            return False
        contact.said_goodbye = contact.is_gone = False
        self._connecting.discard(peer)
        self._unsilence(peer)
        self._rise(peer)
        if contact.observed:
            self._queue(peer, contact, contact.alive_until)
        return True

    def moves(self, peer: str, now: float) -> None:
        """Bytes come in the peer's name that nobody has checked: it stays, if it is
        there."""
        if self.is_online(peer, now):
            self.heard(peer, now)

    def seen(self, peer: str, now: float) -> None:
        """Another peer says that it has an answer from this one."""
        contact = self.contacts.get(peer)
        if contact is not None:
            contact.seen_at = now

    def forget(self, peer: str) -> None:
        """The peer does not concern us any more."""
        self.contacts.pop(peer, None)
        self._fall(peer)
        self._unsilence(peer)
        self._doubted.discard(peer)

    def goodbye(self, peer: str, now: float) -> None:
        """The peer is stopping: silent at once."""
        self.watch(peer, now).said_goodbye = True
        self._silenced(peer)

    def gone(self, peer: str) -> None:
        """The facts say that the peer is gone; a sign of it says that it is back."""
        contact = self.contacts.get(peer)
        if contact is None or contact.observed:
            return  # the own ears decide
        contact.is_gone = True
        self._silenced(peer)

    def back(self, peer: str) -> None:
        """The peer has said something new: it is there, as far as others may know."""
        contact = self.contacts.get(peer)
        if contact is None or contact.observed or peer in self._up:
            return
        contact.is_gone = contact.said_goodbye = False
        self._unsilence(peer)
        self._rise(peer)

    def in_round(self, peer: str, round_index: int, now: float) -> None:
        """The peer says that it is in this round."""
        contact = self.contacts.get(peer) or self.watch(peer, now)
        contact.round_index = round_index
        if round_index > self.furthest:
            self.furthest = round_index

    def slept(self, seconds: float) -> None:
        """This process did not run for so long: who sleeps does not hear others."""
        for contact in self.contacts.values():
            contact.watched_since += seconds
            contact.alive_until += seconds
            contact.seen_at += seconds
            if contact.heard_at is not None:
                contact.heard_at += seconds
        # Those who wait in the heap are looked at too early, and wait again.

    # --- Whose silence is noticed ----------------------------------------------------

    def observe(self, peers: Iterable[str] | None, now: float) -> None:
        """From now on these are probed; None is everybody, as at the beginning."""
        before = self._observed
        self._observed = None if peers is None else frozenset(peers)
        if self._observed is not None and before is not None:
            changed: Iterable[str] = self._observed ^ before
        else:
            changed = list(self.contacts)
        for peer in changed:
            contact = self.contacts.get(peer)
            if contact is not None:
                self._set_observed(peer, contact, now)

    def _set_observed(self, peer: str, contact: Contact, now: float) -> None:
        wanted = self._observed is None or peer in self._observed
        observed = wanted or peer in self._doubted
        if observed is contact.observed:
            return
        contact.observed = observed
        if not observed:
            # It counts as online from now on, unless it is known not to be.
            if peer in self._connecting:
                self._rise(peer)
        elif peer in self._up:
            end = now + self.timing.silence_s
            contact.alive_until = max(contact.alive_until, end)
            self._queue(peer, contact, contact.alive_until)

    def doubt(self, peer: str, now: float) -> None:
        """Something asked of the peer did not come: look whether it is there."""
        contact = self.contacts.get(peer)
        if contact is not None and not contact.observed:
            self._doubted.add(peer)
            self._set_observed(peer, contact, now)

    def settle_doubts(self, now: float) -> None:
        """Who was doubted and has answered is believed again."""
        for peer in [p for p in self._doubted if p in self._up]:
            contact = self.contacts[peer]
            heard_at = contact.heard_at
            if heard_at is not None and now - heard_at <= self.timing.interval_s:
                self._doubted.discard(peer)
                self._set_observed(peer, contact, now)

    @property
    def probed(self) -> frozenset[str] | set[str]:
        """Who is to be probed, the doubted ones included."""
        if self._observed is None:
            return set(self.contacts)
        return self._observed | self._doubted if self._doubted else self._observed

    # --- Who is there ----------------------------------------------------------------

    def is_online(self, peer: str, now: float) -> bool:
        """Whether the peer counts as there: heard lately, or not doubted."""
        contact = self.contacts.get(peer)
        if contact is None or contact.said_goodbye or contact.is_gone:
            return False
        if not contact.observed:
            return peer in self._up
        return now <= contact.alive_until

    def may_answer(self, peer: str, now: float) -> bool:
        """Whether to ask a peer for something: online, or so new that it may be."""
        contact = self.contacts.get(peer)
        if contact is None or peer not in self._connecting:
            return self.is_online(peer, now)
        return now <= contact.watched_since + self.timing.silence_s

    def online(self, now: float) -> list[str]:
        """All peers that are online, sorted."""
        self._settle(now)
        if self._sorted_up is None:
            self._sorted_up = sorted(self._up)
        return self._sorted_up

    def worth_asking(self, now: float) -> list[str]:
        """All peers that may answer, sorted."""
        online = self.online(now)
        if not self._connecting:
            return online
        return sorted(self._connecting.union(online))

    def listened_to(self, now: float) -> list[str]:
        """Those online whom this peer hears itself: what they last said is fresh."""
        if self._observed is None:
            return self.online(now)
        return sorted(peer for peer in self.probed if self.is_online(peer, now))

    def has_chosen(self, peer: str) -> bool:
        """Whether the peer is one of a few that are observed in a large swarm."""
        return self._observed is not None and peer in self._observed

    def listens_to(self, peer: str) -> bool:
        """Whether the peer is observed, or is not known at all."""
        contact = self.contacts.get(peer)
        return contact is None or contact.observed

    def misses(self, now: float) -> bool:
        """Whether somebody is silent, or may be so by now."""
        return self.quiet_until < now + ROUNDING_S

    def newly_silent(self, now: float) -> list[str]:
        """Peers that went silent since the last call, sorted."""
        self._settle(now)
        if not self._news:
            return []
        new, self._news = sorted(self._news), set()
        return new

    def why_silent(self, peer: str, now: float) -> str:
        """In words, why a peer does not count as online."""
        contact = self.contacts.get(peer)
        if contact is not None and contact.said_goodbye:
            return "stopped"
        if contact is not None and self.is_asymmetric(peer, now):
            return "reachable by others, not from here"
        if contact is not None and contact.is_gone:
            return "gone, say those who observe it"
        if contact is None or contact.heard_at is None:
            return "connecting" if self.may_answer(peer, now) else "never reached"
        return f"silent for {now - contact.heard_at:.0f} s"

    def is_asymmetric(self, peer: str, now: float) -> bool:
        """Whether others hear a peer that is silent to us."""
        contact = self.contacts.get(peer)
        if contact is None or peer not in self.silent or contact.said_goodbye:
            return False
        return now - contact.seen_at <= self.patience_s

    @property
    def patience_s(self) -> float:
        """How long a peer without any sign is only suspected, at this moment."""
        return self.health.suspicion_s(self.timing)

    def last_sign(self, peer: str) -> float:
        """When a peer last gave a sign to anybody that we know of."""
        contact = self.contacts[peer]
        heard = contact.watched_since if contact.heard_at is None else contact.heard_at
        return max(heard, contact.seen_at)

    # --- Sets and instants -----------------------------------------------------------

    def _rise(self, peer: str) -> None:
        self._connecting.discard(peer)
        self._up.add(peer)
        self._sorted_up = None

    def _fall(self, peer: str) -> None:
        self._connecting.discard(peer)
        if peer in self._up:
            self._up.discard(peer)
            self._sorted_up = None

    def _silenced(self, peer: str) -> None:
        self._fall(peer)
        if peer not in self.silent:
            self.silent.add(peer)
            self._news.add(peer)
            self._look_ahead()

    def _unsilence(self, peer: str) -> None:
        self.silent.discard(peer)
        self._news.discard(peer)
        self._look_ahead()

    def _look_ahead(self) -> None:
        if self.silent:
            self.quiet_until = LONG_AGO
        else:
            self.quiet_until = self._ends[0][0] if self._ends else NEVER_S

    def _queue(self, peer: str, contact: Contact, instant: float) -> None:
        """Looks at the peer at this instant, or when it is due already."""
        if not contact.queued:
            contact.queued = True
            heapq.heappush(self._ends, (instant, peer))
            self._look_ahead()

    def _settle(self, now: float) -> None:
        """Notes who has fallen silent by now."""
        while self._ends and self._ends[0][0] < now + ROUNDING_S:
            _, peer = heapq.heappop(self._ends)
            contact = self.contacts.get(peer)
            if contact is None:
                continue
            contact.queued = False
            if not contact.observed or peer in self.silent:
                continue
            end = contact.alive_until
            if peer in self._connecting:
                end = contact.watched_since + self.timing.silence_s
            if end < now:
                self._silenced(peer)
            else:
                self._queue(peer, contact, max(end, now + 2 * ROUNDING_S))
        self._look_ahead()
