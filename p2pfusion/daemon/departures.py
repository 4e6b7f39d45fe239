"""Going, and declaring others gone: what is asked about leaving and recovering.

Both count from an epoch that lies ahead. Whoever asks to leave is told when it has
come; whoever asks to recover is told first what it would cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfusion.daemon.access import named_peer
from p2pfusion.daemon.control import Request
from p2pfusion.daemon.members import epoch_of, state_of_member
from p2pfusion.errors import ConflictError, DeniedError, NotFoundError
from p2pfusion.protocol.events import Leave, Recover
from p2pfusion.protocol.messages import NEVER
from p2pfusion.protocol.standing import Standing
from p2pfusion.split.grid import cell_elements
from p2pfusion.split.homes import Homes
from p2pfusion.split.layout import Layout

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

Data = dict[str, object]

MAX_REASON_CHARACTERS = 200


@dataclass
class Leaver:
    """A client that waits until this peer has left."""

    request: Request
    told: Data | None = None


class Departures:
    """Answers what is asked about leaving and recovering."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._leavers: list[Leaver] = []
        self.handlers = {"leave": self._leave, "recover": self._recover}

    # --- Leaving ---------------------------------------------------------------------

    def _leave(self, request: Request) -> None:
        """Begins to leave; answered when the epoch has come."""
        if self._node.peer.manifest is None:
            raise NotFoundError(
                "this peer is in no swarm", hint="to end its daemon: p2pfusion stop"
            )
        if request.arguments.get("dry_run") is True:
            request.reply(self._swarm())
            return
        if self._node.peer.gossip.record.leave_epoch == NEVER:
            self._node.handle(Leave())
        self._leavers.append(Leaver(request))

    def _swarm(self) -> Data:
        manifest = self._node.peer.manifest
        name = manifest.name if manifest else None
        return {"swarm": name, "members": len(self._node.peer.gossip.others()) + 1}

    def check(self) -> None:
        """Tells those who wait how far it is, and answers when it is over."""
        if not self._leavers:
            return
        progress, waiting = self._progress(), []
        for leaver in self._leavers:
            if leaver.request.closed:
                continue
            if has_left(self._node):
                leaver.request.reply({**self._swarm(), **progress})
                continue
            if progress != leaver.told:
                leaver.request.progress(progress)
                leaver.told = progress
            waiting.append(leaver)
        self._leavers = waiting

    def _progress(self) -> Data:
        leave = self._node.peer.gossip.record.leave_epoch
        return {
            "round": self._node.peer.gossip.round_index,
            "epoch": epoch_of(self._node),
            "leave_epoch": None if leave == NEVER else leave,
        }

    # --- Recovering ------------------------------------------------------------------

    def _recover(self, request: Request) -> None:
        """Says who would be declared lost, and does it unless only asked."""
        peer, manifest = self._node.peer, self._node.peer.manifest
        if manifest is None:
            raise NotFoundError("this peer is in no swarm", hint="join one first")
        if not peer.door.is_admin:
            raise DeniedError(
                "only an admin of the swarm can do this",
                hint="see who is one: p2pfusion trust ls",
            )
        lost = self._lost(request)
        homes = peer.round.plan.homes if peer.round else None
        # The command line asks what it would cost before it asks a person to go on.
        if request.arguments.get("dry_run") is not True:
            reason = str(request.arguments.get("reason") or "")[:MAX_REASON_CHARACTERS]
            shown = "".join(c for c in reason if c.isprintable())
            self._node.handle(Recover(tuple(lost), shown))
        request.reply(
            {
                "lost": [self._row(name) for name in lost],
                "staying": len(self._roster()) - len(set(lost) & set(self._roster())),
                "parameters": manifest.layout.size,
                "parameters_lost": only_copies(homes, manifest.layout, lost),
            }
        )

    def _row(self, peer: str) -> Data:
        state = state_of_member(self._node, peer)
        return {"id": peer, "name": self._node.name_of(peer), "state": state}

    def _roster(self) -> list[str]:
        facts = self._node.peer.gossip.facts
        return [member.peer for member in facts.roster(epoch_of(self._node))]

    def _lost(self, request: Request) -> list[str]:
        """Those that are named; else all of the roster that do not answer."""
        gossip, now = self._node.peer.gossip, self._node.now()
        named = request.arguments.get("peers")
        if isinstance(named, list) and named:
            members = {record.peer: record.name for record in gossip.facts.members()}
            found = [named_peer(str(each), members) for each in named]
            if gossip.me in found:
                raise ConflictError(
                    "this is you", hint="to take this peer out: p2pfusion leave"
                )
            return sorted(set(found))
        away = [
            name
            for name in self._roster()
            if name != gossip.me and not gossip.detector.may_answer(name, now)
        ]
        if not away:
            raise ConflictError(
                "every member of the roster is there: nobody is to be declared lost",
                hint="see: p2pfusion peers",
            )
        return sorted(away)


def has_left(node: Node) -> bool:
    """Whether this peer has gone out of its swarm by its own word."""
    peer = node.peer
    if peer.gossip.record.leave_epoch == NEVER:
        return False
    # Where no epoch will come any more, or none has begun, there is none to wait for.
    is_over = peer.standing is Standing.DONE or not peer.gossip.facts.start
    return is_over or peer.standing is Standing.LEFT


def only_copies(homes: Homes | None, layout: Layout, lost: list[str]) -> int | None:
    """Parameters whose newest values nobody has but these peers; None if unknown.

    They go on with older values, or with initial ones.
    """
    if homes is None:
        return None
    gone = [name for name in lost if homes.position(name) is not None]
    rest = [name for name in homes.peers if name not in lost]
    count = 0
    for index, signature in enumerate(layout.signatures):
        only = homes.version[index] > 0
        only = only & homes.copies(index, gone).any(axis=0)
        only = only & ~homes.copies(index, rest).any(axis=0)
        count += int(cell_elements(layout, signature)[only].sum())
    return count
