"""Who may come in and who must go: what the command line asks about it.

Invitations, strangers that wait, members and keys. Only an admin can change any of it;
everybody can look.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from p2pfusion.daemon.address import is_loopback
from p2pfusion.daemon.arguments import number, text
from p2pfusion.daemon.control import Request
from p2pfusion.daemon.quarantined import pardon
from p2pfusion.errors import (
    ConfigError,
    ConflictError,
    DeniedError,
    NotFoundError,
    ResourceError,
)
from p2pfusion.protocol.access import Decided, Invited, InviteRevoked, Revoke
from p2pfusion.protocol.admission import Invite
from p2pfusion.protocol.joining import Way
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import PeerRecord
from p2pfusion.security import ROLES, Ticket, find_peer
from p2pfusion.transport import Address

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

Data = dict[str, object]

INVITE_ID_BYTES = 5
"""Eight characters of base32: enough to tell one's own invitations apart."""

SECRET_BYTES = 16
MAX_USES = 100_000
MAX_LIFE_S = 10 * 366 * 86_400.0


class AccessCommands:
    """Answers what is asked about access."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.handlers = {
            "invite-create": self._create,
            "invite-ls": self._invites,
            "invite-revoke": self._revoke_invite,
            "pending-ls": self._pending,
            "pending-accept": self._accept,
            "pending-deny": self._deny,
            "trust-ls": self._trust,
            "trust-revoke": self._revoke,
            "trust-pardon": self._pardon,
            "meet": self._meet,
        }

    # --- Invitations -----------------------------------------------------------------

    def _create(self, request: Request) -> None:
        manifest = self._as_admin()
        admission = self._node.peer.door.admission
        life_s = number(request.arguments, "life_s", 0.0)
        uses = number(request.arguments, "uses", 1.0)
        role = str(request.arguments.get("role", "member"))
        if role not in ROLES:
            raise ConfigError(f"the role is {role!r}: it must be member or admin")
        if not 0 <= life_s <= MAX_LIFE_S:
            raise ConfigError(
                "a ticket can be good for ten years at most, or until it is revoked",
                hint="choose a shorter time, or: --expires never",
            )
        if not 0 <= uses <= MAX_USES or uses != int(uses):
            raise ConfigError(f"uses must be a whole number from 0 to {MAX_USES}")
        if admission.is_full(time.time()):
            raise ResourceError(
                "there are too many invitations that are still good",
                hint="revoke some: p2pfusion invite ls, p2pfusion invite revoke ID",
            )
        drawn = base64.b32encode(secrets.token_bytes(INVITE_ID_BYTES))
        invite = Invite(
            id=drawn.decode().lower(),
            secret=secrets.token_bytes(SECRET_BYTES),
            role=role,
            uses=int(uses),
            expires=int(time.time() + life_s) if life_s else 0,
        )
        record = self._node.peer.gossip.record
        if record.is_outward:
            raise ConfigError(
                "nobody can use a ticket of this peer: it can only dial out",
                hint="create it at an admin that can be dialled, or give this peer an "
                "address: p2pfusion start --advertise HOST:PORT",
            )
        self._node.handle(Invited(invite))
        ticket = self._ticket(invite, manifest, record)
        request.reply(
            {
                "ticket": ticket.encode(),
                **_invite(invite),
                "addresses": list(ticket.addresses),
                "only_this_machine": is_loopback(record.host),
                "code": _own_code(manifest),
            }
        )

    def _ticket(self, invite: Invite, manifest: Manifest, record: PeerRecord) -> Ticket:
        return Ticket(
            addresses=(record.address,),
            issuer=record.peer,
            transport_key=record.transport_key,
            swarm=manifest.swarm_id,
            invite=invite.id,
            secret=invite.secret,
            role=invite.role,
            uses=invite.uses,
            expires=invite.expires,
        )

    def _invites(self, request: Request) -> None:
        self._manifest()
        invites = self._node.peer.door.admission.invites.values()
        request.reply({"invites": [_invite(invite) for invite in invites]})

    def _revoke_invite(self, request: Request) -> None:
        self._as_admin()
        wanted = text(request.arguments, "id").lower()
        known = self._node.peer.door.admission.invites
        found = [name for name in known if name.startswith(wanted)]
        if len(found) != 1:
            several = (
                f" is meant by {', '.join(found)}" if found else " is unknown here"
            )
            raise NotFoundError(
                f"the invitation {wanted!r}{several}", hint="see: p2pfusion invite ls"
            )
        self._node.handle(InviteRevoked(found[0]))
        request.reply({"id": found[0]})

    # --- Members that are somewhere else ---------------------------------------------

    def _meet(self, request: Request) -> None:
        """Greets a member at an address of which somebody says that it is there now."""
        gossip, peer = self._node.peer.gossip, text(request.arguments, "peer")
        if peer == gossip.me or not gossip.is_member(peer):
            raise NotFoundError(f"{peer} is no other member of this swarm")
        record = gossip.facts.records[peer]
        host = text(request.arguments, "host")
        port = int(number(request.arguments, "port", 0.0))
        Address(host, port)  # refuses what no socket could take
        way = Way(host, port, peer, record.transport_key, gossip.swarm_id)
        self._node.links.knock(way, gossip.hello())
        request.reply({"id": peer})

    # --- Strangers that wait ---------------------------------------------------------

    def _pending(self, request: Request) -> None:
        manifest = self._manifest()
        rows = [
            {"id": peer, "name": record.name, "address": record.address}
            for peer, (record, _) in self._node.peer.door.admission.pending.items()
        ]
        request.reply({"admission": manifest.admission, "pending": rows})

    def _accept(self, request: Request) -> None:
        self._decide(request, accepted=True)

    def _deny(self, request: Request) -> None:
        self._decide(request, accepted=False)

    def _decide(self, request: Request, *, accepted: bool) -> None:
        self._as_admin()
        pending = self._node.peer.door.admission.pending
        peer = find_peer(text(request.arguments, "id"), pending)
        name = pending[peer][0].name
        self._node.handle(Decided(peer, accepted))
        request.reply({"id": peer, "name": name, "accepted": accepted})

    # --- Members ---------------------------------------------------------------------

    def _trust(self, request: Request) -> None:
        self._manifest()
        gossip = self._node.peer.gossip
        facts = gossip.facts
        rows = []
        for peer, record in sorted(facts.records.items()):
            out = facts.revoked.get(peer)
            rows.append(
                {
                    "id": peer,
                    "name": record.name,
                    "role": facts.role(peer),
                    "admitted_by": facts.admitted_by(peer),
                    "self": peer == gossip.me,
                    "revoked": out is not None,
                    "revoked_by": out.by if out else None,
                    "revoked_from_epoch": out.epoch if out else None,
                    "reason": out.reason if out else None,
                }
            )
        request.reply(
            {"peers": rows, "first_contacts": self._node.entrance.known.all()}
        )

    def _revoke(self, request: Request) -> None:
        self._as_admin()
        gossip, door = self._node.peer.gossip, self._node.peer.door
        members = {record.peer: record.name for record in gossip.facts.members()}
        peer = named_peer(text(request.arguments, "peer"), members)
        if peer == gossip.me:
            raise ConflictError("this is you", hint="ask another admin")
        out = door.would_put_out(peer)
        if not out:
            raise DeniedError(
                f"{members[peer]} is an admin, no farther from the founder than this "
                "peer",
                hint="ask an admin who is nearer: p2pfusion trust ls",
            )
        # The command line asks who would be out before it asks a person to go on.
        if request.arguments.get("dry_run") is not True:
            reason = str(request.arguments.get("reason") or "")[:200]
            shown = "".join(c for c in reason if c.isprintable())
            self._node.handle(Revoke(peer, shown))
        put_out = [{"id": each, "name": members.get(each, each)} for each in out]
        request.reply({"id": peer, "name": members[peer], "put_out": put_out})

    def _pardon(self, request: Request) -> None:
        """Everybody may: it is about what this peer itself makes of another."""
        self._manifest()
        members = {r.peer: r.name for r in self._node.peer.gossip.facts.members()}
        peer = named_peer(text(request.arguments, "peer"), members)
        request.reply(pardon(self._node, peer))

    def _manifest(self) -> Manifest:
        manifest = self._node.peer.manifest
        if manifest is None:
            raise NotFoundError(
                "this peer has no swarm yet", hint="join one, or start with a [swarm]"
            )
        return manifest

    def _as_admin(self) -> Manifest:
        manifest, facts = self._manifest(), self._node.peer.gossip.facts
        if not self._node.peer.door.is_admin:
            admins = [r.name for r in facts.members() if facts.is_admin(r.peer)]
            raise DeniedError(
                "only an admin of the swarm can do this",
                hint=f"do it on the machine of {' or '.join(admins)}",
            )
        return manifest


def named_peer(given: str, members: Mapping[str, str]) -> str:
    """The member with this name, or whose id begins so; ``NotFoundError``."""
    named = sorted(peer for peer, name in members.items() if name == given)
    if len(named) > 1:
        raise NotFoundError(
            f"several peers are called {given!r}: {', '.join(named)}",
            hint="name one by its id: p2pfusion trust ls",
        )
    return named[0] if named else find_peer(given, members)


def _invite(invite: Invite) -> Data:
    return {
        "id": invite.id,
        "role": invite.role,
        "uses": invite.uses,
        "used_by": list(invite.used_by),
        "expires": invite.expires or None,
        "ended": invite.ended(time.time()) or None,
    }


def _own_code(manifest: Manifest) -> Data:
    """Functions that whoever joins has to name in its profile, by the keys for that."""
    named = {"models": manifest.model, "objectives": manifest.objective}
    needed = {key: [name] * (":" in name) for key, name in named.items()}
    return {**needed, "versions": dict(manifest.versions)}
