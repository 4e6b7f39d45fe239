"""What a newcomer hears from where it knocks: a welcome, a manifest, or a refusal.

It believes nobody but those whom it asked, and joins no swarm but the one that it was
told to expect.
"""

from __future__ import annotations

from dataclasses import replace

from p2pfusion.errors import ConfigError, RemoteProtocolError
from p2pfusion.methods import build_method
from p2pfusion.protocol.access import KnockFailed
from p2pfusion.protocol.events import Effect, Report
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.joining import KNOCK_FAILURES
from p2pfusion.protocol.messages import ManifestPart, Refused, Welcome


class Arrival:
    """Answers to this peer's greetings."""

    def __init__(self, gossip: Gossip) -> None:
        self._gossip = gossip

    def welcomed(self, peer: str, welcome: Welcome, now: float) -> list[Effect]:
        """Somebody answered our greeting: a member of our swarm, or of another."""
        if self._gossip.manifest is not None:
            # Until a member that we know has answered, its facts may have been lost.
            if welcome.swarm_id == self._gossip.swarm_id and self._gossip.is_member(
                peer
            ):
                self._gossip.joining.knocking.clear()
                self._gossip.detector.in_round(peer, welcome.round_index, now)
        elif self._gossip.joining.expects(peer, welcome.swarm_id):
            self._gossip.joining.announced(peer, welcome)
        return []

    def part(self, peer: str, part: ManifestPart) -> list[Effect]:
        """A piece of the manifest; with the last one, the swarm is known."""
        found = self._gossip.joining.part(peer, part)
        if found is None:
            return []
        theirs, credential = found
        if not self._gossip.joining.expects(peer, theirs.swarm_id):
            raise RemoteProtocolError("a manifest of another swarm than announced")
        if self._gossip.expected is not None:
            stated = replace(self._gossip.expected, founder=theirs.founder)
            if stated != theirs:
                key = stated.first_difference(theirs)
                text = f"another swarm answers there: its {key!r} differs from ours"
                return self._incompatible(str(key), text)
        try:
            build_method(theirs.method, theirs.method_arguments)
        except ConfigError as error:
            return self._incompatible("method", str(error))
        return (
            []
            if self._gossip.manifest is not None
            else self._gossip.adopt(theirs, credential)
        )

    def _incompatible(self, key: str, text: str) -> list[Effect]:
        self._gossip.joining.note(text)
        return [Report("incompatible", {"key": key, "text": text})]

    def refused(self, peer: str, refused: Refused) -> list[Effect]:
        """Somebody would not have us (yet)."""
        if self._gossip.manifest is not None or not self._gossip.joining.asked(peer):
            return []
        if refused.code == "version":
            return self._incompatible("version", refused.text)
        for_good = refused.code == "denied"
        self._gossip.joining.note(refused.text, for_good=for_good, code=refused.code)
        return [Report("denied", {"text": refused.text})] if for_good else []

    def knock_failed(self, failed: KnockFailed) -> list[Effect]:
        """Nobody is there where it knocked, or somebody else."""
        text, for_good = KNOCK_FAILURES[failed.reason]
        joining = self._gossip.joining
        joining.failed(failed.host, failed.port, text, for_good=for_good)
        no_use = for_good and self._gossip.manifest is None and joining.is_hopeless
        return [Report("denied", {"text": text})] if no_use else []
