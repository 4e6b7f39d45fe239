"""The data of commands that look at a daemon: its status, members, rounds, events."""

from __future__ import annotations

from p2pfusion.cli.schema import (
    COUNT,
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

PEER_ID = record({"id": TEXT, "name": TEXT})
STATE = record({"code": TEXT, "text": TEXT, "advice": maybe(TEXT)})
WAIT = record(
    {
        "peer": TEXT,
        "id": maybe(TEXT),
        "reason": TEXT,
        "gives_up_in_s": maybe(SECONDS),
    }
)
TROUBLE = record(
    {
        "level": words("info", "warn", "error"),
        "code": TEXT,
        "message": TEXT,
        "hint": maybe(TEXT),
    }
)
SELF = record(
    {
        "id": TEXT,
        "name": TEXT,
        "role": words("founder", "member"),
        "listen": TEXT,
        "addresses": rows(TEXT),
        "split_fraction": PART,
        "trainer": TEXT,
        "samples": maybe(COUNT),
        "standing": TEXT,
    }
)
SWARM = record(
    {
        "id": TEXT,
        "name": TEXT,
        "method": TEXT,
        "model": TEXT,
        "rounds": COUNT,
        "min_peers": COUNT,
        "replication": COUNT,
    }
)
ROUND_NOW = record(
    {
        "number": maybe(COUNT),
        "phase": maybe(TEXT),
        "started_s_ago": maybe(SECONDS),
        "deadline_in_s": maybe(SECONDS),
        "waiting_for": rows(WAIT),
    }
)
TRAFFIC = record(
    {
        "sent_bytes": COUNT,
        "received_bytes": COUNT,
        "relayed_bytes": COUNT,
        "round_sent_bytes": COUNT,
        "round_received_bytes": COUNT,
        "full_model_bytes": maybe(COUNT),
        "sub_model_bytes": maybe(COUNT),
        "up_limit_bytes_per_s": maybe(REAL),
        "down_limit_bytes_per_s": maybe(REAL),
    }
)
STORE = record(
    {
        "version_min": maybe(COUNT),
        "version_max": maybe(COUNT),
        "ever_trained_fraction": maybe(PART),
        "replication_min": maybe(COUNT),
        "stale_ranges": maybe(COUNT),
    }
)
KNOCKING = record(
    {
        "address": TEXT,
        "attempts": COUNT,
        "last_error": maybe(TEXT),
        "next_in_s": SECONDS,
    }
)
SECURITY = record(
    {
        "encrypted": FLAG,
        "admission": maybe(words("ticket", "pending", "open")),
        "role": maybe(TEXT),
        "pending": COUNT,
        "revoked": COUNT,
        "quarantined": COUNT,
        "refused": table(COUNT),
    }
)
PRIVACY = record(
    {
        "noise": REAL,
        "clip": REAL,
        "delta": PART,
        "budget": maybe(REAL),
        "rounds": maybe(COUNT),
        "epsilon": maybe(REAL),
        "spent": FLAG,
    }
)
STATUS = record(
    {
        "state": STATE,
        "daemon": record({"pid": COUNT, "version": TEXT, "uptime_s": SECONDS}),
        "self": SELF,
        "swarm": maybe(SWARM),
        "roster": maybe(record({"epoch": COUNT, "digest": TEXT, "members": COUNT})),
        "round": ROUND_NOW,
        "traffic": TRAFFIC,
        "store": STORE,
        "metrics": record({"loss": maybe(REAL), "accuracy": maybe(PART)}),
        "health": rows(TROUBLE),
        "joining": rows(KNOCKING),
        "security": SECURITY,
        "privacy": maybe(PRIVACY),
    }
)

QUARANTINE = record(
    {
        "why": TEXT,
        "proven": FLAG,
        "kind": TEXT,
        "since_round": maybe(COUNT),
        "score": maybe(REAL),
    }
)
_MEMBER: dict[str, Shape] = {
    "name": TEXT,
    "id": TEXT,
    "state": TEXT,
    "online": FLAG,
    "address": TEXT,
    "outward": FLAG,
    "through": maybe(TEXT),
    "rtt_s": maybe(SECONDS),
    "round": maybe(COUNT),
    "split_fraction": PART,
    "overlap": maybe(COUNT),
    "sent_bytes": COUNT,
    "received_bytes": COUNT,
    "quarantine": maybe(QUARANTINE),
}
MEMBER = record(_MEMBER)
MEMBER_DETAILS = record(
    {
        **_MEMBER,
        "role": maybe(TEXT),
        "admitted_by": maybe(TEXT),
        "heard_s_ago": maybe(SECONDS),
        "clock_skew_s": maybe(REAL),
        "asymmetric": FLAG,
        "observers": rows(TEXT),
        "accused_by": rows(TEXT),
        "join_epoch": maybe(WHOLE),
        "leave_epoch": maybe(COUNT),
        "out_since_epoch": maybe(COUNT),
        "starts": COUNT,
        "cipher": TEXT,
    }
)

OFFER = record(
    {
        "name": TEXT,
        "after_s": REAL,
        "samples": COUNT,
        "loss": maybe(REAL),
        "norm": maybe(REAL),
        "base_round": COUNT,
    }
)
DEADLINES = record(
    {
        "counts_from_s": maybe(REAL),
        "wait_s": SECONDS,
        "gives_up_s": maybe(REAL),
        "minimum_s": SECONDS,
        "maximum_s": SECONDS,
        "median_s": maybe(REAL),
        "mad_s": maybe(REAL),
        "measured": COUNT,
    }
)
ROUND = record(
    {
        "number": COUNT,
        "seconds": SECONDS,
        "training_s": maybe(SECONDS),
        "contributors": rows(TEXT),
        "missing": rows(record({"peer": TEXT, "name": TEXT, "reason": TEXT})),
        "deadline_s": maybe(SECONDS),
        "sent_bytes": COUNT,
        "received_bytes": COUNT,
        "loss": maybe(REAL),
        "accuracy": maybe(PART),
        "norm": maybe(REAL),
        "stale_ranges": COUNT,
        "deadlines": DEADLINES,
        "phases": record(
            {
                "train": maybe(REAL),
                "offers": maybe(REAL),
                "exchange": maybe(REAL),
            }
        ),
        "offers": table(OFFER),
        "payload_sent_bytes": COUNT,
        "payload_received_bytes": COUNT,
    }
)
EVENT = record(
    {"number": COUNT, "at": TIME, "kind": TEXT, "text": TEXT, "details": FREE}
)
