"""Networks of their own: namespaces of the kernel, joined by a switch.

Every address lies inside a namespace that is made here, so nothing that a test does can
reach, or be reached from, the network of the machine. The switch is a bridge in a
namespace that holds nothing else; a second one beside it, joined by a cable that can be
pulled out, makes two sides. Needs root and the program ``ip`` (iproute2).

A line can be bad: by the kernel's ``netem`` where there is one, else by a process that
passes packets on and delays and loses some (``wire.py``).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.end_to_end.programs import ROOT

PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
IP = shutil.which("ip", path=PATHS)
TC = shutil.which("tc", path=PATHS)
NAMED = Path("/run/netns")
"""Where ``ip`` keeps namespaces by name."""

NETWORK = "10.77.0"
"""Addresses of the hosts begin so; the machine's own network is out of reach."""

CLONE_NEWNET = 0x40000000
SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
IFREQ_BYTES = 40
BRIDGES = ("bridge", "beyond")
"""The two sides of the switch."""

GOOD_BITS_PER_S = 1e9

CABLE = "cable"

_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str:
    """Why there can be no namespaces here; "" if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if IP is None:
        return "network namespaces need the program ip (package iproute2)"
    trial = f"p2pf-{os.getpid()}-trial"
    failed = _run("netns", "add", trial)
    for kind in ("veth", "bridge"):
        failed = failed or _run("-n", trial, "link", "add", "type", kind)
    _run("netns", "delete", trial)
    return failed and f"no network namespaces here: {failed}"


def _run(*arguments: str) -> str:
    """Runs ``ip``; what it complains about."""
    assert IP is not None
    done = subprocess.run([IP, *arguments], capture_output=True, text=True)
    return done.stderr.strip() or "no reason given" if done.returncode else ""


def ip(*arguments: str) -> None:
    """Runs ``ip``, which must succeed."""
    failed = _run(*arguments)
    assert not failed, f"ip {' '.join(arguments)}: {failed}"


@dataclass(frozen=True)
class Line:
    """How a line treats packets, in each of its directions."""

    delay_s: float
    loss: float
    bits_per_s: float


@dataclass(frozen=True)
class Host:
    """A namespace with loopback and, if it is at a switch, an address."""

    namespace: str
    address: str = "127.0.0.1"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that are made, and processes that are started, by this thread in the
        block belong to this host for ever."""
        with open("/proc/thread-self/ns/net") as before:
            _enter(NAMED / self.namespace)
            try:
                yield
            finally:
                assert _libc.setns(before.fileno(), CLONE_NEWNET) == 0


def _enter(namespace: Path) -> None:
    with namespace.open() as named:
        entered = _libc.setns(named.fileno(), CLONE_NEWNET)
    assert entered == 0, f"cannot enter {namespace}: {os.strerror(ctypes.get_errno())}"


class Network:
    """Hosts at a switch of two sides."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._count = 0
        self.switch = self._host("switch")
        self._here = ("-n", self.switch.namespace)
        for bridge in BRIDGES:
            self._link("add", bridge, "type", "bridge")
            self._link("set", bridge, "up")
        self._link("add", CABLE, "type", "veth", "peer", "name", "socket")
        for end, bridge in zip((CABLE, "socket"), BRIDGES, strict=True):
            self._link("set", end, "master", bridge, "up")

    def _link(self, *arguments: str) -> None:
        ip(*self._here, "link", *arguments)

    def part(self) -> None:
        """From now on nothing passes between the two sides."""
        self._link("set", CABLE, "down")

    def heal(self) -> None:
        """The two sides are one network again."""
        self._link("set", CABLE, "up")

    def host(
        self, *, beyond: bool = False, line: Line | None = None, inbound: bool = True
    ) -> Host:
        """One more host, at the switch, on its first or second side, by a good line or
        such a one; without ``inbound`` nobody can open a connection to it."""
        self._count += 1
        address, port = f"{NETWORK}.{self._count}", f"port{self._count}"
        host = self._host(str(self._count), address)
        there = ("-n", host.namespace)
        ends = ("peer", "name", "eth", "netns", host.namespace)
        self._link("add", port, "type", "veth", *ends)
        self._plug(port, beyond)
        ip(*there, "address", "add", f"{address}/24", "dev", "eth")
        ip(*there, "link", "set", "eth", "up")
        with host.inside():
            _sum_by_hand("eth")
        if not inbound:
            self._wire(port, beyond, line or Line(0.0, 0.0, GOOD_BITS_PER_S), address)
        elif line is not None and not self._netem(host, port, line):
            self._wire(port, beyond, line)
        return host

    def _plug(self, port: str, beyond: bool) -> None:
        self._link("set", port, "master", BRIDGES[beyond], "up")

    def _netem(self, host: Host, port: str, line: Line) -> bool:
        """Has the kernel do it; whether it can."""
        if TC is None:
            return False
        for namespace, device in ((host.namespace, "eth"), (*self._here[1:], port)):
            rule = [
                *("netem", "delay", f"{1_000 * line.delay_s:g}ms"),
                *("loss", f"{100 * line.loss:g}%"),
                *("rate", f"{line.bits_per_s:.0f}bit"),
            ]
            command = [TC, "-n", namespace, "qdisc", "add", "dev", device, "root"]
            if subprocess.run([*command, *rule], capture_output=True).returncode:
                return False
        return True

    def _wire(self, port: str, beyond: bool, line: Line, no_calls_to: str = "") -> None:
        """Has a process do it, between the host's port and another at the switch."""
        inner, outer = f"in{self._count}", f"out{self._count}"
        self._link("set", port, "nomaster")
        self._link("add", inner, "type", "veth", "peer", "name", outer)
        self._link("set", outer, "up")
        self._plug(inner, beyond)
        program = [sys.executable, "-m", "tests.end_to_end.wire", port, outer]
        program += ["--delay-s", str(line.delay_s), "--loss", str(line.loss)]
        program += ["--bits-per-s", str(line.bits_per_s)]
        program += ["--no-calls-to", no_calls_to]
        with self.switch.inside():
            wire = subprocess.Popen(
                program, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
            )
        self._stack.callback(wire.wait, 10)
        self._stack.callback(wire.kill)
        assert wire.stdout is not None
        assert wire.stdout.readline() == b"READY\n"
        wire.stdout.close()

    def _host(self, name: str, address: str = "127.0.0.1") -> Host:
        host = Host(f"p2pf-{os.getpid()}-{name}", address)
        ip("netns", "add", host.namespace)
        # Its links go with it: a veth ends with either of its ends.
        self._stack.callback(ip, "netns", "delete", host.namespace)
        ip("-n", host.namespace, "link", "set", "lo", "up")
        return host


def _sum_by_hand(interface: str) -> None:
    """Has the kernel put checksums into packets, as on a real line. Without this it
    leaves them out between namespaces, and cuts packets later, or never."""
    wanted = struct.pack("=II", ETHTOOL_STXCSUM, 0)
    value = ctypes.create_string_buffer(wanted, len(wanted))
    request = struct.pack("@16sP", interface.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCETHTOOL, request.ljust(IFREQ_BYTES, b"\0"))


@contextmanager
def network() -> Iterator[Network]:
    """A switch without hosts; nothing of it is left afterwards, nor of tests that were
    killed before they could clean up."""
    for left in NAMED.glob("p2pf-*-*"):
        if not psutil.pid_exists(int(left.name.split("-")[1])):
            ip("netns", "delete", left.name)
    with ExitStack() as stack:
        yield Network(stack)
