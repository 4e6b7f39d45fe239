"""The data of every command, as shapes: the table that ``--schema`` prints from.

Names are those of the envelope's ``schema``: ``round-show``. A test runs every command
and compares, so a field that is added to an answer is added here.
"""

from __future__ import annotations

from p2pfusion.cli.daemon_shapes import (
    EVENT,
    MEMBER,
    MEMBER_DETAILS,
    PEER_ID,
    ROUND,
    STATUS,
)
from p2pfusion.cli.experiment_shapes import DEMO, EVALUATION, SIMULATION
from p2pfusion.cli.schema import (
    COUNT,
    ERROR,
    FLAG,
    FREE,
    PART,
    REAL,
    SECONDS,
    TEXT,
    TIME,
    WHOLE,
    Shape,
    maybe,
    record,
    rows,
    table,
    words,
)

# --- Access --------------------------------------------------------------------------

_INVITE: dict[str, Shape] = {
    "id": TEXT,
    "role": words("member", "admin"),
    "uses": COUNT,
    "used_by": rows(TEXT),
    "expires": maybe(TIME),
    "ended": maybe(TEXT),
}
TICKET = record(
    {
        "ticket": TEXT,
        **_INVITE,
        "addresses": rows(TEXT),
        "only_this_machine": FLAG,
        "code": record(
            {"models": rows(TEXT), "objectives": rows(TEXT), "versions": table(TEXT)}
        ),
    }
)
STRANGER = record({"id": TEXT, "name": TEXT, "address": TEXT})
DECIDED = record({"id": TEXT, "name": TEXT, "accepted": FLAG})
KEY = record(
    {
        "id": TEXT,
        "name": TEXT,
        "role": TEXT,
        "admitted_by": TEXT,
        "self": FLAG,
        "revoked": FLAG,
        "revoked_by": maybe(TEXT),
        "revoked_from_epoch": maybe(COUNT),
        "reason": maybe(TEXT),
    }
)
PARDONED = record(
    {
        "id": TEXT,
        "name": TEXT,
        "was_quarantined": FLAG,
        "kind": maybe(TEXT),
        "why": maybe(TEXT),
    }
)
JOINED = record(
    {
        "swarm": PEER_ID,
        "member_from_epoch": COUNT,
        "role": TEXT,
        "first_contacts": table(TEXT),
    }
)
LEFT = record(
    {
        "swarm": TEXT,
        "members": COUNT,
        "round": WHOLE,
        "epoch": COUNT,
        "leave_epoch": maybe(COUNT),
    }
)
RECOVERED = record(
    {
        "lost": rows(record({"id": TEXT, "name": TEXT, "state": TEXT})),
        "staying": COUNT,
        "parameters": COUNT,
        "parameters_lost": maybe(COUNT),
    }
)
NEIGHBOUR = record(
    {"id": TEXT, "name": TEXT, "swarm": maybe(TEXT), "addresses": rows(TEXT)}
)
PINGED = record(
    {
        "id": TEXT,
        "name": TEXT,
        "address": TEXT,
        "outward": FLAG,
        "through": maybe(TEXT),
        "answered": COUNT,
        "unanswered": COUNT,
        "unsent": COUNT,
        "round_trips_s": rows(SECONDS),
        "heard_s_ago": maybe(SECONDS),
        "asymmetric": FLAG,
        "way": maybe(record({"step": TEXT, "text": TEXT, "hint": TEXT})),
    }
)
MEASURED = record(
    {
        "id": TEXT,
        "name": TEXT,
        "address": TEXT,
        "sent_bytes": COUNT,
        "arrived_bytes": COUNT,
        "seconds": SECONDS,
        "bytes_per_s": maybe(REAL),
        "round_trips_s": rows(SECONDS),
        "encrypted": FLAG,
        "up_limit_bytes_per_s": maybe(REAL),
    }
)
FINDING = record(
    {
        "level": words("ok", "info", "warn", "error"),
        "subject": TEXT,
        "message": TEXT,
        "hint": maybe(TEXT),
    }
)

# --- The model -----------------------------------------------------------------------

SHARE = record(
    {
        "peer": TEXT,
        "name": TEXT,
        "split_fraction": PART,
        "frozen": rows(TEXT),
        "windows": table(rows(rows(COUNT))),
        "parameters": COUNT,
        "sub_model_bytes": COUNT,
        "sent_bytes": COUNT,
        "received_bytes": COUNT,
    }
)
_PARTS = ("process", "parameters", "states", "activations")
_TAKES: dict[str, Shape] = {
    "split_fraction": TEXT,
    "parts": maybe(record({f"{part}_bytes": COUNT for part in _PARTS})),
    "peak_bytes": maybe(COUNT),
}
FITTING = record({**_TAKES, "memory_bytes": COUNT, "next": maybe(record(_TAKES))})
SPLIT = record(
    {
        "method": TEXT,
        "model": TEXT,
        "round": COUNT,
        "rounds": COUNT,
        "seed": COUNT,
        "full_model_parameters": COUNT,
        "axes": rows(record({"name": TEXT, "size": COUNT, "covered": PART})),
        "peers": rows(SHARE),
        "coverage": PART,
        "holders_mean": REAL,
        "ever_trained_fraction": PART,
        "ever_trained_fraction_at_end": PART,
        "held": rows(TEXT),
        "warnings": rows(TEXT),
    },
    optional={"plot": TEXT, "memory": FITTING},
)
EXPORTED = record(
    {
        "path": TEXT,
        "manifest": TEXT,
        "bytes": COUNT,
        "round": WHOLE,
        "parameters": COUNT,
        "ever_trained_fraction": PART,
        "pulled_bytes": COUNT,
        "peers": COUNT,
    }
)
CHECKPOINT = record(
    {
        "id": TEXT,
        "round": maybe(COUNT),
        "bytes": COUNT,
        "when": TIME,
        "verified": maybe(FLAG),
        "path": TEXT,
    }
)
POOLED = record(
    {
        "hash": TEXT,
        "model": maybe(TEXT),
        "parameters": maybe(COUNT),
        "bytes": COUNT,
        "verified": FLAG,
        "path": TEXT,
    }
)
CANDIDATE = record(
    {
        "hash": TEXT,
        "model": TEXT,
        "parameters": COUNT,
        "blocks": COUNT,
        "trained_blocks": rows(COUNT),
        "trained_blocks_mean": REAL,
        "trained_part": PART,
        "split_fractions": rows(TEXT),
    }
)
CHOICE = record(
    {
        "limit": TEXT,
        "split_fractions": rows(TEXT),
        "chosen": TEXT,
        "candidates": rows(CANDIDATE),
        "skipped": rows(record({"hash": TEXT, "reason": TEXT})),
        "warnings": rows(TEXT),
    }
)

# --- Profiles ------------------------------------------------------------------------

PROFILE = record(
    {
        "name": TEXT,
        "path": TEXT,
        "text": TEXT,
        "device": TEXT,
        "split_fraction": TEXT,
        "memory": maybe(TEXT),
        "founds": FLAG,
    }
)
CHECKED = record(
    {
        "path": TEXT,
        "ok": FLAG,
        "problem": maybe(ERROR),
        "model": maybe(
            record(
                {
                    "name": TEXT,
                    "parameters": COUNT,
                    "split_fraction": TEXT,
                    "trainer_bytes": COUNT,
                    "memory_bytes": COUNT,
                    "measured": FLAG,
                }
            )
        ),
    }
)

# --- The tables ----------------------------------------------------------------------

SHAPES: dict[str, Shape] = {
    "demo": DEMO,
    "init": record({"id": TEXT, "name": TEXT, "home": TEXT, "created": FLAG}),
    "id": record({"id": TEXT, "name": TEXT, "home": TEXT}),
    "start": record(
        {
            "pid": COUNT,
            "id": TEXT,
            "name": TEXT,
            "address": TEXT,
            "metrics": maybe(TEXT),
            "web": maybe(TEXT),
            "home": TEXT,
        }
    ),
    "stop": record({"pid": COUNT}),
    "join": JOINED,
    "leave": LEFT,
    "recover": RECOVERED,
    "invite-create": TICKET,
    "invite-ls": record({"invites": rows(record(_INVITE))}),
    "invite-revoke": record({"id": TEXT}),
    "pending-ls": record({"admission": TEXT, "pending": rows(STRANGER)}),
    "pending-accept": DECIDED,
    "pending-deny": DECIDED,
    "trust-ls": record({"peers": rows(KEY), "first_contacts": table(TEXT)}),
    "trust-pardon": PARDONED,
    "trust-revoke": record({"id": TEXT, "name": TEXT, "put_out": rows(PEER_ID)}),
    "status": STATUS,
    "peers": record({"peers": rows(MEMBER)}),
    "peer-show": MEMBER_DETAILS,
    "rounds": record({"rounds": rows(ROUND)}),
    "round-show": ROUND,
    "wait": record({"reached": TEXT, "round": WHOLE}),
    "events": record({"events": rows(EVENT), "newest": COUNT})
    | {"description": "with --follow: one of the events on each line"},
    "web": record({"link": TEXT}),
    "discover": record({"found": rows(NEIGHBOUR)}),
    "ping": PINGED,
    "bench-link": MEASURED,
    "doctor": record({"findings": rows(FINDING)}),
    "logs": record({"path": TEXT, "lines": rows(TEXT)}),
    "support-bundle": record(
        {"path": TEXT, "bytes": COUNT, "redacted": FLAG, "files": rows(TEXT)}
    ),
    "split-show": SPLIT,
    "export": EXPORTED,
    "import": record(
        {
            "hash": TEXT,
            "path": TEXT,
            "model": TEXT,
            "parameters": COUNT,
            "from_the_seed": rows(TEXT),
        }
    ),
    "evaluate": EVALUATION,
    "checkpoint-ls": record({"checkpoints": rows(CHECKPOINT)}),
    "checkpoint-create": EXPORTED,
    "pool-add": record({"hash": TEXT, "path": TEXT}),
    "pool-ls": record({"pool": rows(POOLED)}),
    "pool-choose": CHOICE,
    "profiles-ls": record({"directory": TEXT, "profiles": rows(PROFILE)}),
    "profiles-show": record(
        {"path": TEXT, "peer": FREE, "data": FREE, "swarm": maybe(FREE)}
    ),
    "profiles-check": record({"profiles": rows(CHECKED)}),
    "sim": SIMULATION,
    "completion": record({"shell": words("bash", "zsh", "fish"), "script": TEXT}),
    "version": record({"version": TEXT, "python": TEXT}),
}
"""Commands that print one envelope."""

LINES: dict[str, Shape] = {"watch": STATUS}
"""Commands that print a line of JSON again and again, without an envelope."""
