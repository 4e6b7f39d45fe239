"""The data of commands that train or simulate: demo, evaluate, sim."""

from __future__ import annotations

from p2pfusion.cli.schema import (
    COUNT,
    FLAG,
    FREE,
    PART,
    REAL,
    SECONDS,
    TEXT,
    Shape,
    either,
    maybe,
    record,
    rows,
    table,
)

_PROBED: dict[str, Shape] = {"probe_labels": COUNT, "random_encoder_accuracy": PART}
"""What stands beside the accuracy of an encoder that was trained without labels."""

_WATCHED: dict[str, Shape] = {
    "fusion": TEXT,
    "attack": maybe(TEXT),
    "attackers": rows(TEXT),
    "suspected": table(COUNT),
    "quarantined": rows(TEXT),
    "refused": table(COUNT),
    "scores": table(REAL),
}
"""What is told where somebody was hostile, or contributions were looked at."""

EVALUATION = record(
    {
        "accuracy": PART,
        "loss": maybe(REAL),
        "perplexity": maybe(REAL),
        "samples": COUNT,
        "chance_accuracy": PART,
        "chance_perplexity": maybe(REAL),
        "held_out": FLAG,
        "file": TEXT,
        "model": TEXT,
        "data": TEXT,
    },
    optional=_PROBED,
)

DEMO = record(
    {
        "peers": COUNT,
        "rounds": COUNT,
        "method": TEXT,
        "model": TEXT,
        "data": TEXT,
        "split_fraction": PART,
        "seed": COUNT,
        "accuracy": maybe(PART),
        "chance_accuracy": maybe(PART),
        "loss": maybe(REAL),
        "samples": COUNT,
        "held_out": FLAG,
        "bytes_sent": COUNT,
        "bytes_full_exchange": COUNT,
        "strong_peers": COUNT,
        "sub_model_parameters": COUNT,
        "full_model_parameters": COUNT,
        "checkpoint": TEXT,
        "killed": COUNT,
        "killed_peers": rows(TEXT),
        "contributions_missed": COUNT,
        "encrypted": FLAG,
        "seconds": SECONDS,
    },
    optional={**_PROBED, "pretrained": TEXT, "pretrained_accuracy": maybe(PART)},
)

# --- sim -----------------------------------------------------------------------------

VIOLATION = record(
    {"at_s": SECONDS, "check": TEXT, "peer": TEXT, "text": TEXT, "replay": TEXT}
)
SWARMS = record(
    {
        "peers": COUNT,
        "rounds": COUNT,
        "seed": COUNT,
        "split_fraction": PART,
        "faults": TEXT,
        "network": TEXT,
        "partition_policy": TEXT,
        "event_log_hash": TEXT,
        "events": COUNT,
        "virtual_seconds": SECONDS,
        "rounds_completed_min": COUNT,
        "roster_convergence_s": maybe(SECONDS),
        "bytes_per_peer_round": record(
            {"p50": maybe(REAL), "p99": maybe(REAL), "max": maybe(REAL)}
        ),
        "control_bytes_per_peer_s": REAL,
        "observed": table(COUNT),
        "known_gaps": table(COUNT),
        "violations": rows(VIOLATION),
    },
    optional={
        "method": maybe(TEXT),
        "model": TEXT,
        "data": maybe(TEXT),
        "accuracy": maybe(PART),
        "test_loss": maybe(REAL),
        "perplexity": maybe(REAL),
        "seconds": SECONDS,
    },
)
"""Without ``--train``; with it and ``--faults``, also what was learned."""

POINT = record(
    {
        "round": COUNT,
        "loss": maybe(REAL),
        "virtual_seconds": SECONDS,
        "accuracy": PART,
        "test_loss": maybe(REAL),
    },
    optional={"perplexity": maybe(REAL)},
)
EXPERIMENT = record(
    {
        "method": TEXT,
        "method_arguments": FREE,
        "objective": TEXT,
        "model": TEXT,
        "data": TEXT,
        "peers": COUNT,
        "rounds": COUNT,
        "split_fraction": PART,
        "seed": COUNT,
        "accuracy": PART,
        "loss": maybe(REAL),
        "curve": rows(POINT),
        "ever_trained_fraction": PART,
        "bytes_per_peer_round": REAL,
        "train_flops_per_peer_round": REAL,
        "peak_activation_bytes": COUNT,
        "virtual_seconds": SECONDS,
        "utilisation": PART,
        "updates_too_late": COUNT,
        "full_model_parameters": COUNT,
        "seconds": SECONDS,
    },
    optional={
        **_PROBED,
        **_WATCHED,
        "perplexity": maybe(REAL),
        "one_view_flops_per_peer_round": REAL,
        "epsilon": REAL,
        "delta": PART,
        "fine_tuned_accuracy": PART,
        "random_encoder_fine_tuned_accuracy": PART,
    },
)
SIMULATION = either(SWARMS, EXPERIMENT)
