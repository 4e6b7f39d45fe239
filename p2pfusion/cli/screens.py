"""Members and rounds as text: one pure function per screen, data in, text out.

Every wait says for whom and why; unknown is a word. Rounds are counted from 0.
"""

from __future__ import annotations

from collections.abc import Sequence

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
from p2pfusion.cli.text import duration, number, percent, plural, shorten, size, table

ID_WIDTH = 9
NOT_YET = "not yet"
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
        word(peer.get("name")),
        shorten(word(peer.get("id")), ID_WIDTH),
        word(peer.get("state")),
        address_of(peer),
        duration(real(peer, "rtt_s"), "not measured"),
        number(peer.get("round"), NOT_YET),
        fraction(peer),
        number(peer.get("overlap"), "unknown"),
        size(real(peer, "sent_bytes")),
        size(real(peer, "received_bytes")),
    ]
    if peer.get("state") == "self":
        row[0] += "*"
        row[4] = row[7] = row[8] = row[9] = "here"
    return row


def peer_screen(peer: Table) -> str:
    """Everything about one member, as this peer sees it."""
    rtt = duration(real(peer, "rtt_s"), "not measured")
    heard = real(peer, "heard_s_ago")
    observers = ", ".join(str(n) for n in items(peer, "observers")) or "nobody"
    accusers = ", ".join(str(n) for n in items(peer, "accused_by")) or "nobody"
    told = "never" if heard is None else f"{duration(heard)} ago"
    return "\n".join(
        [
            f"{word(peer.get('name'))}  {word(peer.get('id'))}",
            labelled("State", word(peer.get("state"))),
            labelled("Heard", f"{told}   round trip {rtt}   {where_of(peer)}"),
            labelled("Round", number(peer.get("round"), NOT_YET)),
            labelled("Split", _shares(peer)),
            labelled("Net", traffic(peer, "sent_bytes", "received_bytes")),
            labelled("Watched", f"by {observers}   accused by {accusers}"),
            labelled("Member", _membership(peer)),
            *_quarantine(part(peer, "quarantine")),
        ]
    )


def _quarantine(held: Table) -> list[str]:
    """What is held against a peer in quarantine, and how that ends."""
    if not held:
        return []
    ends = "until enough rounds have passed, or: p2pfusion trust pardon"
    since = f"since round {number(held.get('since_round'))}, {ends}"
    ends = "proven by its own signatures: for good" if held.get("proven") else since
    return [labelled("Caught", f"{word(held.get('why'))}   {ends}")]


def address_of(peer: Table) -> str:
    """Where a member listens, or through whom it is reached."""
    if peer.get("through") is not None:
        return f"through {peer['through']}"
    return word(peer.get("address"))


def where_of(peer: Table) -> str:
    """The same within a sentence."""
    where = address_of(peer)
    return f"({where})" if peer.get("outward") is True else f"at {where}"


def _shares(peer: Table) -> str:
    shared = number(peer.get("overlap"), "unknown")
    return f"fraction {fraction(peer)}   shares {shared} parameters with this peer"


def _membership(peer: Table) -> str:
    words = [
        f"{word(peer.get('role'))}, let in by {peer.get('admitted_by') or 'nobody'}",
        f"from epoch {number(peer.get('join_epoch'), NOT_YET)} on",
        f"start {number(peer.get('starts'))}",
    ]
    if peer.get("leave_epoch") is not None:
        words.append(f"leaves with epoch {number(peer['leave_epoch'])}")
    return "   ".join(words)


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
                duration(real(done, "seconds")),
                plural(len(items(done, "contributors")), "peer"),
                ", ".join(word(m.get("name")) for m in rows(done, "missing"))
                or "nobody",
                size(real(done, "sent_bytes")),
                size(real(done, "received_bytes")),
                number(done.get("loss"), "none"),
                percent(real(done, "accuracy"), "not measured"),
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
        f"Round {number(done.get('number'))}  took {duration(real(done, 'seconds'))}",
        *_phases(part(done, "phases")),
        labelled(
            "From", ", ".join(str(n) for n in items(done, "contributors")) or "nobody"
        ),
    ]
    missing = [
        f"{word(each.get('name'))}: {word(each.get('reason'))}"
        for each in rows(done, "missing")
    ]
    lines.append(labelled("Missing", "; ".join(missing) or "nobody"))
    lines += _late(part(done, "offers"), real(done, "number") or 0.0)
    lines += _waited(done)
    lines.append(labelled("Net", traffic(done, "sent_bytes", "received_bytes")))
    lines.append(
        labelled(
            "Metrics",
            f"loss {number(done.get('loss'))}   "
            f"accuracy {percent(real(done, 'accuracy'), 'not measured')}   "
            f"update norm {number(done.get('norm'))}",
        )
    )
    lines.append(labelled("Stale", stale(done.get("stale_ranges"))))
    offers = [each for each in part(done, "offers").values() if isinstance(each, dict)]
    if offers:
        lines += ["", table(OFFERS, [_offer_row(each) for each in offers], WIDE)]
    return "\n".join(lines)


OFFERS = ("OFFERED", "AFTER", "SAMPLES", "LOSS", "NORM")
WIDE = 160


def _offer_row(offer: Table) -> list[str]:
    return [
        word(offer.get("name")),
        duration(real(offer, "after_s")),
        number(offer.get("samples")),
        number(offer.get("loss")),
        number(offer.get("norm")),
    ]


def _phases(phases: Table) -> list[str]:
    """Where the time went."""
    if not phases:
        return []
    spent = [
        f"{what} {duration(real(phases, key), 'nothing')}"
        for key, what in (
            ("train", "training"),
            ("offers", "waiting for offers"),
            ("exchange", "exchanging"),
        )
    ]
    return [labelled("Time", "   ".join(spent))]


def _late(offers: Table, number_of_round: float) -> list[str]:
    """Who offered what it had trained in an earlier round."""
    late = []
    for each in (offer for offer in offers.values() if isinstance(offer, dict)):
        base = real(each, "base_round")
        if base is not None and base < number_of_round:
            late.append(f"{word(each.get('name'))}: trained in round {base:.0f}")
    return [labelled("Late", "; ".join(late))] if late else []


def _waited(done: Table) -> list[str]:
    """How long others were waited for, and what that follows from."""
    waited = duration(real(done, "deadline_s"), "so long as nothing was measured")
    lines = [labelled("Waited", f"at most {waited} for others' offers")]
    deadlines = part(done, "deadlines")
    gives_up = real(deadlines, "gives_up_s")
    if gives_up is not None:
        lines.append(labelled("", f"until {duration(gives_up)} after its beginning"))
    if real(deadlines, "median_s") is not None:
        lines.append(
            labelled(
                "",
                f"measured: late by {duration(real(deadlines, 'median_s'))}, "
                f"give or take {duration(real(deadlines, 'mad_s'))}, "
                f"in {plural(int(real(deadlines, 'measured') or 0), 'offer')}",
            )
        )
    return lines
