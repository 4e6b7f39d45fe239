"""Who answers.

Every peer probes every other at an interval and remembers when it last heard anything
from it. A peer that has been heard within ``SILENCE_S`` is online; after that it is
silent, and nobody waits for it any longer than it takes to notice. Answers come from
the daemon, never from the trainer, so a peer that trains slowly is slow, not silent.
"""

from __future__ import annotations

from dataclasses import dataclass

PROBE_INTERVAL_S = 1.0
"""Between two probes of one peer: noticing takes a few seconds, and a hundred peers
cost a hundred small messages a second."""

SILENCE_S = 4.0
"""Without a sign for so long, a peer is silent: four lost probes in a row."""


@dataclass
class Contact:
    """What is known of one peer's connection."""

    watched_since: float
    heard_at: float | None = None
    said_goodbye: bool = False
    round_index: int = -1
    rtt_s: float | None = None


class Detector:
    """When each peer was last heard, and what it said about itself."""

    def __init__(self) -> None:
        self.contacts: dict[str, Contact] = {}
        self._sent_at: dict[int, float] = {}
        self._next_probe_at = 0.0
        self._silent: set[str] = set()
        self._nonce = 0

    def watch(self, peer: str, now: float) -> Contact:
        """What is known of a peer; from the first time on, it is watched."""
        return self.contacts.setdefault(peer, Contact(watched_since=now))

    def heard(self, peer: str, now: float) -> bool:
        """Notes a sign of life; True if the peer was not online before."""
        contact = self.watch(peer, now)
        was_online = self.is_online(peer, now)
        contact.heard_at = now
        contact.said_goodbye = False
        self._silent.discard(peer)
        return not was_online

    def forget(self, peer: str) -> None:
        """The peer does not concern us any more."""
        self.contacts.pop(peer, None)
        self._silent.discard(peer)

    def goodbye(self, peer: str, now: float) -> None:
        """The peer is stopping: silent at once."""
        self.watch(peer, now).said_goodbye = True

    def in_round(self, peer: str, round_index: int, now: float) -> None:
        """The peer says that it is in this round."""
        self.watch(peer, now).round_index = round_index

    def is_online(self, peer: str, now: float) -> bool:
        """Whether the peer was heard lately and has not said goodbye since."""
        contact = self.contacts.get(peer)
        if contact is None or contact.heard_at is None or contact.said_goodbye:
            return False
        return now - contact.heard_at <= SILENCE_S

    def may_answer(self, peer: str, now: float) -> bool:
        """Whether to ask a peer for something: online, or so new that it may be."""
        contact = self.contacts.get(peer)
        if contact is None or contact.heard_at is not None:
            return self.is_online(peer, now)
        return not contact.said_goodbye and now - contact.watched_since <= SILENCE_S

    def online(self, now: float) -> list[str]:
        """All peers that are online, sorted."""
        return sorted(peer for peer in self.contacts if self.is_online(peer, now))

    def worth_asking(self, now: float) -> list[str]:
        """All peers that may answer, sorted."""
        return sorted(peer for peer in self.contacts if self.may_answer(peer, now))

    def newly_silent(self, now: float) -> list[str]:
        """Peers that went silent since the last call, sorted."""
        gone = {peer for peer in self.contacts if not self.may_answer(peer, now)}
        new = sorted(gone - self._silent)
        self._silent |= gone
        return new

    def probe_due(self, now: float) -> bool:
        """Whether it is time to probe; if so, the next time is set."""
        if now < self._next_probe_at:
            return False
        self._next_probe_at = now + PROBE_INTERVAL_S
        return True

    def new_nonce(self, now: float) -> int:
        """A number for a probe that is sent now."""
        self._nonce += 1
        self._sent_at[self._nonce] = now
        self._sent_at.pop(self._nonce - 4096, None)  # bounded: old probes are lost
        return self._nonce

    def answered(self, peer: str, nonce: int, now: float) -> None:
        """A probe came back: note the round-trip time."""
        sent_at = self._sent_at.get(nonce)
        if sent_at is not None:
            self.watch(peer, now).rtt_s = now - sent_at

    def why_silent(self, peer: str, now: float) -> str:
        """In words, why a peer does not count as online."""
        contact = self.contacts.get(peer)
        if contact is None or contact.heard_at is None:
            return "connecting" if self.may_answer(peer, now) else "never reached"
        if contact.said_goodbye:
            return "stopped"
        return f"silent for {now - contact.heard_at:.0f} s"

    @property
    def next_probe_at(self) -> float:
        """When the next probes are due; silence is noticed then, too."""
        return self._next_probe_at
