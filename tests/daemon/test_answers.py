"""What a peer says of itself: every promised field, null where it is unknown."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from p2pfusion.daemon import answers
from p2pfusion.daemon.health import PATIENT_ATTEMPTS, health
from p2pfusion.protocol.joining import Way
from tests.daemon.running import ALONE, Data, Running, running

FIELDS = {
    "daemon": {"pid", "version", "uptime_s"},
    "self": {"id", "name", "role", "addresses", "split_fraction", "trainer"},
    "swarm": {"id", "name", "method", "model", "rounds"},
    "roster": {"epoch", "digest", "members"},
    "round": {"number", "phase", "started_s_ago", "deadline_in_s", "waiting_for"},
    "traffic": {
        "sent_bytes", "received_bytes", "round_sent_bytes", "round_received_bytes",
        "full_model_bytes", "up_limit_bytes_per_s", "down_limit_bytes_per_s",
    },
    "store": {
        "version_min", "version_max", "ever_trained_fraction", "replication_min",
        "stale_ranges",
    },
    "metrics": {"loss", "accuracy"},
    "security": {"encrypted", "admission", "role", "pending", "revoked", "refused"},
}  # fmt: skip
PEER_FIELDS = {
    "name", "id", "state", "address", "rtt_s", "round", "split_fraction", "overlap",
    "sent_bytes", "received_bytes", "online", "outward", "through",
    "quarantine",
}  # fmt: skip


@pytest.fixture(scope="module")
def nobody() -> Iterator[Running]:
    """A peer without a swarm."""
    with running(peer={"split_fraction": 0.25}) as made:
        yield made


@pytest.fixture(scope="module")
def alone() -> Iterator[Running]:
    """A swarm of one, which trains a round that does not end while we look."""
    swarm = {**ALONE, "rounds": 3, "local_epochs": 10_000}
    with running(data={"kind": "digits"}, swarm=swarm) as made:
        made.ask("wait", **{"for": "round=0"})
        made.turn_until(lambda: made.node.apprentice.progress is not None)
        yield made


def part(status: Data, name: str) -> Data:
    found = status[name]
    assert isinstance(found, dict)
    return found


def test_status_has_every_field_with_and_without_a_swarm(
    nobody: Running, alone: Running
) -> None:
    for found in (nobody.ask("status"), alone.ask("status")):
        assert found.keys() >= {*FIELDS, "health", "joining"}
        for name, fields in FIELDS.items():
            if found[name] is not None:
                assert part(found, name).keys() >= fields, name
        assert part(found, "daemon")["pid"] == os.getpid()
        assert found["joining"] == []


def test_without_a_swarm_everything_about_it_is_unknown(nobody: Running) -> None:
    found = nobody.ask("status")
    assert found["swarm"] is None and found["roster"] is None
    assert set(part(found, "store").values()) == {None}
    assert part(found, "metrics") == {"loss": None, "accuracy": None}
    assert part(found, "traffic")["full_model_bytes"] is None
    assert part(found, "round")["waiting_for"] == [
        {
            "peer": "you",
            "id": None,
            "reason": "an address to join",
            "gives_up_in_s": None,
        }
    ]
    assert part(found, "state")["code"] == "no-swarm"
    assert part(found, "self")["role"] == "member"
    assert part(found, "self")["split_fraction"] == 0.25
    assert nobody.ask("peers") == {"peers": []}


def test_who_trains_is_waited_for_with_its_progress(alone: Running) -> None:
    found = alone.ask("status")
    (waiting,) = part(found, "round")["waiting_for"]  # type: ignore[misc]
    assert waiting["peer"] == "me"
    assert waiting["reason"].startswith("training, step ")
    assert part(found, "round")["phase"] == "train"
    assert part(found, "self")["trainer"] == "training"
    assert part(found, "self")["role"] == "founder"
    assert waiting["id"] == alone.node.peer.gossip.me
    assert waiting["gives_up_in_s"] is None, "nobody goes on without itself"


def test_sizes_and_coverage_follow_from_the_split(alone: Running) -> None:
    found = alone.ask("status")
    manifest = alone.node.peer.manifest
    assert manifest is not None
    assert part(found, "traffic")["full_model_bytes"] == 4 * manifest.layout.size
    # Half of 16 hidden units, between 64 inputs and 10 classes.
    assert part(found, "traffic")["sub_model_bytes"] == 4 * (8 * 64 + 8 + 10 * 8 + 10)
    health = {row["code"]: row for row in found["health"]}  # type: ignore[attr-defined]
    assert health.keys() == {"alone", "coverage"}
    assert "h1 50 %" in health["coverage"]["message"]
    assert health["coverage"]["level"] == "info" and health["coverage"]["hint"]


def test_what_is_withheld_and_what_was_told_is_said() -> None:
    """Alone there is nobody to hide among; with a budget of nothing nothing is told."""
    swarm = {**ALONE, "secure_aggregation": "withhold", "local_epochs": 10_000}
    privacy = {"noise": 1.0, "epsilon": 0.001}
    peer = {"privacy": privacy}
    with running(peer=peer, data={"kind": "digits"}, swarm=swarm) as made:
        made.ask("wait", **{"for": "round=0"})
        made.turn_until(lambda: made.node.home.spent.exists())
        rows = health(made.node, made.node.now())
        told = part(made.ask("status"), "privacy")
    found = {str(row["code"]): row for row in rows}
    assert str(found["withheld"]["message"]).startswith("100 % of what is trained")
    assert found["withheld"]["level"] == "warn"
    assert "epsilon is 0.00 of 0.001 after 0 rounds" in str(found["privacy"]["message"])
    assert (told["rounds"], told["spent"]) == (0, True)


def test_a_peer_sees_itself_among_the_peers(alone: Running) -> None:
    (row,) = alone.ask("peers")["peers"]  # type: ignore[misc]
    assert row.keys() == PEER_FIELDS
    assert (row["name"], row["state"], row["split_fraction"]) == ("me", "self", 0.5)
    assert row["round"] == 0 and row["rtt_s"] is None
    assert row["overlap"] == 8 * 64 + 8 + 10 * 8 + 10
    assert row["address"] == answers.identity(alone.node)["address"]


def test_a_member_that_knocks_in_vain_says_where(alone: Running) -> None:
    joining = alone.node.peer.gossip.joining
    joining.try_way(Way("127.0.0.1", 9))
    (knocking,) = joining.knocking
    try:
        before = health(alone.node, alone.node.now())
        assert {row["code"] for row in before} == {"alone", "coverage"}
        knocking.attempts = PATIENT_ATTEMPTS + 1
        row = health(alone.node, alone.node.now())[0]
        assert (row["level"], row["code"]) == ("warn", "not-joined")
        assert str(row["message"]).startswith("127.0.0.1:9: nobody has answered")
    finally:
        joining.knocking.clear()


def test_what_is_not_encrypted_says_so() -> None:
    with running(peer={"insecure_loopback": True}) as made:
        (row,) = health(made.node, made.node.now())
        assert (row["level"], row["code"]) == ("warn", "insecure")
        assert part(made.ask("status"), "security")["encrypted"] is False
