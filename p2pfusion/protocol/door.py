"""What happens at the door: greetings, and who is let in, sent away or put out.

A greeting of a member is answered with the facts; one of anybody else is put to
``Admission``. An admin signs for those that it lets in, and for those that it puts out.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import MAX_REFUSED_CHARACTERS, MAX_ROSTER
from p2pfusion.protocol.admission import ASK_ADMIN, Admission, Admit, Invite
from p2pfusion.protocol.events import Effect, Reply, Report, SaveInvites, Send
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.gossip import Gossip
from p2pfusion.protocol.memberships import check_fractions
from p2pfusion.protocol.messages import (
    PROTOCOL_VERSION,
    Facts,
    Hello,
    ManifestPart,
    Membership,
    PeerRecord,
    Recovery,
    Refused,
    Revocation,
)
from p2pfusion.protocol.statements import (
    read_record,
    sign_recovery,
    sign_revocation,
)
from p2pfusion.security import issue

MANIFEST_PART_BYTES = 48 * 1024
"""Fits a control frame with its head."""

NOTICE_ROUNDS = 2
"""A revocation counts from the next epoch that begins at least so many rounds ahead: a
round plans the splits of its successor, so that one must not have been planned yet."""


REMINDER_INTERVAL_S = 15.0
"""Between two words to somebody that this peer has put out: it may have been away."""


class Door:
    """Answers those who greet."""

    def __init__(self, gossip: Gossip, wall_offset_s: float) -> None:
        """``wall_offset_s``: Unix time less the clock of all events, in seconds."""
        self.gossip = gossip
        self.admission = Admission()
        self._wall_offset_s = wall_offset_s
        self._remind_at = 0.0

    @property
    def is_admin(self) -> bool:
        """Whether this peer can revoke, and admit if its own chain has room."""
        return self.gossip.facts.is_admin(self.gossip.me)

    # --- Greetings -------------------------------------------------------------------

    def hello(self, peer: str, hello: Hello, now: float) -> list[Effect]:
        """Somebody greets. ``peer`` is whose key the connection proved, or a guest."""
        gossip = self.gossip
        record = read_record(hello.record, gossip.scheme)
        check_fractions(record)
        if record.key == gossip.record.key:
            # Somebody's old address has become ours, or we were told to join ourselves.
            gossip.joining.note("the address leads back to this peer")
            return []
        if " " not in peer and record.peer != peer:
            raise RemoteProtocolError(f"{peer} speaks for {record.peer}")
        if hello.version != PROTOCOL_VERSION:
            text = f"protocol {hello.version} there, {PROTOCOL_VERSION} here"
            return [Reply(record, Refused("version", text))]
        if gossip.manifest is None:
            text = "this peer has no swarm yet"
            return [Reply(record, Refused("not-ready", text))]
        if record.peer in gossip.facts.revoked:
            return [Reply(record, Refused("denied", "this peer has been put out"))]
        if hello.swarm_id not in ("", gossip.swarm_id):
            text = f"another swarm lives here: {gossip.manifest.name!r}"
            return [Reply(record, Refused("denied", text))]
        has_shown = hello.credential or record.key == gossip.manifest.founder_key
        if hello.swarm_id and has_shown and record.swarm == gossip.swarm_id:
            return gossip.greeted_by(record, hello, now)
        return self._newcomer(record, hello, now)

    def _newcomer(self, record: PeerRecord, hello: Hello, now: float) -> list[Effect]:
        """Somebody without a credential: new, or a member that has lost its disk."""
        manifest, facts = self.gossip.manifest, self.gossip.facts
        assert manifest is not None
        known = facts.membership(record.peer)
        if known is not None:
            return self._let_in(record, hello, known.credential, now)
        if not facts.can_admit(self.gossip.me):
            return [Reply(record, Refused("not-ready", self._ask_admin()))]
        if len(facts.records) >= MAX_ROSTER:
            text = "the swarm has as many members as this version allows"
            return [Reply(record, Refused("not-ready", text))]
        decision = self.admission.decide(
            record,
            hello,
            mode=manifest.admission,
            swarm=manifest.swarm_id,
            wall=self.wall(now),
        )
        if isinstance(decision, Refused):
            details = {"peer": record.peer, "name": record.name, "why": decision.text}
            report = Report(f"newcomer-{decision.code}", details)
            return [Reply(record, decision), report]
        return self._admit(record, hello, decision, now)

    def _ask_admin(self) -> str:
        facts = self.gossip.facts
        admins = [r for r in facts.members() if facts.can_admit(r.peer)]
        named = ", ".join(f"{r.name} at {r.address}" for r in admins[:3])
        text = f"{ASK_ADMIN}; ask {named or 'an admin'}"
        fits = len(text) <= MAX_REFUSED_CHARACTERS
        return text if fits else text[: MAX_REFUSED_CHARACTERS - 3] + "..."

    def _admit(
        self, record: PeerRecord, hello: Hello, decision: Admit, now: float
    ) -> list[Effect]:
        gossip = self.gossip
        credential = issue(
            gossip.signer,
            gossip.credential,
            swarm=gossip.swarm_id,
            public=record.key,
            role=decision.role,
            invite=decision.invite,
        )
        details = {"peer": record.peer, "name": record.name, "role": decision.role}
        return [
            Report("newcomer-admitted", {**details, "invite": decision.invite}),
            *self._saved(),
            *self._let_in(record, hello, credential, now),
        ]

    def _let_in(
        self, record: PeerRecord, hello: Hello, credential: bytes, now: float
    ) -> list[Effect]:
        """The manifest, the credential and the facts for a newcomer."""
        gossip, peer = self.gossip, record.peer
        assert gossip.manifest is not None
        packed = gossip.manifest.to_bytes()
        news: list[Effect] = []
        if record.swarm == gossip.swarm_id:
            membership = Membership(hello.record, credential)
            news = gossip.on_facts(peer, Facts((membership,)), now)
        effects: list[Effect] = [
            # What this peer promises must outlive it: first the disk, then the answer.
            *([gossip.spread.saved(now)] if news else []),
            gossip.dial(gossip.newest(record), now),
            Send(peer, gossip.welcome(len(packed), credential)),
        ]
        for offset in range(0, len(packed), MANIFEST_PART_BYTES):
            part = packed[offset : offset + MANIFEST_PART_BYTES]
            effects.append(Send(peer, ManifestPart(offset, part)))
        return effects + news + [Send(peer, facts) for facts in gossip.facts.messages()]

    # --- The user's word -------------------------------------------------------------

    def wall(self, now: float) -> float:
        """Unix time, in seconds."""
        return now + self._wall_offset_s

    def invite(self, invite: Invite, now: float) -> list[Effect]:
        """A new invitation."""
        self.admission.add(invite, self.wall(now))
        return self._saved()

    def revoke_invite(self, invite: str) -> list[Effect]:
        """This invitation admits nobody any more."""
        self.admission.revoke(invite)
        return self._saved()

    def _saved(self) -> list[Effect]:
        return [SaveInvites(tuple(self.admission.invites.values()))]

    def decided(self, peer: str, *, accepted: bool, now: float) -> list[Effect]:
        """A peer that waits is let in, or sent away."""
        if peer not in self.admission.pending:
            return []
        record, hello = self.admission.pending[peer]
        if not accepted:
            refused = self.admission.deny(peer)
            return [Reply(record, refused)]
        return self._admit(record, hello, self.admission.accept(peer), now)

    def revoke(self, peer: str, reason: str, round_index: int) -> list[Effect]:
        """An admin puts a member out: at once at the socket, soon in the plans."""
        gossip = self.gossip
        assert gossip.manifest is not None
        statement = sign_revocation(
            gossip.swarm_id,
            peer=peer,
            epoch=self._effective_epoch(round_index),
            reason=reason,
            signer=gossip.signer,
        )
        revocation = Revocation(statement, gossip.credential)
        return gossip.publish(Facts(revocations=(revocation,)))

    def recover(
        self, peers: Sequence[str], reason: str, round_index: int
    ) -> list[Effect]:
        """An admin declares members lost, so that the rest has a quorum again."""
        gossip = self.gossip
        known = [
            p for p in sorted(set(peers)) if gossip.is_member(p) and p != gossip.me
        ]
        if not known or not self.is_admin:
            return []
        statement = sign_recovery(
            gossip.swarm_id,
            peers=known,
            epoch=self._effective_epoch(round_index),
            reason=reason,
            signer=gossip.signer,
        )
        recovery = Recovery(statement, gossip.credential)
        return gossip.publish(Facts(recoveries=(recovery,)))

    def _effective_epoch(self, round_index: int) -> int:
        assert self.gossip.manifest is not None
        return self.gossip.manifest.epoch(round_index + NOTICE_ROUNDS - 1) + 1

    def remind(self, now: float) -> list[Effect]:
        """Tells whom this peer has put out that it is out, now and then.

        Nobody lets it in any more, so it cannot learn that by asking.
        """
        if now < self._remind_at:
            return []
        self._remind_at = now + REMINDER_INTERVAL_S
        facts = self.gossip.facts
        return [
            Reply(facts.records[said.fact.peer], Facts(revocations=(said.revocation,)))
            for said in facts.revocations.values()
            if said.fact.by == self.gossip.me and said.fact.peer in facts.records
        ]

    def would_put_out(self, peer: str) -> list[str]:
        """Whom a revocation of this peer would take along: itself, if allowed."""
        gossip = self.gossip
        if gossip.manifest is None or not self.is_admin:
            return []
        trial = FactSet(gossip.scheme, gossip.manifest)
        trial.merge(gossip.facts.all())
        before = set(trial.revoked)
        statement = sign_revocation(
            gossip.swarm_id, peer=peer, epoch=0, reason="", signer=gossip.signer
        )
        trial.merge(Facts(revocations=(Revocation(statement, gossip.credential),)))
        return sorted(set(trial.revoked) - before)
