"""What a daemon told, as text: one pure function per screen, data in, text out.

Every wait says for whom and why; unknown is a word. Rounds are counted from 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2pfusion.cli.access_screens import ADMISSION
from p2pfusion.cli.text import (
    coloured,
    duration,
    number,
    percent,
    plural,
    shorten,
    size,
    table,
)

Table = Mapping[str, object]

LABEL_WIDTH = 8
ID_WIDTH = 9
NOT_YET = "not yet"
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


PEERS_SPARE = ("ID", "SHARED", "FRACTION", "RTT", "ADDRESS")
ROUNDS_SPARE = ("STALE", "RECEIVED", "SENT", "TOOK")
"""Columns that a narrow screen can do without, the least missed first."""


def peers_table(peers: Sequence[Table], width: int) -> str:
    """One row per member, oneself included."""
    head = ("NAME", "ID", "STATE", "ADDRESS", "RTT", "ROUND", "FRACTION", "SHARED")
    lines = [_peer_row(peer) for peer in peers]
    return table((*head, "SENT", "RECEIVED"), lines, width, PEERS_SPARE)


def _peer_row(peer: Table) -> list[str]:
    row = [
        _text(peer.get("name")),
        shorten(_text(peer.get("id")), ID_WIDTH),
        _text(peer.get("state")),
        _text(peer.get("address")),
        duration(_float(peer, "rtt_s"), "not measured"),
        number(peer.get("round"), NOT_YET),
        _fraction(peer),
        number(peer.get("overlap"), "unknown"),
        size(_float(peer, "sent_bytes")),
        size(_float(peer, "received_bytes")),
    ]
    if peer.get("state") == "self":
        row[0] += "*"
        row[4] = row[7] = row[8] = row[9] = "here"
    return row


def rounds_table(rounds: Sequence[Table], width: int) -> str:
    """One row per round, newest last."""
    if not rounds:
        return "No round is complete yet; `p2pfusion status` says what is waited for."
    head = ("ROUND", "TOOK", "FROM", "MISSING", "SENT", "RECEIVED", "LOSS", "ACCURACY")
    return table(
        (*head, "STALE"),
        [
            [
                number(done.get("number")),
                duration(_float(done, "seconds")),
                plural(len(_items(done, "contributors")), "peer"),
                ", ".join(_text(m.get("name")) for m in rows(done, "missing"))
                or "nobody",
                size(_float(done, "sent_bytes")),
                size(_float(done, "received_bytes")),
                number(done.get("loss"), "none"),
                percent(_float(done, "accuracy"), "not measured"),
                number(done.get("stale_ranges"), "none"),
            ]
            for done in rounds
        ],
        width,
        ROUNDS_SPARE,
    )


def round_screen(done: Table) -> str:
    """Everything about one round."""
    lines = [
        f"Round {number(done.get('number'))}  took {duration(_float(done, 'seconds'))}",
        _line(
            "From", ", ".join(str(n) for n in _items(done, "contributors")) or "nobody"
        ),
    ]
    missing = [
        f"{_text(each.get('name'))}: {_text(each.get('reason'))}"
        for each in rows(done, "missing")
    ]
    lines.append(_line("Missing", "; ".join(missing) or "nobody"))
    waited = duration(_float(done, "deadline_s"), "so long as nothing was measured")
    lines.append(_line("Waited", f"at most {waited}"))
    lines.append(_line("Net", _traffic(done, "sent_bytes", "received_bytes")))
    lines.append(
        _line(
            "Metrics",
            f"loss {number(done.get('loss'))}   "
            f"accuracy {percent(_float(done, 'accuracy'), 'not measured')}   "
            f"update norm {number(done.get('norm'))}",
        )
    )
    lines.append(_line("Stale", _stale(done.get("stale_ranges"))))
    return "\n".join(lines)


def _swarm_lines(status: Table) -> str:
    swarm, round_now = _part(status, "swarm"), _part(status, "round")
    roster, metrics = _part(status, "roster"), _part(status, "metrics")
    members = roster.get("members")
    count = len(members) if isinstance(members, list) else members
    lines = [
        _line(
            "Swarm",
            f"{_named(swarm)}   "
            f"{_text(swarm.get('method'))} on {_text(swarm.get('model'))}, "
            f"{number(swarm.get('rounds'))} rounds",
        ),
        _self_line(status),
        _line(
            "Roster",
            f"epoch {number(roster.get('epoch'), NOT_YET)}   "
            f"digest {shorten(_text(roster.get('digest')), ID_WIDTH)}   "
            + (
                plural(count, "member") if isinstance(count, int) else "members unknown"
            ),
        ),
        *_round_lines(round_now),
        _store_line(_part(status, "store")),
        _net_line(_part(status, "traffic")),
        *_access_lines(_part(status, "security")),
        _line(
            "Metrics",
            f"loss {number(metrics.get('loss'), NOT_YET)}   "
            f"accuracy {percent(_float(metrics, 'accuracy'), 'not measured')}",
        ),
    ]
    return "\n".join(lines)


def _self_line(status: Table) -> str:
    me, daemon = _part(status, "self"), _part(status, "daemon")
    addresses = ", ".join(str(a) for a in _items(me, "addresses")) or "no address"
    return _line(
        "Self",
        f"{_named(me)}   "
        f"{addresses}   split fraction {_fraction(me)}   "
        f"trainer {_text(me.get('trainer'))}   "
        f"up {duration(_float(daemon, 'uptime_s'))}",
    )


def _round_lines(round_now: Table) -> list[str]:
    if round_now.get("number") is None:
        first = "not started"
    else:
        first = f"{number(round_now['number'])}  {_text(round_now.get('phase'))}"
    if round_now.get("started_s_ago") is not None:
        first += f"  for {duration(_float(round_now, 'started_s_ago'))}"
    if round_now.get("deadline_in_s") is not None:
        first += f"  (closes in {duration(_float(round_now, 'deadline_in_s'))})"
    return [_line("Round", first), *_waiting(round_now)]


def _waiting(round_now: Table) -> list[str]:
    names = [
        f"{_text(each.get('peer'))} ({_text(each.get('reason'))})"
        for each in rows(round_now, "waiting_for")
    ]
    return [_line("", "waiting for " + ", ".join(names))] if names else []


def _store_line(store: Table) -> str:
    low, high = store.get("version_min"), store.get("version_max")
    if low is None:
        return _line("Store", "nothing yet")
    return _line(
        "Store",
        f"versions {number(low)} to {number(high)}   "
        f"ever trained {percent(_float(store, 'ever_trained_fraction'))}   "
        f"copies at least {number(store.get('replication_min'))}   "
        f"stale ranges {_stale(store.get('stale_ranges'))}",
    )


def _net_line(traffic: Table) -> str:
    return _line(
        "Net",
        f"{_traffic(traffic, 'sent_bytes', 'received_bytes')}   this round "
        f"{_traffic(traffic, 'round_sent_bytes', 'round_received_bytes')}   "
        f"(full model: {size(_float(traffic, 'full_model_bytes'))})",
    )


def _access_lines(security: Table) -> list[str]:
    """How closed the door is, who waits at it, and what was turned away."""
    words = [_encryption(security)]
    if security.get("admission") is not None:
        words.append(ADMISSION.get(str(security["admission"]), "unknown"))
    if security.get("role") is not None:
        words.append(f"this peer is {_ROLES.get(str(security['role']), 'unknown')}")
    for key, what in (("pending", "to be let in, waiting"), ("revoked", "put out")):
        if security.get(key):
            words.append(f"{what}: {number(security[key])}")
    lines = [_line("Access", "   ".join(words))]
    if refused := _part(security, "refused"):
        lines.append(_line("", f"refused or dropped: {_most_frequent(refused)}"))
    return lines


def _most_frequent(reasons: Table) -> str:
    counts = {reason: n for reason, n in reasons.items() if isinstance(n, int)}
    ranked = sorted(counts, key=counts.__getitem__, reverse=True)
    shown = [f"{each} ({number(counts[each])})" for each in ranked[:MOST_REASONS]]
    more = len(ranked) - len(shown)
    return ", ".join([*shown, *([plural(more, "other reason")] if more else [])])


_ROLES = {"admin": "an admin", "member": "a member"}


def _encryption(security: Table) -> str:
    if security.get("encrypted") is None:
        return "encryption unknown"
    if security["encrypted"]:
        return "encrypted"
    return coloured("NOT ENCRYPTED", "error")


def _traffic(data: Table, sent: str, received: str) -> str:
    return f"{size(_float(data, sent))} sent, {size(_float(data, received))} received"


def _joining_lines(status: Table) -> str:
    lines = ["Daemon running, not in a swarm yet.", _self_line(status)]
    lines += _access_lines(_part(status, "security"))
    attempts = rows(status, "joining")
    for attempt in attempts:
        lines.append(
            f"  joining  {_text(attempt.get('address'))}   "
            f"attempt {number(attempt.get('attempts'))}, "
            f"next in {duration(_float(attempt, 'next_in_s'), 'a moment')}"
        )
        if attempt.get("last_error"):
            lines.append(f"  last error: {_text(attempt['last_error'])}")
    if attempts:
        lines.append(
            "  do this: check that a daemon of the swarm listens at that address "
            "(`p2pfusion status` there shows it), or ask for a new ticket "
            "(`p2pfusion invite create` there)"
        )
    elif _part(status, "self").get("role") == "founder":
        lines.extend(_waiting(_part(status, "round")))
    else:
        lines.append(
            "  do this: `p2pfusion join TICKET` with a ticket from an admin of a swarm "
            "(`p2pfusion invite create` there)"
        )
    return "\n".join(lines)


def _health(rows: Sequence[Table]) -> str:
    if not rows:
        return ""
    lines = ["Health"]
    for row in rows:
        level = _text(row.get("level"))
        shown = coloured(level, level) if level in ("warn", "error") else level
        hint = row.get("hint")
        lines.append(
            f"  {shown}{' ' * max(1, 6 - len(level))}{_text(row.get('message'))}"
            + (f"; {hint}" if hint else "")
        )
    return "\n".join(lines)


def _named(data: Table) -> str:
    return f"{_text(data.get('name'))} ({shorten(_text(data.get('id')), ID_WIDTH)})"


def _line(label: str, text: str) -> str:
    return f"{label:<{LABEL_WIDTH}}{text}"


def _stale(count: object) -> str:
    return "none" if count == 0 else number(count)


def _fraction(data: Table) -> str:
    value = _float(data, "split_fraction")
    return "unknown" if value is None else f"{value:g}"


def _text(value: object) -> str:
    return "unknown" if value is None else str(value)


def _float(data: Table, key: str) -> float | None:
    value = data.get(key)
    return float(value) if isinstance(value, (int, float)) else None


def _part(data: Table, key: str) -> Table:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _items(data: Table, key: str) -> Sequence[object]:
    value = data.get(key)
    return value if isinstance(value, (list, tuple)) else ()


def rows(data: Table, key: str) -> list[Table]:
    """The tables in a list of the answer; nothing where there is none."""
    return [row for row in _items(data, key) if isinstance(row, Mapping)]
