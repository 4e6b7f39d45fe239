"""Two daemons with one identity, because somebody has copied a home.

Each would publish records that are newer than the other's, and the swarm would follow
the one, then the other. So whoever reads a record of itself that it has not made, and
that is not older than its own, stands still until somebody acts. It says so once with a
newer record, by which the other learns it, too; after that neither says anything more.

A home that was restored from an old copy looks the same: its former life has made newer
records. The number of its next start is above all of those, so starting it again is
enough if no other daemon runs.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pfusion.protocol.events import Effect, Report
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.messages import NEVER, Membership, PeerRecord
from p2pfusion.protocol.statements import author, read_record


class Twin:
    """Whether another daemon has this peer's identity."""

    def __init__(self, gossip: Gossip) -> None:
        self._gossip = gossip
        self._newest = 0
        self.address = ""
        """Where the other one says it listens; "" while there is none."""

    def look(self, members: Iterable[Membership]) -> list[Effect]:
        """Reads what is passed on as this peer's own word.

        ``RemoteProtocolError`` for a record that is none.
        """
        gossip, effects = self._gossip, list[Effect]()
        for membership in members:
            signed = membership.record
            if author(signed) != gossip.record.key or signed == gossip.signed:
                continue
            theirs = read_record(signed, gossip.scheme)
            if theirs.swarm == gossip.swarm_id and theirs.age >= gossip.record.age:
                effects += self._found(theirs)
        return effects

    def _found(self, theirs: PeerRecord) -> list[Effect]:
        if theirs.incarnation <= self._newest:
            return []
        is_first = not self.address
        self.address = theirs.address
        self._newest = following = theirs.incarnation + 1
        details = {"address": self.address, "incarnation": following}
        if not is_first or following > NEVER:  # no daemon has started so often
            return [Report("cloned", details)]
        return [Report("cloned", details), *self._gossip.renew(incarnation=following)]
