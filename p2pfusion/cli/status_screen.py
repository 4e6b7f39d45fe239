"""The screen of ``status``, as text: one pure function, data in, text out.

It begins with the state and whom the peer waits for; it ends with what is wrong and
what to do. Unknown is a word.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pfusion.cli.access_screens import ADMISSION
from p2pfusion.cli.fields import (
    Table,
    fraction,
    items,
    labelled,
    part,
    real,
    rows,
    stale,
    traffic,
    word,
)
from p2pfusion.cli.screens import ID_WIDTH, NOT_YET, peers_table
from p2pfusion.cli.text import (
    coloured,
    duration,
    number,
    percent,
    plural,
    shorten,
    size,
)

MOST_REASONS = 3
"""Of the reasons why something was refused, the most frequent ones are shown."""


def status_screen(status: Table, peers: Sequence[Table], width: int) -> str:
    """Self, swarm, roster, round and what is waited for, traffic, health."""
    joined = status.get("swarm") is not None
    parts = [_swarm_lines(status) if joined else _joining_lines(status)]
    if joined and peers:
        parts.append(peers_table(peers, width))
    parts.append(_health(rows(status, "health")))
    return "\n\n".join(part for part in parts if part)


def _swarm_lines(status: Table) -> str:
    swarm, round_now = part(status, "swarm"), part(status, "round")
    roster, metrics = part(status, "roster"), part(status, "metrics")
    members = roster.get("members")
    count = len(members) if isinstance(members, list) else members
    lines = [
        labelled(
            "Swarm",
            f"{_named(swarm)}   "
            f"{word(swarm.get('method'))} on {word(swarm.get('model'))}, "
            f"{number(swarm.get('rounds'))} rounds",
        ),
        *_state_lines(status),
        _self_line(status),
        labelled(
            "Roster",
            f"epoch {number(roster.get('epoch'), NOT_YET)}   "
            f"digest {shorten(word(roster.get('digest')), ID_WIDTH)}   "
            + (
                plural(count, "member") if isinstance(count, int) else "members unknown"
            ),
        ),
        *_round_lines(round_now),
        _store_line(part(status, "store")),
        *_net_lines(part(status, "traffic")),
        *_access_lines(part(status, "security")),
        *_privacy_lines(part(status, "privacy")),
        labelled(
            "Metrics",
            f"loss {number(metrics.get('loss'), NOT_YET)}   "
            f"accuracy {percent(real(metrics, 'accuracy'), 'not measured')}",
        ),
    ]
    return "\n".join(lines)


def _state_lines(status: Table) -> list[str]:
    """In which state the peer is, and what a person can do about it."""
    state = part(status, "state")
    if not state:
        return []
    lines = [labelled("State", word(state.get("text")))]
    if state.get("advice"):
        lines.append(labelled("", f"do this: {state['advice']}"))
    return lines


def _self_line(status: Table) -> str:
    me, daemon = part(status, "self"), part(status, "daemon")
    addresses = ", ".join(str(a) for a in items(me, "addresses")) or "no address"
    return labelled(
        "Self",
        f"{_named(me)}   "
        f"{addresses}   split fraction {fraction(me)}   "
        f"trainer {word(me.get('trainer'))}   "
        f"up {duration(real(daemon, 'uptime_s'))}",
    )


def _round_lines(round_now: Table) -> list[str]:
    if round_now.get("number") is None:
        first = "not started"
    else:
        first = f"{number(round_now['number'])}  {word(round_now.get('phase'))}"
    if round_now.get("started_s_ago") is not None:
        first += f"  for {duration(real(round_now, 'started_s_ago'))}"
    if round_now.get("deadline_in_s") is not None:
        first += f"  (closes in {duration(real(round_now, 'deadline_in_s'))})"
    return [labelled("Round", first), *_waiting(round_now)]


def _waiting(round_now: Table) -> list[str]:
    names = [_awaited(each) for each in rows(round_now, "waiting_for")]
    return [labelled("", "waiting for " + ", ".join(names))] if names else []


def _awaited(wait: Table) -> str:
    """``lab-c (its offer, for at most 12s more)``."""
    reason = word(wait.get("reason"))
    left = real(wait, "gives_up_in_s")
    if left is not None:
        reason += f", for at most {duration(left)} more"
    return f"{word(wait.get('peer'))} ({reason})"


def _store_line(store: Table) -> str:
    low, high = store.get("version_min"), store.get("version_max")
    if low is None:
        return labelled("Store", "nothing yet")
    return labelled(
        "Store",
        f"versions {number(low)} to {number(high)}   "
        f"ever trained {percent(real(store, 'ever_trained_fraction'))}   "
        f"copies at least {number(store.get('replication_min'))}   "
        f"stale ranges {stale(store.get('stale_ranges'))}",
    )


def _net_lines(counts: Table) -> list[str]:
    line = labelled(
        "Net",
        f"{traffic(counts, 'sent_bytes', 'received_bytes')}   this round "
        f"{traffic(counts, 'round_sent_bytes', 'round_received_bytes')}   "
        f"(full model: {size(real(counts, 'full_model_bytes'))})",
    )
    notes = [
        f"{what} at most {size(rate)}/s"
        for what, key in (("sends", "up"), ("receives", "down"))
        if (rate := real(counts, f"{key}_limit_bytes_per_s")) is not None
    ]
    if relayed := real(counts, "relayed_bytes"):
        notes.append(f"relayed {size(relayed)} between others")
    return [line, labelled("", ", ".join(notes))] if notes else [line]


def _access_lines(security: Table) -> list[str]:
    """How closed the door is, who waits at it, and what was turned away."""
    words = [_encryption(security)]
    if security.get("admission") is not None:
        words.append(ADMISSION.get(str(security["admission"]), "unknown"))
    if security.get("role") is not None:
        words.append(f"this peer is {_ROLES.get(str(security['role']), 'unknown')}")
    for key, what in COUNTED:
        if security.get(key):
            words.append(f"{what}: {number(security[key])}")
    lines = [labelled("Access", "   ".join(words))]
    if refused := part(security, "refused"):
        lines.append(labelled("", f"refused or dropped: {_most_frequent(refused)}"))
    return lines


def _privacy_lines(privacy: Table) -> list[str]:
    """What this peer's data has told, if that is counted."""
    if not privacy:
        return []
    budget, told = real(privacy, "budget"), real(privacy, "epsilon")
    words = f"epsilon {number(told, 'not known yet')}"
    words += f" of {number(budget)}" if budget is not None else ""
    words += f" at delta {real(privacy, 'delta'):g}"
    rounds = number(privacy.get("rounds"), "no")
    return [labelled("Privacy", f"{words}   {rounds} rounds contributed")]


def _most_frequent(reasons: Table) -> str:
    counts = {reason: n for reason, n in reasons.items() if isinstance(n, int)}
    ranked = sorted(counts, key=counts.__getitem__, reverse=True)
    shown = [f"{each} ({number(counts[each])})" for each in ranked[:MOST_REASONS]]
    more = len(ranked) - len(shown)
    return ", ".join([*shown, *([plural(more, "other reason")] if more else [])])


COUNTED = (
    ("pending", "to be let in, waiting"),
    ("revoked", "put out"),
    ("quarantined", "in quarantine"),
)
_ROLES = {"admin": "an admin", "member": "a member"}


def _encryption(security: Table) -> str:
    if security.get("encrypted") is None:
        return "encryption unknown"
    if security["encrypted"]:
        return "encrypted"
    return coloured("NOT ENCRYPTED", "error")


def _joining_lines(status: Table) -> str:
    lines = ["Daemon running, not in a swarm yet.", *_state_lines(status)]
    lines += [_self_line(status), *_access_lines(part(status, "security"))]
    attempts = rows(status, "joining")
    for attempt in attempts:
        lines.append(
            f"  joining  {word(attempt.get('address'))}   "
            f"attempt {number(attempt.get('attempts'))}, "
            f"next in {duration(real(attempt, 'next_in_s'), 'a moment')}"
        )
        if attempt.get("last_error"):
            lines.append(f"  last error: {word(attempt['last_error'])}")
    if not attempts:
        lines.extend(_waiting(part(status, "round")))
    return "\n".join(lines)


def _health(troubles: Sequence[Table]) -> str:
    if not troubles:
        return ""
    lines = ["Health"]
    for row in troubles:
        level = word(row.get("level"))
        shown = coloured(level, level) if level in ("warn", "error") else level
        hint = row.get("hint")
        lines.append(
            f"  {shown}{' ' * max(1, 6 - len(level))}{word(row.get('message'))}"
            + (f"; {hint}" if hint else "")
        )
    return "\n".join(lines)


def _named(data: Table) -> str:
    return f"{word(data.get('name'))} ({shorten(word(data.get('id')), ID_WIDTH)})"
