"""Who is let in: invitations, strangers that wait for a decision, and the decision.

Only admins admit. A newcomer shows the secret of an invitation that this very peer has
issued, or is accepted by hand (mode ``pending``), or by everybody's leave (``open``).
What it gets is a credential that every member can trace back to the founder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from p2pfusion.limits import MAX_INVITES, MAX_PENDING, MAX_ROSTER
from p2pfusion.protocol.messages import Hello, PeerRecord, Refused
from p2pfusion.security import proves

ASK_ADMIN = "this peer cannot let anybody in"


@dataclass(frozen=True)
class Invite:
    """A promise to admit whoever knows the secret."""

    id: str
    secret: bytes
    role: str
    uses: int
    """How many peers; 0 is any number."""
    expires: int
    """Unix time of the end, in seconds; 0 is never."""
    revoked: bool = False
    used_by: tuple[str, ...] = ()
    """Peers that it has admitted."""

    def ended(self, wall: float) -> str:
        """In words, why it admits nobody any more; "" while it does."""
        if self.revoked:
            return "this ticket was revoked"
        if self.expires and wall > self.expires:
            return "this ticket has expired"
        # One for any number of peers, too, must not make us remember any number.
        if len(self.used_by) >= min(self.uses or MAX_ROSTER, MAX_ROSTER):
            return "this ticket has been used up"
        return ""


@dataclass(frozen=True)
class Admit:
    """The decision: let this newcomer in with this role, by this invitation or none."""

    role: str
    invite: str


class Admission:
    """The invitations of one peer, and the strangers that knocked at it."""

    def __init__(self) -> None:
        self.invites: dict[str, Invite] = {}
        self.pending: dict[str, tuple[PeerRecord, Hello]] = {}
        self._decided: dict[str, Admit | Refused] = {}

    def restore(self, invites: Iterable[Invite]) -> None:
        """Takes up the invitations of an earlier run."""
        self.invites = {invite.id: invite for invite in invites}

    def add(self, invite: Invite, wall: float) -> None:
        """A new invitation; the oldest that admits nobody any more gives way."""
        ended = [known for known in self.invites.values() if known.ended(wall)]
        if len(self.invites) >= MAX_INVITES and ended:
            del self.invites[ended[0].id]
        self.invites[invite.id] = invite

    def is_full(self, wall: float) -> bool:
        """Whether there is no room for another invitation."""
        full = len(self.invites) >= MAX_INVITES
        return full and not any(known.ended(wall) for known in self.invites.values())

    def revoke(self, invite: str) -> None:
        """This invitation admits nobody any more."""
        self.invites[invite] = replace(self.invites[invite], revoked=True)

    def accept(self, peer: str) -> Admit:
        """Whoever waits under this id is let in."""
        del self.pending[peer]
        decision = Admit("member", "")
        self._remember(peer, decision)
        return decision

    def deny(self, peer: str) -> Refused:
        """Whoever waits under this id is sent away."""
        del self.pending[peer]
        decision = Refused("denied", "an admin of the swarm has said no")
        self._remember(peer, decision)
        return decision

    def _remember(self, peer: str, decision: Admit | Refused) -> None:
        """For the case that it knocks again; only so many."""
        self._decided.pop(peer, None)
        self._decided[peer] = decision
        if len(self._decided) > MAX_PENDING:
            del self._decided[next(iter(self._decided))]

    def decide(
        self, record: PeerRecord, hello: Hello, *, mode: str, swarm: str, wall: float
    ) -> Admit | Refused:
        """Whether a newcomer is let in. What it used up is noted."""
        if hello.invite:
            return self._by_invite(record, hello, swarm=swarm, wall=wall)
        if mode == "ticket":
            return Refused("denied", "this swarm admits only by ticket")
        if mode == "open":
            return Admit("member", "")
        if record.peer in self._decided:
            return self._decided[record.peer]
        if record.peer not in self.pending and len(self.pending) >= MAX_PENDING:
            return Refused("pending", "too many are waiting to be let in")
        self.pending[record.peer] = (record, hello)
        return Refused("pending", "an admin of the swarm has to accept this peer")

    def _by_invite(
        self, record: PeerRecord, hello: Hello, *, swarm: str, wall: float
    ) -> Admit | Refused:
        invite = self.invites.get(hello.invite)
        if invite is None or not proves(
            invite.secret, hello.proof, swarm=swarm, peer=record.peer
        ):
            return Refused("denied", "this ticket is not known here")
        if record.peer not in invite.used_by:
            why = invite.ended(wall)
            if why:
                return Refused("denied", why)
            used_by = (*invite.used_by, record.peer)
            self.invites[invite.id] = replace(invite, used_by=used_by)
        elif invite.revoked:
            return Refused("denied", invite.ended(wall))
        return Admit(invite.role, invite.id)
