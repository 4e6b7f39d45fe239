"""What a service manager is told, on a real notify socket, by a clock of the test's."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfusion.daemon.service import MAX_STATUS_CHARACTERS, TOLD_INTERVAL_S, Service

PATIENCE_S = 60.0


class Manager:
    """A service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind("\0" + address[1:] if address[0] == "@" else address)
        self._channel.settimeout(PATIENCE_S)

    def told(self) -> list[str]:
        """The lines of the next message."""
        return self._channel.recv(65_536).decode().split("\n")

    def waits_in_vain(self) -> bool:
        """Whether no message is there."""
        self._channel.setblocking(False)
        try:
            self._channel.recv(65_536)
        except BlockingIOError:
            return True
        finally:
            self._channel.settimeout(PATIENCE_S)
        return False

    def close(self) -> None:
        self._channel.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    path = str(tmp_path / "notify")
    found = Manager(path if request.param == "path" else f"@{path}")
    yield found
    found.close()


def of(manager: Manager, **more: str) -> Service:
    return Service.of({"NOTIFY_SOCKET": manager.address, **more})


def test_signs_of_life_are_due_twice_as_often_as_is_asked(manager: Manager) -> None:
    service = of(manager, WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid()))
    assert service.deadline() == math.inf, "not before it is ready"
    service.ready(100.0)
    assert manager.told() == ["READY=1"]
    service.check(100.0, lambda: "round 3:\n trains")
    assert manager.told() == ["WATCHDOG=1", "STATUS=round 3: trains"]
    assert service.deadline() == 101.5
    service.check(101.4, lambda: "round 3: trains")
    assert manager.waits_in_vain()
    service.check(101.5, lambda: "x" * 1000)
    assert manager.told() == ["WATCHDOG=1", "STATUS=" + "x" * MAX_STATUS_CHARACTERS]
    service.stopping()
    assert manager.told() == ["STOPPING=1"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
def test_without_a_watchdog_of_ours_it_says_now_and_then_what_it_does(
    more: dict[str, str], manager: Manager
) -> None:
    service = of(manager, **more)
    service.ready(0.0)
    service.check(0.0, lambda: "waits")
    assert service.deadline() == TOLD_INTERVAL_S


def test_no_child_inherits_what_was_for_this_process(manager: Manager) -> None:
    environment = {
        "HOME": "/",
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "1",
        "WATCHDOG_PID": "1",
    }
    Service.of(environment)
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize("address", ["", "notify", "vsock:2:1234"])
def test_without_a_manager_that_can_be_told_nothing_is_due(address: str) -> None:
    service = Service.of({"NOTIFY_SOCKET": address} if address else {})
    service.ready(0.0)
    service.check(0.0, lambda: pytest.fail("nobody wants to know"))
    service.stopping()
    assert service.deadline() == math.inf


def test_a_manager_that_has_gone_does_not_matter(manager: Manager) -> None:
    service = of(manager)
    manager.close()
    if manager.address.startswith("/"):
        os.unlink(manager.address)
    service.ready(0.0)
    service.check(0.0, lambda: "trains")
    assert service.deadline() == TOLD_INTERVAL_S


def test_a_manager_that_does_not_read_does_not_hold_anybody_up(
    manager: Manager,
) -> None:
    service = of(manager)
    for _ in range(2_000):  # more than a socket's queue takes
        service.stopping()
    assert manager.told() == ["STOPPING=1"]
