"""Whether this peer trains a round, and how much it trains at all.

A round that cannot be trained now (no room on the disk, a trainer that rests) is held,
and trained as soon as it can be. When another peer has offered values for it, it is
given up: nobody waits for a peer in trouble, and a swarm of which all are in trouble
stays in its round instead of racing through rounds that nobody trains.

A sub-model that memory does not suffice for is made smaller, by a new split fraction
that counts from a later epoch on.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

from p2pfusion.daemon.apprentice import FITTING
from p2pfusion.daemon.budget import Candidate, candidates
from p2pfusion.daemon.config import Profile
from p2pfusion.daemon.health import CHECK_LOG, Trouble
from p2pfusion.daemon.memory import (
    copies_of,
    fitting_fraction,
    machine_bytes,
    parse_size,
)
from p2pfusion.daemon.outcomes import FoundOut, Measured, Trained
from p2pfusion.daemon.state import SwarmState
from p2pfusion.methods import announcing, split_fraction
from p2pfusion.protocol import events
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.objectives import views_of
from p2pfusion.split.depth import is_cut_in_depth
from p2pfusion.split.layout import Layout

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

TROUBLE = "split-fraction"
ANNOUNCEMENT = "announcement"
ACCURACY = "accuracy"
LOWERED = Fraction(1, 2)
"""A split fraction that was too much is halved: a quarter of a wide layer's weights."""


class Training:
    """Between the protocol's wish to train and the trainer."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._held: events.StartTraining | None = None
        self._candidates: list[Candidate] = []
        self._then: Callable[[], None] = lambda: None
        self._most = Fraction(1)
        """No larger fraction fits into memory, as far as is known."""

    def start(self, effect: events.StartTraining) -> None:
        """A round is to be trained."""
        self._held = effect
        self._node.disk.retry()
        self._announce(effect.learning_rate)
        self.check()

    def _announce(self, learning_rate: float) -> None:
        """Where the method asks for it: what the trainer finds out comes first, unless
        that was done before a restart."""
        node = self._node
        if not node.peer.leaving.lacks_announcement(node.now()):
            return
        fraction = node.peer.gossip.record.split_fraction
        known = node.state.load_announced(fraction)
        if known is not None:
            node.handle(events.Announced(known))
            return
        manifest = node.peer.manifest
        assert manifest is not None, "a round is trained"
        method = announcing(manifest.trained_by)
        assert method is not None, "an announcement is lacking"
        asked = method.asks(manifest.layout, split_fraction(fraction, "own record"))
        question = {"asked": asked, "learning_rate": learning_rate}
        node.apprentice.find_out(fraction, question)

    def found_out(self, found: FoundOut) -> None:
        """The trainer has found out what to announce."""
        self._node.state.save_announced(found.split_fraction, found.announced)
        self._node.handle(events.Announced(found.announced))

    def not_found_out(self, reason: str) -> None:
        """It has not: this peer goes on without."""
        text = f"the trainer found nothing to announce: {reason}"
        self._node.troubles[ANNOUNCEMENT] = Trouble("warn", text, CHECK_LOG)

    def trained(self, trained: Trained) -> None:
        """A round's values are there: others may have them."""
        node, number, loss = self._node, trained.round_index, trained.loss
        assert node.payloads is not None
        node.payloads.offered(number, trained.offer, trained.split, trained.since)
        if trained.is_measured:
            node.history.measured_now = number
        node.commands.loss = loss
        samples, norm, seconds = trained.samples, trained.norm, trained.seconds
        if node.profile.peer.privacy is not None:
            samples, loss = 1, 0.0  # the noise is on the change, and on nothing else
        finished = events.TrainingFinished(
            number, samples, loss, norm, seconds, trained.l1
        )
        node.handle(finished)

    def measured(self, measured: Measured) -> None:
        """It is known how good they are, or that it will not be."""
        node, number = self._node, measured.round_index
        node.history.measured(number, measured.accuracy)
        node.commands.accuracy = measured.accuracy
        if measured.accuracy is None:
            text = f"the accuracy of round {number} is not known: {measured.reason}"
            node.troubles[ACCURACY] = Trouble("warn", text, CHECK_LOG)
        else:
            node.troubles.pop(ACCURACY, None)

    def drop(self, number: int) -> None:
        """A round is offered without being trained."""
        if self._held is not None and self._held.round_index == number:
            self._held = None
        self._node.apprentice.drop(number)

    def check(self) -> None:
        """Trains or gives up a round that is held, if it is time to."""
        held = self._held
        if held is None:
            return
        node, number = self._node, held.round_index
        why = self._obstacle(held)
        if not why:
            self._held = None
            node.performed(node.apprentice.train(held))
        elif self._is_over(number):
            self._held = None
            node.handle(events.TrainingFailed(number, why))

    def _obstacle(self, held: events.StartTraining) -> str:
        node = self._node
        if not node.disk.has_room(held.split):
            return node.disk.reason()
        if self._candidates:
            return FITTING
        if self._is_too_large(held.round_index):
            return f"memory suffices for {self._most} of the model, from later on"
        return node.apprentice.resting

    def _is_too_large(self, round_index: int) -> bool:
        """Whether a round was planned with an estimate, and that was too high."""
        peer = self._node.peer
        assert peer.manifest is not None, "a round is trained"
        epoch = peer.manifest.epoch(round_index)
        return peer.gossip.facts.fraction(peer.gossip.me, epoch) > self._most

    def _is_over(self, number: int) -> bool:
        """Whether others have gone on, or wait by now for what we cannot give."""
        round_ = self._node.peer.round
        if round_ is not None and round_.number < number:
            return False  # it is trained ahead
        if round_ is None or round_.number != number:
            return True
        return any(offer.samples for _, offer in round_.offers.values())

    # --- How much --------------------------------------------------------------------

    def set_up(
        self, manifest: Manifest, then: Callable[[], None] = lambda: None
    ) -> None:
        """Tells the trainer of the swarm. With ``auto`` it is asked, too, how much of
        the model this machine's memory suffices for: until that is known nothing is
        trained, and others plan with an estimate. ``then`` is called afterwards."""
        node, profile = self._node, self._node.profile
        state = node.state
        owed = state.owed if manifest.wire.is_lossy else None
        node.apprentice.set_up(
            manifest,
            store=state.store,
            offers=state.offers,
            spent=node.home.spent,
            owed=owed,
        )
        wish = wish_of(profile)
        if not profile.auto_fraction or node.state.load_fraction(wish) is not None:
            then()
            return
        self._candidates, self._then = candidates(manifest), then
        memory_bytes = memory_of(profile)
        node.apprentice.fit([each.split for each in self._candidates], memory_bytes)
        batch, copies = step_of(profile, manifest)
        self._change(
            fitting_fraction(manifest.layout, batch, memory_bytes, copies=copies)
        )

    def fitted(self, chosen: int) -> None:
        """The trainer knows which of the candidates fits."""
        found, self._candidates = self._candidates[chosen], []
        self._node.state.save_fraction(found.fraction, wish=wish_of(self._node.profile))
        self._most = found.fraction
        self._change(found.fraction)
        then, self._then = self._then, lambda: None
        then()

    def _change(self, fraction: Fraction) -> None:
        if fraction != Fraction(self._node.peer.gossip.record.split_fraction):
            self._node.handle(events.ChangeFraction(str(fraction)))

    def too_slow(self) -> None:
        """Late some rounds in a row: with ``auto``, train less."""
        if self._node.profile.auto_fraction:
            self.too_large("too late some rounds in a row")

    def too_large(self, why: str) -> None:
        """Memory did not suffice some times in a row: train less."""
        node = self._node
        manifest, record = node.peer.manifest, node.peer.gossip.record
        if manifest is None:
            return
        epoch = manifest.epoch(max(0, node.peer.gossip.round_index))
        if record.former_fraction and record.since_epoch > epoch:
            return  # less is on its way
        now = Fraction(record.split_fraction)
        lower = max(now * LOWERED, smallest_fraction(manifest.layout))
        if lower >= now:
            text = f"{why}, at the smallest split fraction that this model allows"
            node.troubles[TROUBLE] = Trouble("error", text, CHECK_LOG)
            return
        text = f"{why}: from a later epoch on this peer trains {lower}, not {now}"
        hint = (
            f"to keep that, set split_fraction = {float(lower):g} in the profile; or "
            "close other programs, or lower the swarm's batch"
        )
        node.troubles[TROUBLE] = Trouble("warn", text, hint)
        node.state.save_fraction(lower, wish=wish_of(node.profile))
        node.handle(events.ChangeFraction(str(lower)))


def smallest_fraction(layout: Layout) -> Fraction:
    """One cell of the axis that has fewest; where depth is cut, one layer of all."""
    if is_cut_in_depth(layout):
        return Fraction(1, len(layout.layers))
    return Fraction(1, min((axis.cell_count for axis in layout.axes), default=1))


def first_fraction(profile: Profile, state: SwarmState) -> Fraction:
    """What a start says that this peer trains: what came of the same wish before."""
    kept = state.load_fraction(wish_of(profile))
    return profile.peer.split_fraction if kept is None else kept


def wish_of(profile: Profile) -> str:
    """What the profile says about the split fraction; another wish is tried anew."""
    if profile.auto_fraction:
        return f"auto:{memory_of(profile)}"
    return str(profile.peer.split_fraction)


def step_of(profile: Profile, manifest: Manifest) -> tuple[int, int]:
    """Examples that one process of the trainer computes with in a step, and copies of
    the sub-model beside values and gradients that it keeps."""
    peer = profile.peer
    examples = (peer.batch or manifest.batch) * views_of(manifest.objective)
    # Gradients on their way to the other processes are one more copy.
    copies = copies_of(manifest) + (peer.processes > 1)
    return -(-examples // peer.processes), copies


def memory_of(profile: Profile) -> int:
    """Bytes that each process of the trainer may use: a card's own, or its part of what
    they share."""
    stated = parse_size(profile.peer.memory or "") or machine_bytes()
    return stated if profile.peer.has_card else stated // profile.peer.processes
