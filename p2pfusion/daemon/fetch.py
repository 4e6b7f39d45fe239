"""The checkpoint that the swarm begins with, from members into the pool.

The protocol says whom to ask and which bytes came; here they are written, under a
temporary name, and checked. The file is in the pool when it is the one that the
manifest names, or not at all; then the swarm begins here as if it had been there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from p2pfusion.daemon.pool import Incoming
from p2pfusion.errors import P2PFusionError, ResourceError
from p2pfusion.protocol import events
from p2pfusion.protocol.manifest import Manifest

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

log = logging.getLogger("p2pfusion")


class Fetch:
    """The file on its way in, if it has to come from others."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._incoming: Incoming | None = None
        self._trouble: ResourceError | None = None
        self.effects: dict[type, Callable[..., object]] = {
            events.KeepCheckpoint: self._keep,
            events.CheckCheckpoint: self._check,
            events.NoCheckpoint: self._give_up,
        }
        """What to do for each kind of effect."""

    def is_needed(self, manifest: Manifest) -> bool:
        """Whether the swarm begins with a file that is not here, and others have."""
        gossip = self._node.peer.gossip
        founds = gossip.record.key == manifest.founder_key and not gossip.others()
        return self._node.state.lacks_checkpoint(manifest) and not founds

    def drop(self) -> None:
        """Removes what is not whole."""
        if self._incoming is not None:
            self._incoming.drop()
            self._incoming = None

    @property
    def _manifest(self) -> Manifest:
        manifest = self._node.peer.manifest
        assert manifest is not None
        return manifest

    def _keep(self, effect: events.KeepCheckpoint) -> None:
        try:
            if effect.offset == 0:
                self.drop()
                pool, name = self._node.state.pool, self._manifest.pretrained
                self._trouble = None
                self._incoming = Incoming(pool, name, effect.total_bytes)
            if self._incoming is not None:
                self._incoming.add(effect.payload)
        except ResourceError as error:
            self._is_bad(error)

    def _check(self, effect: events.CheckCheckpoint) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is None:
            return  # refused already
        try:
            is_right = incoming.finish()
        except ResourceError as error:
            self._is_bad(error)
            return
        if not is_right:
            log.warning("what came is not the checkpoint: it is asked for anew")
            self._is_bad(None)
            return
        try:
            self._node.open_store(self._manifest)
        except P2PFusionError as error:
            self._node.ending.fail(error)

    def _is_bad(self, trouble: ResourceError | None) -> None:
        self.drop()
        self._trouble = trouble
        self._node.handle(events.BadCheckpoint())

    def _give_up(self, effect: events.NoCheckpoint) -> None:
        self.drop()
        missing = self._node.state.pool.missing(self._manifest.pretrained)
        self._node.ending.fail(self._trouble or missing)
