"""How members keep in touch: greetings, probes, and looking on behalf of others."""

from __future__ import annotations

from p2pfusion.limits import OBSERVERS
from p2pfusion.protocol.events import Bar, Effect, Send
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.messages import Ping, Pong, ProbeFor, Seen
from p2pfusion.protocol.observers import circle, neighbours, place
from p2pfusion.protocol.timing import LONG_AGO


class Meeting:
    """The side of one peer that probes and is probed."""

    def __init__(self, gossip: Gossip) -> None:
        self._gossip = gossip
        self._observed_in: tuple[list[str], set[str] | None] | None = None
        self._greeted_at: dict[str, float] = {}

    def introduce(self, now: float) -> list[Effect]:
        """Back after a restart: connections to all members, and a greeting for those
        who have to know at once."""
        gossip, effects = self._gossip, list[Effect]()
        self._observed(now)
        for peer in gossip.others():
            gossip.detector.watch(peer, now)
            effects.append(gossip.dial(gossip.facts.records[peer], now))
            if gossip.greets(peer):
                effects.append(Send(peer, gossip.hello()))
        for peer in sorted(gossip.facts.revoked):
            effects += gossip.put_out(peer) if peer == gossip.me else [Bar(peer)]
        return effects

    # --- Time ------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """The probes that are due."""
        gossip = self._gossip
        if not gossip.probing.due(now) or gossip.manifest is None:
            return []
        gossip.probing.drop_old(now)
        gossip.detector.settle_doubts(now)
        effects: list[Effect] = [
            gossip.dial(gossip.facts.records[peer], now)
            for peer in gossip.relays.stale(now)
        ]
        for peer in self._observed(now):
            effects += self._probe(peer, now)
        return effects

    def _observed(self, now: float) -> list[str]:
        """Whom this peer probes, sorted; the detector learns it when it changes."""
        gossip, others = self._gossip, self._gossip.others()
        is_large = len(others) > OBSERVERS
        seen = (others, self._mutual(gossip.epoch(now)) if is_large else None)
        if seen != self._observed_in:
            self._observed_in = seen
            gossip.detector.observe(self._neighbours(*seen), now)
        if not is_large:
            return others
        probed = gossip.detector.probed
        return sorted(peer for peer in probed if gossip.is_member(peer))

    def _mutual(self, epoch: int) -> set[str]:
        """Who observes this peer, and whom it observes, when words of now count.

        That is by the roster of the next epoch. Who joins after it is not in it, and
        has observers that are not its nearest: the newcomers between do not count yet.
        """
        me, facts = self._gossip.me, self._gossip.facts
        return {*facts.observers(me, epoch + 1), *facts.observed(me, epoch + 1)}

    def _neighbours(
        self, others: list[str], mutual: set[str] | None
    ) -> set[str] | None:
        """Of a large swarm those whom this peer probes; they probe it.

        Beside those who observe each other the nearest of all members: before the
        start, and between those who are not in the roster (yet), there would be nobody.
        """
        if mutual is None:
            return None
        swarm, me = self._gossip.swarm_id, self._gossip.me
        return {*neighbours(circle(swarm, others), (place(swarm, me), me)), *mutual}

    def _probe(self, peer: str, now: float) -> list[Effect]:
        """A ping; or a greeting, for one that may not know us (any more)."""
        gossip, effects = self._gossip, list[Effect]()
        detector, contact = gossip.detector, gossip.detector.watch(peer, now)
        gone = peer in detector.silent and gossip.facts.is_gone(peer, gossip.epoch(now))
        if gone and not self._greets_again(peer, now):
            return []
        missed = gossip.probing.unanswered(peer, now) or peer in detector.silent
        if missed and not contact.said_goodbye and not gone:
            asked = gossip.probing.ask_others(peer, detector.online(now), now)
            effects += [Send(helper, probe) for helper, probe in asked]
        if not detector.is_online(peer, now):
            there = gossip.dial(gossip.facts.records[peer], now)
            return [*effects, there, Send(peer, gossip.hello())]
        number = gossip.probing.ping(peer, now)
        return [*effects, Send(peer, self._ping(number))]

    def _greets_again(self, peer: str, now: float) -> bool:
        """Who is gone is greeted now and then only: it greets when it comes back."""
        pause_s = self._gossip.detector.timing.suspicion_s
        if now - self._greeted_at.get(peer, LONG_AGO) < pause_s:
            return False
        self._greeted_at[peer] = now
        return True

    def _ping(self, number: int) -> Ping:
        return Ping(number, self._gossip.round_index, self._gossip.facts.digest)

    # --- Messages --------------------------------------------------------------------

    def on_probe(self, peer: str, probe: Ping | Pong, now: float) -> list[Effect]:
        """A ping or its answer."""
        gossip = self._gossip
        gossip.detector.in_round(peer, probe.round_index, now)
        digest = gossip.facts.digest
        if isinstance(probe, Ping):
            clock_s = now + gossip.wall_offset_s
            pong = Pong(probe.nonce, gossip.round_index, digest, clock_s)
            effects: list[Effect] = [Send(peer, pong)]
        else:
            told = gossip.probing.answered(peer, probe.nonce, now)
            effects = [Send(asker, seen) for asker, seen in told]
            self._note_skew(peer, probe.clock_s, now)
        if probe.facts_digest == digest:
            gossip.spread.agreed(peer)
        elif isinstance(probe, Ping) or gossip.spread.is_large:
            effects += gossip.spread.compare(peer, now)
        return effects

    def _note_skew(self, peer: str, clock_s: float, now: float) -> None:
        """How far a clock is from ours, to half a round trip: shown, never used."""
        contact = self._gossip.detector.watch(peer, now)
        if contact.rtt_s is not None:
            here_s = now + self._gossip.wall_offset_s
            contact.skew_s = clock_s + contact.rtt_s / 2 - here_s

    def on_probe_for(self, peer: str, probe: ProbeFor, now: float) -> list[Effect]:
        """Somebody has no answer from another member, and asks us to look."""
        gossip = self._gossip
        if probe.peer in (peer, gossip.me) or not gossip.is_member(probe.peer):
            return []
        number = gossip.probing.asked_by(peer, probe, now)
        return [] if number is None else [Send(probe.peer, self._ping(number))]

    def on_seen(self, peer: str, seen: Seen, now: float) -> list[Effect]:
        """Somebody whom we asked to look has an answer from a third."""
        self._gossip.probing.seen(seen, now)
        return []
