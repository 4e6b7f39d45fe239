"""What quarantine means for the rounds at hand: they go on without whoever is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfusion.protocol.events import Effect
from p2pfusion.protocol.quarantine import Quarantine
from p2pfusion.protocol.round import Round

if TYPE_CHECKING:
    from p2pfusion.protocol.exchange import Exchange


def shut_out(exchange: Exchange, now: float) -> list[Effect]:
    """Gives up what was expected of those that are in quarantine by now."""
    quarantine = exchange.gossip.quarantine
    effects, new = quarantine.look()
    for peer in new:
        for round_ in exchange.rounds.values():
            _leave_out(round_, peer, quarantine.why(peer))
        effects += exchange.lose(peer, quarantine.why(peer), now)
    return effects


def leave_out(quarantine: Quarantine, round_: Round) -> None:
    """A round begins: nothing is expected of those in quarantine."""
    for peer in quarantine.peers:
        _leave_out(round_, peer, quarantine.why(peer))


def _leave_out(round_: Round, peer: str, why: str) -> None:
    round_.attendance.shut_out(peer)
    if peer in round_.splits:
        round_.missing[peer] = why
