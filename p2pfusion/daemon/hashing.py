"""What each reducer will get of the own offer, hashed: for the offer to say it.

A large sub-model takes a while to hash, and the loop must not stand still for so long:
only some of it is done in each turn.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from p2pfusion.protocol.events import Hashed, HashOffer, StreamKey
from p2pfusion.split.plan import Hop

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

BYTES_PER_TURN = 4 << 20
"""Hashed in one turn of the loop, or one stream, if that is longer: to encode and to
hash so much takes some five milliseconds. A stream is encoded as a whole when it is
served, too."""


class Hashing:
    """The hashes that are being made, one reducer after the other."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._wanted: HashOffer | None = None
        self._digests: list[tuple[str, bytes]] = []

    @property
    def is_busy(self) -> bool:
        """Whether something is left to do in the next turn."""
        return self._wanted is not None

    def begin(self, wanted: HashOffer) -> None:
        """Hashes what these reducers get, and nothing of an earlier round any more."""
        self._wanted, self._digests = wanted, []

    def look(self) -> None:
        """Does a turn's part of it."""
        wanted, payloads = self._wanted, self._node.payloads
        if wanted is None or payloads is None:
            return
        number, done = wanted.round_index, 0
        for reducer in wanted.reducers[len(self._digests) :]:
            me = payloads.me
            stream = StreamKey(Hop.CONTRIBUTION.value, number, me, reducer)
            values = payloads.promise(stream)
            self._digests.append((reducer, hashlib.sha256(values).digest()))
            done += values.nbytes
            if done >= BYTES_PER_TURN:
                break
        if len(self._digests) == len(wanted.reducers):
            self._wanted = None
            self._node.handle(Hashed(number, tuple(self._digests)))
