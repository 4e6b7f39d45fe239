"""What the protocol wants done with values: streams, sums and offers of rounds.

Between the protocol's effects and ``payloads.py``, which has the numbers, and
``links.py``, which has the connections. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from p2pfusion.daemon.hashing import Hashing
from p2pfusion.daemon.outbox import HEAD, Outbox, Piece
from p2pfusion.daemon.payloads import Payloads
from p2pfusion.daemon.watching import Watching
from p2pfusion.daemon.weighed_payloads import WeighedPayloads
from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol import events
from p2pfusion.protocol.messages import Chunk, StreamStart

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node


class Streams:
    """Performs the effects that move or add values."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.outbox = Outbox(node.transport.waiting, node.transport.under_way)
        """What has to leave, and waits for room on its line."""
        self.hashing = Hashing(node)
        self._watching = Watching()
        self.effects: dict[type, Callable[..., object]] = {
            events.EnterRound: self._enter_round,
            events.OfferLate: self._offer_late,
            events.HashOffer: self.hashing.begin,
            events.OpenReduction: self._open_reduction,
            events.AddOwn: self._add_own,
            events.CloseReduction: self._close_reduction,
            events.FindLacking: self._find_lacking,
            events.KeepOld: self._keep_old,
            events.Settle: self._settle,
            events.OpenSink: self._open_sink,
            events.Absorb: self._absorb,
            events.CloseSink: self._close_sink,
            events.SendStart: self._send_start,
            events.SendChunk: self._send_chunk,
            events.StopServing: self._stop_serving,
            events.Forget: self._forget,
        }
        """What to do for each kind of effect."""

    @property
    def _payloads(self) -> Payloads:
        """The numbers; there is a swarm before there is any of these effects."""
        assert self._node.payloads is not None
        return self._node.payloads

    # --- Rounds ----------------------------------------------------------------------

    def _enter_round(self, effect: events.EnterRound) -> None:
        self._payloads.enter(effect.plan, effect.homes)
        self._note_windows(effect)
        if self._node.disk.is_full:
            return  # it could not be kept
        found = self._payloads.lacking(effect.plan)
        if any(mask.any() for mask in found.cells):
            self._node.handle(found)

    def _note_windows(self, effect: events.EnterRound) -> None:
        plan, round_ = effect.plan, self._node.peer.round
        # A round in which there was nothing to wait for is over by now.
        if round_ is not None and round_.number == plan.round_index:
            windows = self._node.history.windows
            windows.enter(round_.number, plan.layout, round_.splits)

    def _find_lacking(self, effect: events.FindLacking) -> None:
        """Says it when it can be kept: what comes is refused before."""

        def say() -> None:
            round_ = self._node.peer.round
            assert round_ is not None
            self._node.handle(self._payloads.lacking(round_.plan, effect.cells))

        self._node.disk.when_there_is_room(say)

    def _offer_late(self, effect: events.OfferLate) -> None:
        self._payloads.offer_late(effect.round_index, effect.base_round)
        self._node.training.drop(effect.round_index)

    def _open_reduction(self, effect: events.OpenReduction) -> None:
        self._payloads.open_reduction(effect.round_index, effect.instead_of)

    def _add_own(self, effect: events.AddOwn) -> None:
        self._payloads.add_own(effect.round_index, effect.instead_of, effect.weight)

    def _close_reduction(self, effect: events.CloseReduction) -> None:
        with self._node.disk.refusing():
            number = effect.round_index
            moved = self._payloads.close_reduction(number, effect.instead_of)
            if moved:
                self._node.handle(events.Moved(number, moved))
            total = self._payloads.total(number, effect.instead_of)
            for caught in self._watching.note(total.deviations):
                self._node.handle(caught)

    def _keep_old(self, effect: events.KeepOld) -> None:
        number = effect.round_index
        with self._node.disk.refusing():
            self._payloads.keep_old(number, effect.cells)
        self._place(number)

    def _settle(self, effect: events.Settle) -> None:
        payloads, number = self._payloads, effect.round_index
        assert isinstance(payloads, WeighedPayloads)  # nobody else doubts anything
        with self._node.disk.refusing():
            for caught in payloads.settle(number, effect.reducer):
                self._node.handle(caught)
        self._place(number)

    def _place(self, round_index: int | None) -> None:
        """No seal follows the last round: what it brings counts at once."""
        manifest = self._node.peer.manifest
        if manifest is not None and round_index == manifest.rounds:
            self._node.disk.place()

    def _forget(self, effect: events.Forget) -> None:
        self._payloads.forget(effect.round_index)

    # --- Leaving ---------------------------------------------------------------------

    def _send_start(self, effect: events.SendStart) -> None:
        peer, pull = effect.peer, effect.pull
        size, absent = self._payloads.start(peer, pull, effect.stream)
        start = StreamStart(pull, size, effect.samples, absent, effect.base_round)

        def send(_: StreamStart | None) -> bool:
            return self._node.links.send(peer, start)

        self.outbox.add(Piece(peer, pull, HEAD, send, start))

    def _send_chunk(self, effect: events.SendChunk) -> None:
        send = partial(self._give, effect)
        self.outbox.add(Piece(effect.peer, effect.pull, effect.offset, send))

    def _give(self, effect: events.SendChunk, head: StreamStart | None) -> bool:
        peer, pull = effect.peer, effect.pull
        payload = self._payloads.chunk(peer, pull, effect.offset, effect.size)
        if payload is None:
            return False
        chunk = Chunk(pull, effect.offset, payload)
        sent = self._node.links.send(peer, *([] if head is None else [head]), chunk)
        if sent:
            number = effect.stream.round_index
            self._node.history.count_sent(number, payload.nbytes)
        return sent

    def _stop_serving(self, effect: events.StopServing) -> None:
        self.outbox.drop(effect.peer, effect.pull)
        if self._node.payloads is not None:
            self._node.payloads.stop_serving(effect.peer, effect.pull)

    # --- Arriving --------------------------------------------------------------------

    def _open_sink(self, effect: events.OpenSink) -> None:
        try:
            self._payloads.open_sink(effect, self._node.commands.exports.writer)
        except RemoteProtocolError as error:
            source, kind = effect.stream.source, error.offence
            self._node.handle(events.Misbehaved(source, str(error), kind))

    def _absorb(self, effect: events.Absorb) -> None:
        round_index = self._payloads.round_of(effect.pull)
        if round_index is not None:
            size_bytes = effect.payload.nbytes
            self._node.history.count_received(round_index, size_bytes)
        self._payloads.absorb(effect.pull, effect.payload)

    def _close_sink(self, effect: events.CloseSink) -> None:
        number = self._payloads.round_of(effect.pull)
        with self._node.disk.refusing():
            came = self._payloads.close_sink(effect.pull, complete=effect.complete)
            if came is not None:
                self._node.handle(came)
        self._place(number)
