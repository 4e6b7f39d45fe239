"""The closing lists of the rounds at hand: made, taken, passed on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol.events import Effect, Report, Send
from p2pfusion.protocol.exchange import Exchange
from p2pfusion.protocol.listed_round import ListedRound
from p2pfusion.protocol.messages import ClosingList, Offer, Request, SignedClosing
from p2pfusion.protocol.round import Round
from p2pfusion.protocol.statements import read_closing, sign_closing
from p2pfusion.protocol.timing import NEVER_S
from p2pfusion.protocol.work import Work
from p2pfusion.split.hops import FUSED

KEPT_EARLY = 4
"""Lists of a round that lies ahead, from different senders: its closer may be faster,
and so may two that have taken over."""

AHEAD = 2
"""Rounds that lie so far ahead can be closed already where others are."""


class Lists:
    """What one peer does about closing lists."""

    def __init__(self, exchange: Exchange, work: Work) -> None:
        self._exchange = exchange
        self._gossip = exchange.gossip
        self._work = work
        self._early: dict[int, dict[str, SignedClosing]] = {}
        self.are_made = False
        """Whether this swarm has any: with most methods there is nothing to do here."""

    def prepare(self) -> None:
        """There is a manifest now."""
        manifest = self._gossip.manifest
        self.are_made = manifest is not None and manifest.adds_changes

    def _open(self) -> Iterator[ListedRound]:
        """The rounds whose list is not known."""
        for round_ in list(self._exchange.rounds.values()):
            if isinstance(round_, ListedRound) and round_.listing is None:
                yield round_

    def deadline(self) -> float:
        """When ``look`` has something to do, if nothing happens before."""
        instants = (at for r in self._open() for at in (r.closes_at(), r.takes_at()))
        return min((at for at in instants if at is not None), default=NEVER_S)

    def offered(self, peer: str, offer: Offer) -> None:
        """An offer says as well how far its author has moved the model."""
        if not self.are_made:
            return
        last = max(self._exchange.rounds, default=-1)
        if last <= offer.round_index <= last + 1:
            self._exchange.steps.note(peer, offer)

    # --- Lists of others -------------------------------------------------------------

    def received(self, peer: str, message: SignedClosing, now: float) -> list[Effect]:
        """A list came, from its author or from one who passes it on."""
        gossip, rounds = self._gossip, self._exchange.rounds
        author, said = self._read(message)
        if not gossip.is_member(author):
            raise RemoteProtocolError("a closing list by one who is no member")
        round_ = rounds.get(said.round_index)
        if round_ is not None:
            return self._hear(round_, peer, message, now)
        if 0 < said.round_index - max(rounds, default=-1) <= AHEAD:
            early = self._early.setdefault(said.round_index, {})
            if len(early) < KEPT_EARLY:
                early[peer] = message
        return []

    def _read(self, message: SignedClosing) -> tuple[str, ClosingList]:
        gossip = self._gossip
        swarm = gossip.swarm_id
        return read_closing(message.statement, gossip.scheme, swarm=swarm)

    def _hear(
        self, round_: Round, peer: str, message: SignedClosing, now: float
    ) -> list[Effect]:
        author, said = self._read(message)
        if not isinstance(round_, ListedRound):
            raise RemoteProtocolError("a closing list of a round that has none")
        if said.digest != round_.plan.digest:
            return self._gossip.spread.compare(peer, now)
        round_.told.add(peer)
        round_.hear(author, message, said, now)
        return []

    def _hear_early(self, round_: ListedRound, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for peer, message in self._early.pop(round_.number, {}).items():
            try:
                effects += self._hear(round_, peer, message, now)
            except RemoteProtocolError as error:
                details = {"peer": peer, "reason": str(error)}
                effects.append(Report("protocol-error", details))
        return effects

    # --- The own part ----------------------------------------------------------------

    def look(self, now: float) -> list[Effect]:
        """Takes the lists that count by now, and makes those that are due."""
        effects: list[Effect] = []
        for round_ in self._open():
            effects += self._hear_early(round_, now)
            effects += round_.take(self._exchange.online(now), now)
            due = round_.closes_at()
            if due is not None and now >= due:
                effects += self._close(round_)
                effects += round_.take(round_.online, now)
            if round_.leaves_out:
                self._work.left_out(round_.number)
        return effects

    def _close(self, round_: ListedRound) -> list[Effect]:
        gossip, manifest, number = self._gossip, self._gossip.manifest, round_.number
        ready_at = round_.ready_at()
        assert manifest is not None and ready_at is not None
        facts, steps = gossip.facts, self._exchange.steps
        most = min(manifest.max_staleness, number)
        steps.forget(number - most - 1)

        def fraction(peer: str, of_round: int) -> float:
            return float(facts.fraction(peer, manifest.epoch(of_round)))

        said = round_.make_list(fraction, steps.distances(number, most))
        signed = sign_closing(gossip.swarm_id, said, gossip.signer)
        message = SignedClosing(signed)
        round_.hear(gossip.me, message, said, ready_at)
        round_.told.update(gossip.others())
        return gossip.broadcast(message)

    # --- Passing on ------------------------------------------------------------------

    def asked(self, peer: str, request: Request) -> list[Effect]:
        """Who asks for fused values of a round that is closed may have missed that."""
        round_ = self._exchange.rounds.get(request.round_index)
        if request.hop != FUSED or not isinstance(round_, ListedRound):
            return []
        if round_.listing is None or peer in round_.told:
            return []
        round_.told.add(peer)
        return [Send(peer, round_.listing)]

    def repeated(self, effects: Iterable[Effect]) -> list[Effect]:
        """Whom this peer has to ask again may lack the list."""
        found: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Request):
                round_ = self._exchange.rounds.get(effect.message.round_index)
                fused = effect.message.hop == FUSED
                if fused and isinstance(round_, ListedRound) and round_.listing:
                    found.append(Send(effect.peer, round_.listing))
        return found
