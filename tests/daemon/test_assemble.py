"""From a home and a profile to a daemon, and back to an empty home's files."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from p2pfusion.daemon import assemble
from p2pfusion.daemon.answers import Data
from p2pfusion.daemon.client import LocalClient
from p2pfusion.daemon.config import PeerSettings, Profile, parse_profile
from p2pfusion.daemon.home import Home
from p2pfusion.daemon.identity import create_identity
from p2pfusion.daemon.signals import EndingSignals
from p2pfusion.daemon.state import SwarmState
from p2pfusion.errors import (
    ConfigError,
    ConflictError,
    P2PFusionError,
    StartInterruptedError,
)
from p2pfusion.protocol.messages import BEFORE_START, Facts, PeerRecord
from p2pfusion.transport import Plane
from tests.protocol.swarm import small_manifest


@pytest.fixture
def home() -> Iterator[Home]:
    """A home with a short path; the signals that a daemon takes are given back."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    with tempfile.TemporaryDirectory(prefix="t-") as root:
        yield Home(Path(root))
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


def listening(listen: str, advertise: str | None = None) -> Profile:
    return Profile(peer=PeerSettings(listen=listen, advertise=advertise))


def run(home: Home, profile: Profile, join: Sequence[str] = ()) -> list[Data]:
    """Runs a daemon that is told to stop as soon as it is ready; what READY said."""
    told: list[Data] = []

    def ready(data: Data) -> None:
        told.append(data)
        client = LocalClient(home.root)
        threading.Thread(target=client.call, args=("stop",)).start()

    assemble.run_daemon(home, profile, join, ready, EndingSignals())
    return told


def test_a_daemon_says_who_and_where_it_is_and_leaves_nothing_running(
    home: Home,
) -> None:
    (first,) = run(home, Profile())
    assert first["pid"] == os.getpid()
    assert str(first["address"]).startswith("127.0.0.1:")
    left = sorted(path.name for path in home.root.iterdir())
    keys = ["device.key", "events.jsonl", "identity.json", "incarnation"]
    assert left == ["daemon.log", *keys, "trainer.log"]
    (second,) = run(home, Profile())
    assert second["id"] == first["id"]
    assert SwarmState(home.swarm).next_incarnation() == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_loop_begins_ends_it_politely(
    home: Home, number: signal.Signals
) -> None:
    def ready(data: Data) -> None:
        signal.raise_signal(number)

    assemble.run_daemon(home, Profile(), [], ready, EndingSignals())
    assert not home.socket.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_it_is_ready_ends_the_start_and_leaves_a_home_as_it_was(
    home: Home, number: signal.Signals
) -> None:
    told: list[Data] = []
    signals = EndingSignals()
    signal.raise_signal(number)
    with pytest.raises(StartInterruptedError):
        assemble.run_daemon(home, Profile(), [], told.append, signals)
    assert not told and not home.socket.exists()
    assert len(run(home, Profile())) == 1


def test_who_insists_does_not_wait_for_the_start(home: Home) -> None:
    EndingSignals()
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("address", ["nowhere", "a/b:80", "x y:1", "h:99999"])
def test_an_address_that_is_none_ends_the_start(home: Home, address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run(home, Profile(), [address])
    assert address.partition(":")[0] in caught.value.message
    assert not home.socket.exists()
    assert "the daemon ends: " in home.log.read_text()


def record(home: Home, profile: Profile) -> PeerRecord:
    identity = create_identity(home, "lab")
    transport = assemble._listen(identity, profile)
    try:
        state = SwarmState(home.swarm)
        return assemble._record(identity, profile, transport, state, bytes(32))
    finally:
        transport.close()


def test_a_record_says_what_others_need_to_dial(home: Home) -> None:
    made = record(home, listening("127.0.0.1:0"))
    assert (made.host, made.name, made.split_fraction) == ("127.0.0.1", "lab", "1/2")
    assert made.port > 0 and made.data_port == made.port + 1
    assert (made.incarnation, made.sequence, made.join_epoch) == (1, 0, BEFORE_START)
    advertised = record(home, listening("127.0.0.1:0", "lab.example:7788"))
    assert (advertised.host, advertised.port) == ("lab.example", 7788)
    assert advertised.data_port == 7789 and not advertised.is_outward
    hidden = record(home, listening("127.0.0.1:0", "none"))
    assert (hidden.host, hidden.port) == ("", 0) and hidden.is_outward
    assert made.relays
    closed = dataclasses.replace(Profile().peer, relay=False)
    assert not record(home, Profile(peer=closed)).relays
    named = dataclasses.replace(Profile().peer, name="other")
    assert record(home, Profile(peer=named)).name == "other"


def test_who_listens_everywhere_names_an_address_that_can_be_dialled(
    home: Home,
) -> None:
    made = record(home, listening("0.0.0.0:0"))
    assert made.host not in ("0.0.0.0", "")


def test_the_data_port_is_the_next_one(home: Home) -> None:
    identity = create_identity(home)
    first = assemble._listen(identity, listening("127.0.0.1:0"))
    port = first.addresses[Plane.CONTROL].port
    first.close()
    found = assemble._listen(identity, listening(f"127.0.0.1:{port}"))
    try:
        assert found.addresses[Plane.CONTROL].port == port
        assert found.addresses[Plane.DATA].port == port + 1
    finally:
        found.close()


@pytest.mark.parametrize(
    "profile",
    [listening("127.0.0.1:65535"), listening("127.0.0.1:0", "lab:65535")],
    ids=["listen", "advertise"],
)
def test_the_last_port_has_no_next_one(home: Home, profile: Profile) -> None:
    with pytest.raises(ConfigError, match="65535"):
        record(home, profile)


def test_a_home_of_another_swarm_is_refused_by_key(home: Home) -> None:
    manifest = small_manifest(name="ours", rounds=6)
    state = SwarmState(home.swarm)
    state.open_store(manifest)
    state.save_facts([Facts()])

    def founder(**values: object) -> Profile:
        keys = "\n".join(f"{key} = {value!r}" for key, value in values.items())
        return parse_profile(f"[swarm]\n{keys}".replace("'", '"'), "founder.toml")

    same = founder(name="ours", model="mlp", rounds=6)
    assemble._check_founder(same, manifest)
    assemble._check_founder(Profile(), manifest)
    with pytest.raises(ConflictError, match=r"'ours'.*'rounds'.*founder\.toml"):
        run(home, founder(name="ours", model="mlp", rounds=7))
    assert not home.socket.exists()


def test_only_one_daemon_lives_in_a_home(home: Home) -> None:
    refused: list[P2PFusionError] = []
    told: list[Data] = []
    signals = EndingSignals()

    def ready(data: Data) -> None:
        with pytest.raises(ConflictError, match=f"pid {os.getpid()}") as caught:
            assemble.run_daemon(home, Profile(), [], told.append, signals)
        refused.append(caught.value)
        client = LocalClient(home.root)
        threading.Thread(target=client.call, args=("stop",)).start()

    assemble.run_daemon(home, Profile(), [], ready, signals)
    assert refused and not told


def test_the_limit_of_open_files_is_raised_as_far_as_allowed() -> None:
    code = (
        "import resource as r\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 512))\n"
        "from p2pfusion.daemon.assemble import _raise_descriptor_limit\n"
        "_raise_descriptor_limit()\n"
        "assert r.getrlimit(r.RLIMIT_NOFILE) == (512, 512)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
