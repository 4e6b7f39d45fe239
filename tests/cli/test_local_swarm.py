"""Interrupts, and processes that are always ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfusion.cli.local_swarm import Interrupts, LocalPeer, LocalSwarm, whole
from p2pfusion.daemon.home import Home
from p2pfusion.errors import P2PFusionError
from tests.cli.samples import JOINED

STUBBORN = (
    "import signal, sys\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('here', flush=True)\n"
    "sys.stdin.read()"
)


def interrupt(number: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_interrupt_raises_and_the_second_does_not(
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    interrupts = Interrupts()
    with interrupts.caught():
        with pytest.raises(KeyboardInterrupt):
            interrupt(number)
        interrupt(number)
    assert signal.getsignal(number) is before


def test_a_held_interrupt_comes_afterwards() -> None:
    interrupts, reached = Interrupts(), False
    with interrupts.caught(), pytest.raises(KeyboardInterrupt), interrupts.held():
        with interrupts.held():
            interrupt()
        reached = True
    assert reached


def stubborn(swarm: LocalSwarm, home: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline() == b"here\n"
    home.mkdir()
    (home / "daemon.log").write_text("its last words\n")
    swarm.peers.append(LocalPeer("peer-0", Home(home), home / "x.toml", process))
    return process


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfusion.cli.local_swarm.STOP_TIMEOUT_S", 0.05)
    monkeypatch.setattr("p2pfusion.cli.local_swarm.TERMINATE_TIMEOUT_S", 0.05)


@pytest.mark.usefixtures("impatient")
def test_leaving_the_block_ends_what_will_not_end(tmp_path: Path) -> None:
    interrupts = Interrupts()
    with (
        interrupts.caught(),
        pytest.raises(KeyboardInterrupt),
        LocalSwarm(interrupts, tmp_path) as swarm,
    ):
        process = stubborn(swarm, tmp_path / "home")
        interrupt()
    assert process.poll() == -signal.SIGKILL


@pytest.mark.usefixtures("impatient")
def test_after_an_error_the_logs_are_kept(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    with (
        pytest.raises(P2PFusionError) as caught,
        LocalSwarm(Interrupts(), kept) as swarm,
    ):
        stubborn(swarm, tmp_path / "home")
        raise P2PFusionError("it broke", hint="see a file that is gone")
    assert (kept / "peer-0-daemon.log").read_text() == "its last words\n"
    assert caught.value.hint == f"the daemons' logs are in {kept}"


@pytest.mark.usefixtures("impatient")
def test_a_daemon_that_ends_by_itself_is_an_error_with_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(P2PFusionError, match=r"peer-0 ended by itself.*its last words"),
        LocalSwarm(Interrupts(), tmp_path) as swarm,
    ):
        process = stubborn(swarm, tmp_path / "home")
        process.communicate()
        swarm.refresh()


@pytest.mark.usefixtures("impatient")
def test_what_was_sent_before_a_kill_still_counts(tmp_path: Path) -> None:
    with LocalSwarm(Interrupts(), tmp_path) as swarm:
        process = stubborn(swarm, tmp_path / "home")
        (peer,) = swarm.peers
        peer.status = dict(JOINED)
        swarm.kill(peer)
        assert process.poll() == -signal.SIGKILL
        assert peer.sent_bytes == whole(JOINED, "traffic", "sent_bytes") == 41_000_000
        peer.status = dict(JOINED)
        assert peer.sent_bytes == 82_000_000


@pytest.mark.usefixtures("impatient")
def test_a_swarm_is_encrypted_only_if_all_its_daemons_say_so(tmp_path: Path) -> None:
    with LocalSwarm(Interrupts(), tmp_path) as swarm:
        for number in range(3):
            stubborn(swarm, tmp_path / str(number))
        assert not swarm.is_encrypted, "nobody has said anything"
        for peer in swarm.peers[:2]:
            peer.status = dict(JOINED)
        assert swarm.is_encrypted
        swarm.peers[2].status = {**JOINED, "security": {"encrypted": False}}
        assert not swarm.is_encrypted
