"""Getting the checkpoint that the swarm begins with from members that have it.

A newcomer is a member already when it finds that it lacks the file, and takes part in
nothing else before it has it. It asks one member at a time, by the file's hash. Who
refuses, falls silent or is too slow is left for another, which goes on from the bytes
that are here. Only the whole file can be checked: if it is wrong and came from one
member, that one lies; if it came from several, it is asked for once more, whole from
one each time, so that the one who lies is found and no other is taken for it.
"""

from __future__ import annotations

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import CHECKPOINT_PIECE_BYTES, MAX_CHECKPOINT_BYTES
from p2pfusion.protocol.beginning import (
    BadCheckpoint,
    CheckCheckpoint,
    HasCheckpoint,
    KeepCheckpoint,
    LacksCheckpoint,
    NoCheckpoint,
)
from p2pfusion.protocol.events import (
    Absorb,
    CloseSink,
    Effect,
    OpenSink,
    Report,
    StreamKey,
)
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.messages import CHECKPOINT, NEVER, Request
from p2pfusion.protocol.picking import pick
from p2pfusion.protocol.timing import NEVER_S
from p2pfusion.protocol.transfer import Pull, Pulls

HEAD_PATIENCE_S = 10.0
"""Whoever has the file says at once how long it is: three repetitions of a lost request
fit."""

PIECE_PATIENCE_S = 30.0
"""A piece must come within this time, if somebody else can be asked: what one message
of the data plane may take as well."""

ASK_AGAIN_S = 1.0
"""When nobody had it everybody is asked again after this pause: some are new, too."""

GIVE_UP_S = 120.0
"""When nothing more has come for so long nobody has it, or can be reached: a router
that restarts is back before."""

SHOWN_DIGITS = 12
"""Of a checkpoint's hash, for people."""

MIB = 1 << 20


class Fetching:
    """Whom this peer asks for the checkpoint, and how much of it is here."""

    def __init__(self, gossip: Gossip, pulls: Pulls) -> None:
        self._gossip = gossip
        self._pulls = pulls
        self.held_bytes = 0
        """Length of the checkpoint in the own store; 0 while there is none to give."""
        self.is_on = False
        """Whether this peer lacks it, and takes part in nothing before it is here."""
        self._rests = False
        """Whether nobody is to be asked: all of it came, or nobody can give it."""
        self._alone = False
        """Whether the file must come whole from one."""
        self._liars: set[str] = set()
        self._tried: set[str] = set()
        """Who could not give it, or not go on; others are asked first."""
        self._givers: set[str] = set()
        """Whose bytes are here."""
        self._received = 0
        self._total = 0
        self._most = 0
        """So much was here at once since something was refuted."""
        self._gain_at = 0.0
        """When it became more; who gives the same again and again gives nothing."""
        self._again_at = 0.0
        self._due = (0, 0.0)
        """So many bytes must be here by this instant."""

    # --- What the own side says ------------------------------------------------------

    def told(
        self, event: LacksCheckpoint | HasCheckpoint | BadCheckpoint, now: float
    ) -> list[Effect]:
        """It is not here, so members are asked for it; or it is; or what came is not
        it, and members are asked anew."""
        if isinstance(event, HasCheckpoint):
            return self._has(event.total_bytes)
        if isinstance(event, LacksCheckpoint):
            self.is_on, self._gain_at = True, now
        elif self.is_on:
            self._refuted()
        return []

    def _has(self, total_bytes: int) -> list[Effect]:
        self.held_bytes = total_bytes if total_bytes <= MAX_CHECKPOINT_BYTES else 0
        if not self.is_on:
            return []
        self.is_on = False
        told = {"checkpoint": self.name, "peers": sorted(self._givers)}
        return [self._gossip.saved(), Report("fetched", told)]

    def _refuted(self) -> None:
        """What is here is of no use: it begins anew."""
        if len(self._givers) == 1:
            self._liars |= self._givers
        else:
            self._alone = True
        self._drop()
        self._most, self._rests = 0, False

    def slept(self, slept_s: float) -> None:
        """This process did not run for so long: that is nobody's fault."""
        self._gain_at += slept_s
        self._due = (self._due[0], self._due[1] + slept_s)

    def _drop(self) -> None:
        for pull in self._pulls.of_hop(CHECKPOINT):
            self._pulls.cancel(pull)
        self._restart()

    def _restart(self) -> None:
        self._received = self._total = 0
        self._givers.clear()

    # --- For people ------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The checkpoint's hash, shortened."""
        manifest = self._gossip.manifest
        return "" if manifest is None else manifest.pretrained[:SHOWN_DIGITS]

    @property
    def source(self) -> str | None:
        """The member that was asked for it and has not sent all of it yet."""
        pull = self._pull
        return None if pull is None else pull.stream.source

    @property
    def text(self) -> str:
        """``the checkpoint 0123456789ab, 12.0 of 40.0 MiB``."""
        here, whole = self._received / MIB, self._total / MIB
        so_far = f", {here:.1f} of {whole:.1f} MiB" if self._total else ""
        return f"the checkpoint {self.name}{so_far}"

    # --- Asking ----------------------------------------------------------------------

    @property
    def _pull(self) -> Pull | None:
        return next(iter(self._pulls.of_hop(CHECKPOINT)), None)

    def look(self, now: float) -> list[Effect]:
        """Asks somebody, or somebody else, or gives up: what is due."""
        if not self.is_on or self._rests:
            return []
        others = set(self._gossip.others())
        if now >= self._gain_at + GIVE_UP_S or (others and others <= self._liars):
            self._drop()
            self._rests = True
            return [NoCheckpoint()]
        pull = self._pull
        if pull is not None and now >= self._due[1]:
            pull = self._too_slow(pull, now)
        return [] if pull is not None else self._ask(now)

    def _too_slow(self, pull: Pull, now: float) -> Pull | None:
        """Leaves a source that stands still, if there is another; what is left."""
        if self._can_ask(now, but=pull.stream.source):
            self.failed(pull, now)
            return None
        self._tried.clear()
        self._wait(PIECE_PATIENCE_S, now)
        return pull

    def _wait(self, patience_s: float, now: float) -> None:
        self._due = (self._received + CHECKPOINT_PIECE_BYTES, now + patience_s)

    def _can_ask(self, now: float, *, but: str = "") -> list[str]:
        there = self._gossip.detector.worth_asking(now)
        out = self._liars | self._tried | {but}
        return [p for p in there if p not in out and self._gossip.is_member(p)]

    def _ask(self, now: float) -> list[Effect]:
        among = self._can_ask(now)
        if not among and now >= self._again_at:
            self._tried.clear()
            among = self._can_ask(now)
        if not among:
            return []
        # Newcomers that come together do not all ask the same one.
        (source,) = pick(among, 1, self._gossip.me)
        goes_on = not self._alone or self._givers == {source}
        offset = self._received if goes_on else 0
        self._wait(HEAD_PATIENCE_S, now)
        stream = StreamKey(CHECKPOINT, NEVER, source, self._gossip.me)
        digest = self._digest()
        return self._pulls.open(stream, digest, None, now, offset=offset)

    def _digest(self) -> bytes:
        manifest = self._gossip.manifest
        assert manifest is not None
        return bytes.fromhex(manifest.pretrained)[:16]

    def deadline(self) -> float:
        """When ``look`` may have something to do, if nothing happens before."""
        if not self.is_on or self._rests:
            return NEVER_S
        ends = [self._gain_at + GIVE_UP_S]
        if self._pull is not None:
            ends.append(self._due[1])
        elif self._tried:
            ends.append(self._again_at)
        return min(ends)

    def failed(self, pull: Pull, now: float) -> None:
        """A source has refused, is gone, or is left for another."""
        self._pulls.cancel(pull)
        self._tried.add(pull.stream.source)
        self._again_at = now + ASK_AGAIN_S

    # --- Arriving --------------------------------------------------------------------

    def took(self, pull: Pull, effects: list[Effect], now: float) -> list[Effect]:
        """What the parts of the stream mean for the file.

        ``RemoteProtocolError`` for a length that no checkpoint has.
        """
        found: list[Effect] = []
        for effect in effects:
            if isinstance(effect, OpenSink):
                found += self._begun(pull, effect.total_bytes, now)
            elif isinstance(effect, Absorb):
                found.append(self._part(pull, effect.payload, now))
            elif isinstance(effect, CloseSink):
                self._rests = True
                found.append(CheckCheckpoint())
            else:
                found.append(effect)
        return found

    def _begun(self, pull: Pull, total_bytes: int, now: float) -> list[Effect]:
        source = pull.stream.source
        if not 0 < total_bytes <= MAX_CHECKPOINT_BYTES:
            self._liars.add(source)
            raise RemoteProtocolError("a checkpoint of impossible length")
        if pull.received != self._received:
            self._restart()
        if self._received and total_bytes != self._total:
            # One of the two is wrong, and what is here may be.
            self._givers.add(source)
            self._refuted()
            return []
        self._total = total_bytes
        self._wait(PIECE_PATIENCE_S, now)
        told = {"checkpoint": self.name, "peer": source, "offset": self._received}
        return [Report("fetching", told)]

    def _part(self, pull: Pull, payload: memoryview, now: float) -> Effect:
        offset = self._received
        self._received += payload.nbytes
        self._givers.add(pull.stream.source)
        if self._received > self._most:
            self._most, self._gain_at = self._received, now
        if self._received >= self._due[0]:
            self._wait(PIECE_PATIENCE_S, now)
        return KeepCheckpoint(offset, self._total, payload)

    # --- Giving ----------------------------------------------------------------------

    def why_not(self, request: Request) -> str:
        """Why a member that asks does not get it from here; "" if it does."""
        manifest = self._gossip.manifest
        if manifest is None or not manifest.pretrained:
            return "plan"
        if (request.round_index, request.digest) != (NEVER, self._digest()):
            return "plan"
        return "" if self.held_bytes else "lacking"
