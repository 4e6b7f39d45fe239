"""Data that was not sealed for this moment and place: repeated, cut, changed, forged.

Somebody sees everything that one daemon sends another, comes to the data port with what
is left of it, and changes it on its way. All of it is dropped and counted, nobody is
blamed for it, and the model is the one that comes out where there is no network.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.daemon.presets import suited
from p2pfusion.store import read_checkpoint
from p2pfusion.transport.connection import PREFIX
from tests.end_to_end.inspection import (
    assert_goes_on,
    number_of_round,
    ports,
    refused,
)
from tests.end_to_end.relay import Relay, payload_bytes, relayed, with_bit_flipped
from tests.end_to_end.swarm import (
    DIRICHLET,
    PATIENCE_S,
    QUICK,
    Daemon,
    share,
    swarms,
)

pytestmark = [pytest.mark.slow, pytest.mark.soak]

MEDDLED = 64
"""Rounds of a swarm with somebody in the middle: enough for all that is tried."""

SETTINGS = {
    **QUICK,
    "rounds": MEDDLED,
    "local_steps": 2,
    "method": "msfusion",
    # Longer than it takes to ask again for what somebody has spoilt.
    "deadline_min_s": 15.0,
}
AGAIN = "a sealed frame comes again, or too late"
FORGED = "a sealed frame is not genuine"
FORGED_PAYLOAD = "a sealed payload is not genuine"


@pytest.fixture
def meddled() -> Iterator[tuple[list[Daemon], Relay]]:
    """Two daemons, and somebody in the middle of the way to the first."""
    with swarms() as swarm, relayed() as relay:
        founder = swarm.add(data=share(0, 2), swarm={**SETTINGS, "min_peers": 2})
        member = swarm.add(data=share(1, 2))
        founder.start("--advertise", relay.address)
        relay.lead_to(ports(founder)[0])
        member.start("--join", founder.ticket())
        yield [founder, member], relay


def with_counter(message: bytes, counter: int) -> bytes:
    """A sealed message with another number."""
    begin = PREFIX.size
    return message[:begin] + struct.pack(">Q", counter) + message[begin + 8 :]


def forgeries(recorded: bytes) -> list[tuple[str, bytes]]:
    """What somebody can make of a message that it has seen, and why it is refused."""
    token = recorded[:8]
    return [
        (AGAIN, recorded),
        (FORGED, with_counter(recorded, 1 << 31)),
        ("a sealed frame skips a generation of keys", with_counter(recorded, 1 << 62)),
        ("cut off", recorded[:-1]),
        ("an oversized frame", PREFIX.pack(token, 100, (1 << 32) - 1)),
        ("an unknown token", b"whatever" + recorded[8:]),
    ]


TWISTS: list[tuple[str, Callable[[bytes], bytes]]] = [
    (FORGED, lambda message: with_bit_flipped(message, PREFIX.size + 12)),
    (FORGED_PAYLOAD, lambda message: with_bit_flipped(message, -1)),
    (AGAIN, lambda message: message + message),
]
"""What somebody in the middle can do to a message."""


def test_who_repeats_cuts_or_changes_sealed_frames_changes_nothing(
    meddled: tuple[list[Daemon], Relay], tmp_path: Path
) -> None:
    daemons, relay = meddled
    founder = daemons[0]
    founder.wait("round=2")
    pieces = [message for message in relay.recorded if payload_bytes(message)]
    for reason, forged in forgeries(pieces[-1]):
        count = refused(founder, reason)
        place = ("127.0.0.1", ports(founder)[1])
        with socket.create_connection(place, timeout=PATIENCE_S) as visitor:
            visitor.sendall(forged)
            with contextlib.suppress(OSError):  # sent away already
                visitor.shutdown(socket.SHUT_WR)
                assert visitor.recv(1) == b""
        founder.until(lambda r=reason, c=count: refused(founder, r) > c)  # type: ignore[misc]
        assert_goes_on(daemons, since=0)
    for reason, twist in TWISTS:
        count = refused(founder, reason)
        assert relay.twist(twist).wait(PATIENCE_S)
        founder.until(lambda r=reason, c=count: refused(founder, r) > c)  # type: ignore[misc]
        assert_goes_on(daemons, since=0)
    assert number_of_round(founder) < MEDDLED - 1, "the swarm was done before the tests"
    for daemon in daemons:
        daemon.wait("done")
    assert_as_computed_alone(founder, tmp_path)


def assert_as_computed_alone(daemon: Daemon, path: Path) -> None:
    """The model is the one that comes out where there is no network at all."""
    from p2pfusion.simulation.design import Experiment
    from p2pfusion.simulation.experiment import Course

    settings = {k: v for k, v in SETTINGS.items() if not k.startswith(("name", "dead"))}
    alone = {
        "peers": 2,
        "split_fraction": "1/2",
        "data": {"kind": "digits"},
        "partition": DIRICHLET,
    }
    experiment = Experiment.of(suited({**settings, **alone}))
    course = Course.create(experiment, path / "alone")
    course.run(lambda message: None)
    (runner,) = course.swarms
    daemon.ask("export", path=str(path / "model"))
    found, _ = read_checkpoint(path / "model")
    for name, true in runner.values().items():
        np.testing.assert_array_equal(found[name], true)
