"""Invitations, strangers and members as text. Pure: what a daemon told in, text out.

Ids are shown whole wherever somebody has to compare them with another screen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from p2pfusion.cli.text import number, plural, table

Table = Mapping[str, object]

NO_INVITES = "There are no invitations; make one with `p2pfusion invite create`."
STILL_GOOD = (
    "A ticket that they know and that is still good lets them in again, as new peers: "
    "see `p2pfusion invite ls`."
)
"""Said when somebody was put out."""

ADMISSION = {
    "ticket": "entry by ticket",
    "pending": "entry by ticket or by an admin's consent",
    "open": "entry open to everybody",
}
"""What a swarm's rule of admission means."""

TRUST_SPARE = ("LET IN BY",)
INVITES_SPARE = ("ROLE",)
"""Columns that a narrow screen can do without."""


def instant(unix_s: object) -> str:
    """``2026-11-21 17:20 UTC``; ``never`` for an end that there is not."""
    if not isinstance(unix_s, (int, float)) or not unix_s:
        return "never"
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M} UTC"


def timestamp(unix_s: object) -> str | None:
    """The same for programs: RFC 3339."""
    if not isinstance(unix_s, (int, float)) or not unix_s:
        return None
    return datetime.fromtimestamp(unix_s, UTC).isoformat().replace("+00:00", "Z")


def ticket_notes(invite: Table) -> str:
    """Whom a new ticket lets in, until when, and how to take it back."""
    uses, ends = _whole(invite.get("uses")), invite.get("expires")
    is_admin, one = invite.get("role") == "admin", uses == 1
    whom = plural(uses, "peer") if uses else "any number of peers"
    role = "as a member" if one else "as members"
    if is_admin:
        role = "as an admin, who can" if one else "as admins, who can"
        role += " let in and put out others,"
    until = f"until {instant(ends)}" if ends else "until it is revoked"
    return _needed_code(invite.get("code")) + (
        f"Lets in {whom} {role} {until}:\n"
        "  p2pfusion start PROFILE --join TICKET\n"
        "Whoever reads the ticket can use it. To take it back:\n"
        f"  p2pfusion invite revoke {invite.get('id')}"
    )


def _needed_code(code: object) -> str:
    """What a profile has to name before it can join with the ticket."""
    if not isinstance(code, Mapping):
        return ""
    keys = [key for key in ("models", "objectives") if code.get(key)]
    if not keys:
        return ""
    lines = "".join(f"  {key} = {json.dumps(code[key])}\n" for key in keys)
    versions = code.get("versions") or {}
    assert isinstance(versions, Mapping)
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    installed = f", and have installed {packages}" if packages else ""
    return (
        f"Whoever joins trains with code that is not p2pfusion's{installed}. Its "
        f"profile must say, in [peer]:\n{lines}"
    )


def loopback_warning(addresses: Sequence[object]) -> str:
    """For a ticket that leads to nowhere but the same machine."""
    return (
        "p2pfusion: warning: other machines cannot reach "
        f"{', '.join(map(str, addresses))}: this ticket works on this machine only; "
        "start the daemon with --listen 0.0.0.0:7788 to let others in"
    )


def invites_screen(invites: Sequence[Table], width: int) -> str:
    """All invitations that this peer has made."""
    if not invites:
        return NO_INVITES
    head = ("ID", "ROLE", "USED", "ENDS", "STATE")
    return table(head, [_invite_row(each) for each in invites], width, INVITES_SPARE)


def _invite_row(invite: Table) -> list[str]:
    return [
        str(invite.get("id")),
        str(invite.get("role")),
        _used(invite),
        instant(invite.get("expires")),
        str(invite.get("ended") or "good").removeprefix("this ticket "),
    ]


def pending_screen(admission: object, pending: Sequence[Table], width: int) -> str:
    """Who waits to be let in, with the ids to compare."""
    if not pending:
        rule = ADMISSION.get(str(admission), "how peers come in is unknown")
        return f"Nobody waits to be let in ({rule})."
    rows = [
        [str(peer.get(key)) for key in ("id", "name", "address")] for peer in pending
    ]
    return (
        f"{table(('ID', 'CALLS ITSELF', 'ADDRESS'), rows, width)}\n\n"
        "Compare the id with what `p2pfusion id` prints on that machine, then:\n"
        "  p2pfusion pending accept ID"
    )


def trust_screen(
    peers: Sequence[Table], first_contacts: Table, names: Mapping[str, str], width: int
) -> str:
    """Every key that this peer knows, and what it thinks of it."""
    head = ("ID", "NAME", "ROLE", "LET IN BY", "STATE")
    text = table(head, [_trusted(peer, names) for peer in peers], width, TRUST_SPARE)
    if first_contacts:
        text += "\n\nTaken on trust when they were first met at these addresses:\n"
        text += "\n".join(
            f"  {where}  {peer}" for where, peer in first_contacts.items()
        )
    return text


def _trusted(peer: Table, names: Mapping[str, str]) -> list[str]:
    by = str(peer.get("admitted_by") or "")
    name = str(peer.get("name")) + ("*" if peer.get("self") else "")
    state = "trusted"
    if peer.get("revoked"):
        out = str(peer.get("revoked_by"))
        reason = peer.get("reason")
        state = f"put out by {names.get(out, out)}" + (f": {reason}" if reason else "")
    role = str(peer.get("role") or "unknown")
    return [str(peer.get("id")), name, role, names.get(by, by) or "(founder)", state]


def put_out_question(name: object, out: Sequence[Table]) -> str:
    """Whom a revocation would put out: the peer, and whom it has let in."""
    lines = [f"This puts out of the swarm for good, {name} and whom it has let in:"]
    if len(out) == 1:
        lines = ["This puts out of the swarm for good:"]
    lines += [f"  {each.get('name')}  {each.get('id')}" for each in out]
    return "\n".join(lines)


def put_out_text(out: Sequence[Table]) -> str:
    """After a revocation."""
    names = ", ".join(str(each.get("name")) for each in out)
    return f"Put out: {names}. Every member learns it and hangs up on them."


def pardon_text(data: Table) -> str:
    """After a pardon."""
    name, why = data.get("name"), data.get("why")
    if why is None:
        return f"Nothing is held against {name} here."
    before = "" if data.get("was_quarantined") else " It was not in quarantine yet."
    return f"Forgave {name}: {why}.{before}"


def first_contact_text(first_contacts: Table) -> str:
    """Whose key was taken on trust while joining."""
    return "\n".join(
        f"At {where} answered, for the first time, the peer\n  {peer}\n"
        "Compare this with what `p2pfusion id` prints there."
        for where, peer in first_contacts.items()
    )


def _used(invite: Table) -> str:
    used_by, uses = invite.get("used_by"), _whole(invite.get("uses"))
    used = len(used_by) if isinstance(used_by, list) else 0
    return f"{number(used)} of {number(uses)}" if uses else f"{number(used)}, no limit"


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
