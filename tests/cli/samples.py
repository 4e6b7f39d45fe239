"""What daemons say, as data: the same few states in several tests."""

from __future__ import annotations

JOINED: dict[str, object] = {
    "state": {"code": "training", "text": "round 12: trains its sub-model"},
    "daemon": {"pid": 4711, "version": "0.1.0", "uptime_s": 11_520.0},
    "self": {
        "id": "7kq2m4r7abcdefgh",
        "name": "lab-a",
        "role": "founder",
        "addresses": ["10.0.0.4:7788"],
        "split_fraction": 0.5,
        "trainer": "training",
    },
    "swarm": {
        "id": "k3v9aaaabbbbccccddddtq2a",
        "name": "blue-heron",
        "method": "msfusion",
        "model": "mlp",
        "rounds": 20,
    },
    "roster": {"epoch": 2, "digest": "9f31c2d4e5f60718", "members": 3},
    "round": {
        "number": 12,
        "phase": "train",
        "started_s_ago": 64.0,
        "deadline_in_s": 46.0,
        "waiting_for": [
            {"peer": "lab-c", "reason": "its offer", "gives_up_in_s": 12.4},
            {"peer": "gpu-2", "reason": "silent for 6 s"},
        ],
    },
    "traffic": {
        "sent_bytes": 41_000_000,
        "received_bytes": 39_400_000,
        "round_sent_bytes": 2_140_000,
        "round_received_bytes": 990,
        "full_model_bytes": 612_000_000,
    },
    "store": {
        "version_min": 0,
        "version_max": 12,
        "ever_trained_fraction": 0.982,
        "replication_min": 2,
        "stale_ranges": 0,
    },
    "metrics": {"loss": 0.4123, "accuracy": None},
    "security": {
        "encrypted": True,
        "admission": "ticket",
        "role": "admin",
        "pending": 0,
        "revoked": 0,
        "refused": {},
    },
    "health": [],
    "joining": [],
}

ALONE: dict[str, object] = {
    **JOINED,
    "state": {
        "code": "knocking",
        "text": "knocks at 10.0.0.5:7788; nobody has let it in yet",
        "advice": "check the address",
    },
    "self": {**JOINED["self"], "role": "member"},  # type: ignore[dict-item]
    "swarm": None,
    "security": {
        "encrypted": True,
        "admission": None,
        "role": None,
        "pending": 0,
        "revoked": 0,
        "refused": {},
    },
    "roster": None,
    "round": {
        "number": None,
        "phase": None,
        "started_s_ago": None,
        "deadline_in_s": None,
        "waiting_for": [],
    },
    "health": [
        {
            "level": "warn",
            "code": "not-joined",
            "message": "no answer yet",
            "hint": "check the address, and that a daemon listens there",
        }
    ],
    "joining": [
        {
            "address": "10.0.0.5:7788",
            "attempts": 7,
            "last_error": "no answer yet",
            "next_in_s": 8.2,
        }
    ],
}

PEERS: dict[str, object] = {
    "peers": [
        {
            "name": "lab-a",
            "id": "7kq2m4r7abcdefgh",
            "state": "self",
            "address": "10.0.0.4:7788",
            "rtt_s": None,
            "round": 12,
            "split_fraction": 0.5,
            "overlap": 8970,
            "sent_bytes": None,
            "received_bytes": None,
        },
        {
            "name": "lab-c",
            "id": "9zc4l0txabcdefgh",
            "state": "silent for 3 s",
            "address": None,
            "rtt_s": 0.0182,
            "round": None,
            "split_fraction": 0.25,
            "overlap": None,
            "sent_bytes": 1_000,
            "received_bytes": 0,
        },
    ]
}

ROUNDS: dict[str, object] = {
    "rounds": [
        {
            "number": 11,
            "seconds": 97.2,
            "contributors": ["lab-a", "lab-c"],
            "missing": [],
            "deadline_s": 110.0,
            "sent_bytes": 41_000_000,
            "received_bytes": 39_000_000,
            "loss": 0.43,
            "accuracy": 0.871,
            "norm": 1.02,
            "stale_ranges": 0,
        },
        {
            "number": 12,
            "seconds": 110.0,
            "contributors": ["lab-a"],
            "missing": [
                {"peer": "9zc4l0tx", "name": "lab-c", "reason": "missed the deadline"}
            ],
            "deadline_s": None,
            "sent_bytes": 41_000_000,
            "received_bytes": 22_000_000,
            "loss": None,
            "accuracy": None,
            "norm": None,
            "stale_ranges": 3,
        },
    ]
}

ANN = "mbg2qj-ij3xss-g7xoqj-s7mtgp-wzpcmm-m3twyz"
BOB = "4rwcu3-7q4qxl-mtt3qi-xhz3yz-hp3iz5-sj6yzs"
CAT = "hrajf3-yxblr2-5yjxim-iovfuh-hm4376-5r2gab"

INVITES: list[dict[str, object]] = [
    {
        "id": "7kq2m4rx",
        "role": "member",
        "uses": 3,
        "used_by": [BOB],
        "expires": 1_795_281_600,
        "ended": None,
    },
    {
        "id": "9zc4l0tx",
        "role": "admin",
        "uses": 0,
        "used_by": [],
        "expires": None,
        "ended": "this ticket was revoked",
    },
]

TRUST: list[dict[str, object]] = [
    {
        "id": ANN,
        "name": "ann",
        "role": "admin",
        "admitted_by": "",
        "self": True,
        "revoked": False,
        "revoked_by": None,
        "revoked_from_epoch": None,
        "reason": None,
    },
    {
        "id": BOB,
        "name": "bob",
        "role": "admin",
        "admitted_by": ANN,
        "self": False,
        "revoked": True,
        "revoked_by": ANN,
        "revoked_from_epoch": 3,
        "reason": "stolen",
    },
    {
        "id": CAT,
        "name": "cat",
        "role": "member",
        "admitted_by": BOB,
        "self": False,
        "revoked": True,
        "revoked_by": ANN,
        "revoked_from_epoch": 3,
        "reason": "",
    },
]
