"""What the effects of a peer do to its simulated machine.

The counterpart of ``daemon/node.py`` and ``daemon/payloads.py``: disk, trainer,
streams. Every effect has a method, which gives its line of the log. An effect that
waits for the disk moves the life's clock: what comes after it in the list happens
later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import TABLE, Chunk, StreamStart
from p2pfusion.protocol.stream import stream_bytes
from p2pfusion.simulation.disk import File, Progress
from p2pfusion.simulation.doubts import caught, changeable, moved, note_lacking
from p2pfusion.simulation.eventlog import FORMATS, stream_words
from p2pfusion.simulation.holdings import Parcel
from p2pfusion.simulation.machine import Life, Reduction, Sink
from p2pfusion.split.hops import CONTRIBUTION, EXPORT, FUSED, SEEDS
from p2pfusion.split.plan import ExchangePlan

if TYPE_CHECKING:
    from p2pfusion.simulation.world import World

SAMPLES = 100
ZEROS = memoryview(bytes(1 << 20))
"""What streams carry: as many bytes as the plan says, of no meaning."""

Line = str
Content = TypeVar("Content")


class Hands:
    """Performs effects."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._perform: dict[type, Callable[..., Line | None]] = {
            e.Dial: self._dial,
            e.Bar: lambda life, x: world.carrier.bar(life, x.peer),
            e.Ask: world.carrier.ask,
            e.Knock: world.carrier.knock,
            e.Reply: self._reply,
            e.SaveInvites: self._save_invites,
            e.Adopt: self._adopt,
            e.SaveFacts: self._save_facts,
            e.SaveOffences: self._save_offences,
            e.HashOffer: self._hash_offer,
            e.EnterRound: self._enter_round,
            e.StartTraining: self._start_training,
            e.OfferLate: self._offer_late,
            e.OpenReduction: self._open_reduction,
            e.AddOwn: self._add_own,
            e.CloseReduction: self._close_reduction,
            e.FindLacking: self._find_lacking,
            e.KeepOld: self._keep_old,
            e.Settle: lambda life, x: self._tell(life, caught(life)),
            e.OpenSink: self._open_sink,
            e.Absorb: self._absorb,
            e.CloseSink: self._close_sink,
            e.SendStart: self._send_start,
            e.SendChunk: self._send_chunk,
            e.StopServing: self._stop_serving,
            e.Seal: self._seal,
            e.Forget: self._forget,
            e.Assembled: self._assembled,
            e.Report: self._report,
        }

    def perform(self, life: Life, effects: list[e.Effect], lines: list[Line]) -> None:
        """Performs them in order, and adds a line for each."""
        carrier, numbers = self._world.carrier, life.numbers
        carrier.close()
        for effect in effects:
            if numbers is not None:
                numbers.perform(effect)
            if type(effect) is e.Send:  # as most are
                lines.append(carrier.post(life, effect.peer, effect.message))
                continue
            kind = type(effect)
            line = self._perform[kind](life, effect)
            lines.append(FORMATS[kind](effect) if line is None else line)

    # --- Messages --------------------------------------------------------------------

    def _reply(self, life: Life, effect: e.Reply) -> Line:
        return self._world.carrier.post(life, effect.record.peer, effect.message)

    def _dial(self, life: Life, effect: e.Dial) -> None:
        record = effect.record
        life.sessions[record.peer] = record.exchange_key
        life.relays[record.peer] = effect.relay.peer if effect.relay else ""
        self._world.carrier.admit(life, record.peer)

    # --- Disk ------------------------------------------------------------------------

    def _write(
        self, life: Life, name: str, file: File[Content], content: Content
    ) -> None:
        """Replaces a file, and waits until that is durable."""
        begun_at = life.clock
        life.clock += life.machine.disk.syncing_s()
        file.write(content, begun_at, life.clock)
        self._world.checks.written(life, name, content, begun_at, life.clock)

    def _adopt(self, life: Life, effect: e.Adopt) -> None:
        disk = life.machine.disk
        if disk.manifest.content is None:
            self._write(life, "manifest", disk.manifest, effect.manifest)

    def _save_facts(self, life: Life, effect: e.SaveFacts) -> None:
        self._world.checks.facts_saved(life, effect.facts)
        self._write(life, "facts", life.machine.disk.facts, effect.facts)

    def _save_invites(self, life: Life, effect: e.SaveInvites) -> None:
        self._write(life, "invites", life.machine.disk.invites, effect.invites)

    def _save_offences(self, life: Life, effect: e.SaveOffences) -> None:
        self._write(life, "offences", life.machine.disk.offences, effect.charges)

    def _seal(self, life: Life, effect: e.Seal) -> None:
        self._world.checks.sealing(life, effect)
        disk = life.machine.disk
        self._write(life, "store", disk.cells, life.holdings.sealed())
        progress = Progress(effect.next_round, effect.homes)
        self._write(life, "progress", disk.progress, progress)
        life.machine.sealed_at = life.clock

    # --- Rounds ----------------------------------------------------------------------

    def _enter_round(self, life: Life, effect: e.EnterRound) -> None:
        plan = effect.plan
        life.plans[plan.round_index] = plan
        life.homes[plan.round_index] = effect.homes
        note_lacking(life, plan, self._world.manifest)
        self._world.checks.entering(life, plan)
        found = life.holdings.lacking(plan)
        if any(mask.any() for mask in found.cells):
            self._tell(life, [found])

    def _forget(self, life: Life, effect: e.Forget) -> None:
        number = effect.round_index
        life.plans.pop(number, None)
        life.homes.pop(number, None)
        life.late.pop(number, None)
        for key in [key for key in life.reductions if key[0] == number]:
            del life.reductions[key]
            life.fused.pop(key, None)

    def _start_training(self, life: Life, effect: e.StartTraining) -> None:
        self._world.checks.training(life, effect)
        life.next_training = effect
        if life.peer.leaving.lacks_announcement(life.clock):
            found = e.Announced(self._world.announces(life.peer.gossip.record))
            self._tell(life, [found])
        self.train_next(life, life.clock)

    def train_next(self, life: Life, at: float) -> None:
        """One round at a time; of those that wait the newest."""
        if life.training is None and life.next_training is not None:
            life.training, life.next_training = life.next_training, None
            if life.numbers is not None:
                life.numbers.train(life.training)
            takes = life.machine.training_takes()
            self._world.at(at + takes, self._trained, (life, takes))

    def _trained(self, what: tuple[Life, float]) -> None:
        life, seconds = what
        if not life.is_current or life.training is None:
            return  # it ended with its daemon
        done = life.training
        number, split = done.round_index, done.split
        if life.machine.failing > 0:
            life.machine.failing -= 1
            self._world.give(life, e.TrainingFailed(number, "out of memory"))
        else:
            life.trained = (number, split.trained)
            samples, loss, norm, l1 = SAMPLES, 1.0, 0.5, 1.0
            if life.numbers is not None:
                result = life.numbers.trained(done)
                samples, loss = result.samples, result.loss
                norm, l1 = result.norm, result.l1
            finished = e.TrainingFinished(number, samples, loss, norm, seconds, l1)
            self._world.give(life, finished)

    def _offer_late(self, life: Life, effect: e.OfferLate) -> None:
        self._world.checks.late(life, effect)
        waits = life.next_training
        if waits is not None and waits.round_index == effect.round_index:
            life.next_training = None
        if life.trained is not None:
            _, split = life.trained
            plan = life.plans[effect.round_index]
            life.late[effect.round_index] = plan.inside(split)

    def _hash_offer(self, life: Life, effect: e.HashOffer) -> None:
        number = effect.round_index
        found = tuple((peer, life.digest(number, peer)) for peer in effect.reducers)
        life.hashing = number
        self._world.at(life.clock, self._hashed, (life, e.Hashed(number, found)))

    def _hashed(self, what: tuple[Life, e.Hashed]) -> None:
        life, _ = what
        life.hashing = None
        self._found(what)

    def _open_reduction(self, life: Life, effect: e.OpenReduction) -> None:
        life.reductions[effect.round_index, effect.instead_of] = Reduction()

    def _add_own(self, life: Life, effect: e.AddOwn) -> None:
        reduction = life.reductions[effect.round_index, effect.instead_of]
        reduction.own, reduction.own_inside = True, life.late.get(effect.round_index)

    def _close_reduction(self, life: Life, effect: e.CloseReduction) -> None:
        key = effect.round_index, effect.instead_of
        self._world.checks.fusing(life, *key)
        plan = life.plans[effect.round_index]
        reduction = life.reductions[key]
        present = reduction.fused_ranges(plan, life.name, key[1])
        policy = self._world.manifest.secure_aggregation
        if policy != "off":
            present = reduction.opened_ranges(plan, life.name, key[1], policy)
        now = effect.round_index == max(life.plans)
        if self._world.manifest.sends_changes:
            present = changeable(life, key, present)
        if present is not None and now:
            present = life.holdings.carried_over(plan, effect.instead_of, present)
        life.fused[key] = present
        if present is not None:
            self._world.checks.lacks(life, effect.round_index)
        if now:
            life.holdings.fused(plan, effect.instead_of, present)
        self._tell(life, caught(life))
        if now and self._world.manifest.adds_changes:
            self._tell(life, [moved(life, effect.round_index)])

    def _found(self, what: tuple[Life, e.Event]) -> None:
        """Something that the machine tells its peer, after what it does now."""
        life, event = what
        if life.is_current:
            self._world.give(life, event)

    def _tell(self, life: Life, found: list[e.Event]) -> None:
        for event in found:
            self._world.at(life.clock, self._found, (life, event))

    def _find_lacking(self, life: Life, effect: e.FindLacking) -> None:
        found = life.holdings.lacking(life.plans[effect.round_index], effect.cells)
        self._tell(life, [found])

    def _keep_old(self, life: Life, effect: e.KeepOld) -> None:
        plan = life.plans[effect.round_index]
        life.holdings.keep_old(plan, effect.cells)
        if effect.round_index == self._world.manifest.rounds:
            life.holdings.sealed()  # no seal follows the last round

    # --- Streams that arrive ---------------------------------------------------------

    def _open_sink(self, life: Life, effect: e.OpenSink) -> None:
        parcel = self._world.checks.opening(life, effect)
        life.sinks[effect.pull] = Sink(effect.stream, parcel, effect.total_bytes)

    def _absorb(self, life: Life, effect: e.Absorb) -> None:
        sink = life.sinks.get(effect.pull)
        if sink is None:
            self._world.checks.not_open(life, effect.pull)
            return
        self._world.checks.absorbing(life, sink, effect)
        envelope = self._world.current
        if envelope is not None and envelope.parcel is not None:
            sink.digests.add(envelope.parcel.digest)
        sink.absorbed += effect.payload.nbytes

    def _close_sink(self, life: Life, effect: e.CloseSink) -> None:
        sink = life.sinks.pop(effect.pull, None)
        if sink is None:
            self._world.checks.not_open(life, effect.pull)
            return
        stream, parcel = sink.stream, sink.parcel
        self._world.checks.closing(life, sink, effect)
        if stream.hop == CONTRIBUTION:
            reduction = life.reductions[stream.round_index, stream.instead_of]
            if parcel is not None and parcel.present is not None:
                reduction.present[stream.source] = parcel.present
            if effect.complete:
                reduction.complete.add(stream.source)
                came = e.Came(stream, b"".join(sorted(sink.digests)))
                self._tell(life, [came])
            elif sink.absorbed:
                form = self._world.manifest.wire.form(stream.hop)
                reduction.partial[stream.source] = form.most_in(sink.absorbed)
        elif stream.hop == SEEDS:
            reduction = life.reductions[stream.round_index, stream.instead_of]
            if effect.complete:
                reduction.told[stream.source] = stream.asked
        elif effect.complete and parcel is not None:
            if stream.hop == EXPORT:
                life.exported.append(parcel)
            elif stream.round_index == max(life.plans):
                life.holdings.received(life.plans[stream.round_index], parcel)
                if stream.round_index == self._world.manifest.rounds:
                    life.holdings.sealed()  # no seal follows the last round

    # --- Streams that leave ----------------------------------------------------------

    def _send_start(self, life: Life, effect: e.SendStart) -> Line:
        stream = effect.stream
        parcel = self._parcel(life, stream)
        life.serving[effect.peer, effect.pull] = parcel
        if life.numbers is not None:
            self._world.checks.starting(
                life, effect, parcel, life.numbers.start(effect)
            )
        start = StreamStart(
            effect.pull,
            parcel.total_bytes,
            effect.samples,
            parcel.absent,
            effect.base_round,
        )
        line = self._world.carrier.post(life, effect.peer, start, parcel=parcel)
        return f"{line} {stream_words(stream)}"

    def _parcel(self, life: Life, stream: e.StreamKey) -> Parcel:
        if stream.hop == TABLE:
            size = len(life.homes[stream.round_index].to_bytes())
            return Parcel(stream, b"", size)
        plan = life.plans[stream.round_index]
        size = stream_bytes(plan, self._world.manifest.wire, stream)
        parcel = Parcel(stream, plan.digest, size)
        if stream.hop == SEEDS:
            return parcel
        if stream.hop == FUSED:
            self._mark_absent(life, plan, parcel)
        elif stream.hop == CONTRIBUTION:
            parcel.digest = life.digest(stream.round_index, stream.target)
            inside = life.late.get(stream.round_index)
            if inside is not None:
                failed = stream.instead_of or None
                ids = plan.ranges(
                    CONTRIBUTION,
                    source=stream.source,
                    target=stream.target,
                    instead_of=failed,
                )
                parcel.present = inside[ids]
                parcel.absent = np.packbits(~parcel.present).tobytes()
        else:
            life.holdings.from_home(plan, parcel)
        return parcel

    def _mark_absent(self, life: Life, plan: ExchangePlan, parcel: Parcel) -> None:
        stream = parcel.stream
        present = life.fused[stream.round_index, stream.instead_of]
        ranges = self._world.geometry.view(plan).fused_ranges(plan, stream)
        if present is None:
            parcel.absent = bytes(-(-ranges.size // 8))
            return
        reduced = plan.reduced_by(life.name, instead_of=stream.instead_of or None)
        parcel.present = present[np.searchsorted(reduced, ranges)]
        parcel.absent = np.packbits(~parcel.present).tobytes()

    def _send_chunk(self, life: Life, effect: e.SendChunk) -> Line:
        stream, size = effect.stream, effect.size
        parcel = life.serving.get((effect.peer, effect.pull))
        if parcel is None:
            return f"chunk {effect.peer} {effect.pull} stopped"
        payload = ZEROS[:size]
        if stream.hop == TABLE:
            table = memoryview(life.homes[stream.round_index].to_bytes())
            payload = table[effect.offset : effect.offset + size]
        elif life.numbers is not None:
            real = life.numbers.chunk(effect)
            assert real is not None, "a stream that goes on has its numbers"
            payload = real
        life.machine.sent_bytes[stream.round_index] += size
        chunk = Chunk(effect.pull, effect.offset, payload)
        return self._world.carrier.post(life, effect.peer, chunk, parcel=parcel)

    def _stop_serving(self, life: Life, effect: e.StopServing) -> None:
        life.serving.pop((effect.peer, effect.pull), None)

    # --- The rest --------------------------------------------------------------------

    def _assembled(self, life: Life, effect: e.Assembled) -> None:
        life.assembled[effect.number] = effect.missing

    def _report(self, life: Life, effect: e.Report) -> None:
        life.machine.reports[effect.kind] += 1
        if effect.kind == "drained":
            self._world.at(life.clock, self._world.drained, life)
        self._world.checks.reported(life, effect)
