"""Peers that break a promise on purpose, to see that somebody notices."""

from __future__ import annotations

from collections.abc import Callable

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import PeerRecord
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.planning import Planner
from p2pfusion.security import Scheme, Signer
from p2pfusion.simulation.world import Make, make_peer

Before = Callable[[Peer, e.Event], e.Event | None]
"""What the peer is told in place of an event; None for nothing at all."""
After = Callable[[Peer, list[e.Effect]], list[e.Effect]]
"""What it does in place of the effects."""


def _same_event(peer: Peer, event: e.Event) -> e.Event | None:
    return event


def _same_effects(peer: Peer, effects: list[e.Effect]) -> list[e.Effect]:
    return effects


class Broken(Peer):
    """A peer that mishears or does something else."""

    before: Before = staticmethod(_same_event)
    after: After = staticmethod(_same_effects)

    def handle(self, event: e.Event, now: float) -> list[e.Effect]:
        heard = self.before(self, event)
        if heard is None:
            return []
        return self.after(self, super().handle(heard, now))


def broken(
    name: str, *, before: Before = _same_event, after: After = _same_effects
) -> Make:
    """Makes real peers, but for one of this name."""

    class Made(Broken):
        pass

    Made.before, Made.after = staticmethod(before), staticmethod(after)

    def make(
        record: PeerRecord, signer: Signer, scheme: Scheme, planner: Planner
    ) -> Peer:
        if record.peer == name:
            return Made(record, signer, scheme, planner=planner)
        return make_peer(record, signer, scheme, planner)

    return make


def twice(kind: type) -> After:
    """Every effect of a kind is done twice."""

    def after(peer: Peer, effects: list[e.Effect]) -> list[e.Effect]:
        return [x for effect in effects for x in _times(effect, kind)]

    return after


def _times(effect: e.Effect, kind: type) -> list[e.Effect]:
    return [effect] * (2 if isinstance(effect, kind) else 1)


def deaf(*kinds: type) -> Before:
    """Messages and events of these kinds are not heard."""

    def before(peer: Peer, event: e.Event) -> e.Event | None:
        said = event.message if isinstance(event, e.Received) else event
        return None if isinstance(said, kinds) else event

    return before
