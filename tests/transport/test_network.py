"""Both planes together; the promises are tested in ``contracts/test_transports.py``."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import psutil
import pytest

from p2pfusion import limits
from p2pfusion.errors import ConfigError, ConflictError
from p2pfusion.transport import (
    Address,
    Incoming,
    Keys,
    KnockFailed,
    NetworkTransport,
    Plane,
    Remote,
    Traffic,
    bounds,
)
from p2pfusion.transport import network as network_module
from p2pfusion.transport.control import ControlPlane
from tests.transport.strangers import ANY_PORT, PATIENCE_S, is_hung_up, keys_of

CONTROL, DATA = Plane.CONTROL, Plane.DATA
THERE, BACK = b"there...", b"back...."


def open_at(name: str, host: str = "127.0.0.1") -> NetworkTransport:
    return NetworkTransport(name, Address(host, 0), keys_of(name))


def meet(a: NetworkTransport, b: NetworkTransport, host: str = "127.0.0.1") -> None:
    """Makes both known to each other, b under another host."""
    for me, peer, other, tokens, its_host in (
        (a, "b", b, (THERE, BACK), host),
        (b, "a", a, (BACK, THERE), "127.0.0.1"),
    ):
        control, data = (Address(its_host, other.addresses[p].port) for p in Plane)
        me.admit(peer, keys_of(peer).public)
        me.connect(peer, Remote(control, data, keys_of(peer).public))
        me.open_session(peer, sending=tokens[0], receiving=tokens[1])


@pytest.fixture
def pair() -> Iterator[tuple[NetworkTransport, NetworkTransport]]:
    with closing(open_at("a")) as a, closing(open_at("b")) as b:
        meet(a, b)
        yield a, b


def until(condition: Callable[[], object], *transports: NetworkTransport) -> None:
    """Lets transports work until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        for transport in transports:
            transport.poll(0.01, {})


def hears(
    receiver: NetworkTransport, sender: NetworkTransport, peer: str
) -> dict[Plane, list[bytes]]:
    """Sends one word on each plane; what arrives."""
    for plane in Plane:
        assert sender.send(peer, plane, [plane.encode()])
    got: dict[Plane, list[bytes]] = {}
    deadline = time.monotonic() + PATIENCE_S
    while len(got) < 2:
        assert time.monotonic() < deadline
        sender.poll(0, {})
        for message in receiver.poll(0.01, {})[0]:
            assert isinstance(message, Incoming)
            got[message.plane] = [bytes(frame) for frame in message.frames]
    return got


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("listen", "reach"),
    [
        ("127.0.0.1", "localhost"),
        ("0.0.0.0", "127.0.0.1"),
        ("localhost", "localhost"),
        pytest.param(
            "::1",
            "::1",
            marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine"),
        ),
    ],
)
def test_hosts_by_name_and_number(listen: str, reach: str) -> None:
    with closing(open_at("b", listen)) as b, closing(open_at("a")) as a:
        assert {address.host for address in b.addresses.values()} == {listen}
        meet(a, b, reach)
        assert hears(b, a, "b") == {plane: [plane.encode()] for plane in Plane}


@pytest.mark.parametrize("port", [0, 7_788, 65_534])
@pytest.mark.parametrize("host", ["192.0.2.1", "nobody.invalid"])
def test_foreign_listen_address_is_a_config_error(host: str, port: int) -> None:
    with pytest.raises(ConfigError) as raised:
        NetworkTransport("a", Address(host, port), None)
    assert f"cannot listen on {host}:{port}" in raised.value.message
    assert raised.value.hint


def test_last_port_has_none_above_it() -> None:
    with pytest.raises(ConfigError, match="the port above it is needed") as raised:
        NetworkTransport("a", Address("127.0.0.1", 65_535), None)
    assert raised.value.hint


@contextmanager
def unlucky_port() -> Iterator[int]:
    """A free port below one that is taken."""
    with ExitStack() as stack:
        while True:
            taken = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = taken.getsockname()[1] - 1
            with suppress(OSError), socket.create_server(("127.0.0.1", port)):
                break
        yield port


@pytest.mark.parametrize("keys", [keys_of("a"), None])
def test_free_port_is_one_with_a_free_port_above(
    keys: Keys | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the system offers first."""
    real = network_module.ControlPlane
    with unlucky_port() as unlucky:
        offered: list[int] = []

        def offer(
            peer: str, listen: Address, keys: Keys | None, traffic: Traffic
        ) -> ControlPlane:
            offered.append(unlucky if len(offered) < 3 else 0)
            return real(peer, Address(listen.host, offered[-1]), keys, traffic)

        monkeypatch.setattr(network_module, "ControlPlane", offer)
        with closing(NetworkTransport("a", ANY_PORT, keys)) as transport:
            ports = [transport.addresses[plane].port for plane in Plane]
        assert offered[:3] == [unlucky] * 3 and offered[3:]
        assert ports[1] == ports[0] + 1 and unlucky not in ports
        offered.clear()
        monkeypatch.setattr(bounds, "PORT_TRIES", 3)
        with pytest.raises(ConflictError, match=f"port {unlucky + 1} "):
            NetworkTransport("a", ANY_PORT, keys)


def test_failed_listening_leaves_nothing() -> None:
    process = psutil.Process()
    with unlucky_port() as port:
        left = []
        for listen in (port, port + 1, port, port + 1):
            with pytest.raises(ConflictError, match=f"port {port + 1} on 127.0.0.1"):
                NetworkTransport("a", Address("127.0.0.1", listen), keys_of("a"))
            left.append((process.num_fds(), process.num_threads()))
    assert len(set(left)) == 1


def test_expelling_ends_both_planes_at_once(
    pair: tuple[NetworkTransport, NetworkTransport],
) -> None:
    a, b = pair
    hears(b, a, "b")
    hears(a, b, "a")
    host, port = b.addresses[DATA].host, b.addresses[DATA].port
    with socket.create_connection((host, port)) as channel:
        head = THERE + (4).to_bytes(4, "little") + bytes(4)
        channel.sendall(head + b"word")
        until(lambda: b.traffic.received_bytes(plane=DATA) == 8, b)
        b.expel("a")
        until(lambda: is_hung_up(channel), b)
    before = b.traffic.received_bytes()

    def is_refused() -> bool:
        for plane in Plane:
            assert not b.send("a", plane, [b"word"])
            a.send("b", plane, [b"let me in"])
        return b.traffic.dropped["an unknown token"] > 0

    until(is_refused, a, b)
    assert b.traffic.received_bytes() == before


def test_expelled_peer_learns_it_when_it_knocks(
    pair: tuple[NetworkTransport, NetworkTransport],
) -> None:
    a, b = pair
    b.expel("a")
    address = b.addresses[CONTROL]
    a.knock(address, [b"hello"], key=keys_of("b").public)
    got: list[object] = []
    until(lambda: got.extend(a.poll(0.01, {})[0]) or got, b)
    assert got == [KnockFailed(address, "refused")]


def test_both_planes_share_one_traffic(
    pair: tuple[NetworkTransport, NetworkTransport],
) -> None:
    a, b = pair
    hears(b, a, "b")
    assert a.traffic.sent_bytes(plane=CONTROL) == len(CONTROL)
    assert a.traffic.sent_bytes(plane=DATA) == len(DATA)
    assert b.traffic.received_bytes(peer="a") == len(CONTROL) + len(DATA)


def test_idle_transport_waits_in_the_kernel(
    pair: tuple[NetworkTransport, NetworkTransport],
) -> None:
    """Open connections cost a few looks a second, not a busy loop."""
    a, b = pair
    hears(b, a, "b")
    turns = 0
    end = time.monotonic() + 4 * limits.GUARD_IDLE_S
    while (left_s := end - time.monotonic()) > 0:
        assert b.poll(left_s, {}) == ([], [])
        turns += 1
    assert turns < 40
