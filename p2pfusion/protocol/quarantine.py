"""Peers that this one goes on without, though they are members.

In quarantine is whom evidence convicts, for good, and who was caught here often enough
(``offences.py``), until that has faded or the user pardons it. Nobody waits for such a
peer and nothing that it offers, has fused or keeps is taken; where it is the reducer,
the backup does its work. It stays connected and is served: it may be right about
everything else, and what it says of others is signed or believed of several only.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from p2pfusion.protocol.events import Caught, Effect, Pardon, Report, SaveOffences
from p2pfusion.protocol.offences import Offences

if TYPE_CHECKING:
    from p2pfusion.protocol.gossip import Gossip


class Quarantine:
    """Who is in it at one peer, and why."""

    def __init__(self, gossip: Gossip) -> None:
        self._gossip = gossip
        self.offences = Offences()
        self._round_index = 0
        self._seen: frozenset[str] = frozenset()
        """Who was in it when that was last looked at."""

    @property
    def peers(self) -> frozenset[str]:
        """Who is in it."""
        out, convicted = self.offences.out, self._gossip.facts.convicted
        return out.union(convicted) - {self._gossip.me} if out or convicted else out

    def among(self, peers: Collection[str]) -> list[str]:
        """Those of some peers that are not in it, in their order."""
        out = self.peers
        return [peer for peer in peers if peer not in out] if out else list(peers)

    def why(self, peer: str) -> str:
        """The same for a round's report."""
        return f"quarantined: {self.reason(peer)}"

    def reason(self, peer: str) -> str:
        """In words, why a peer is in it; "" if it is not."""
        if peer not in self.peers:
            return ""
        proven = self._gossip.facts.convicted.get(peer)
        if proven is not None:
            number = proven.round_index
            return f"it has signed two different offers of round {number}"
        charge = self.offences.of(peer)
        return "" if charge is None else charge.detail

    # --- Changes ---------------------------------------------------------------------

    def told(self, event: Caught | Pardon) -> list[Effect]:
        """The own side has caught a peer, or the user forgives one."""
        if isinstance(event, Caught):
            return self.note(event.peer, event.kind, event.detail)
        forgives = self.offences.pardon(event.peer)
        return [SaveOffences(self.offences.charges)] if forgives else []

    def note(self, peer: str, kind: str, detail: str) -> list[Effect]:
        """A peer was caught at something. Only members are remembered."""
        gossip = self._gossip
        if not kind or peer == gossip.me or not gossip.is_member(peer):
            return []
        self._follow_round()
        before = self.offences.of(peer)
        self.offences.note(peer, kind, detail)
        if self.offences.of(peer) == before:
            return []
        return [SaveOffences(self.offences.charges)]

    def has_news(self) -> bool:
        """Whether ``look`` has something to do: a round has begun, or others are in."""
        if self._gossip.round_index != self._round_index:
            return True
        if not (self._seen or self.offences.out or self._gossip.facts.convicted):
            return False  # as nearly always
        return self.peers != self._seen

    def look(self) -> tuple[list[Effect], list[str]]:
        """What is to be said of who has come, and who has gone; and who has come."""
        effects: list[Effect] = []
        if self._follow_round():
            effects.append(SaveOffences(self.offences.charges))
        now_in = self.peers
        if now_in == self._seen:
            return effects, []
        new, back = sorted(now_in - self._seen), sorted(self._seen - now_in)
        self._seen = now_in
        for peer in new:
            told = {"peer": peer, "why": self.reason(peer), "round": self._round_index}
            effects.append(Report("quarantined", told))
        effects += [Report("pardoned", {"peer": peer}) for peer in back]
        return effects, new

    def _follow_round(self) -> bool:
        """Offences fade as rounds pass; whether somebody is back for that."""
        if self._gossip.round_index == self._round_index:
            return False
        self._round_index = self._gossip.round_index
        return bool(self.offences.enter(self._round_index))
