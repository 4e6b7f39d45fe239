"""Networks of their own: namespaces of the kernel, joined by a switch.

Every address lies inside a namespace that is made here, so nothing that a test does can
reach, or be reached from, the network of the machine. The switch is a bridge in a
namespace that holds nothing else. Needs root and the program ``ip`` (iproute2).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
NAMED = Path("/run/netns")
"""Where ``ip`` keeps namespaces by name."""

NETWORK = "10.77.0"
"""Addresses of the hosts begin so; the machine's own network is out of reach."""

CLONE_NEWNET = 0x40000000
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
    """Hosts at a switch."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._count = 0
        self.switch = self._host("switch")
        ip("-n", self.switch.namespace, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.switch.namespace, "link", "set", "bridge", "up")

    def host(self) -> Host:
        """One more host, at the switch."""
        self._count += 1
        address, port = f"{NETWORK}.{self._count}", f"port{self._count}"
        host = self._host(str(self._count), address)
        here, there = ("-n", self.switch.namespace), ("-n", host.namespace)
        ends = ("peer", "name", "eth", "netns", host.namespace)
        ip(*here, "link", "add", port, "type", "veth", *ends)
        ip(*here, "link", "set", port, "master", "bridge", "up")
        ip(*there, "address", "add", f"{address}/24", "dev", "eth")
        ip(*there, "link", "set", "eth", "up")
        return host

    def _host(self, name: str, address: str = "127.0.0.1") -> Host:
        host = Host(f"p2pf-{os.getpid()}-{name}", address)
        ip("netns", "add", host.namespace)
        # Its links go with it: a veth ends with either of its ends.
        self._stack.callback(ip, "netns", "delete", host.namespace)
        ip("-n", host.namespace, "link", "set", "lo", "up")
        return host


@contextmanager
def network() -> Iterator[Network]:
    """A switch without hosts; nothing of it is left afterwards, nor of tests that were
    killed before they could clean up."""
    for left in NAMED.glob("p2pf-*-*"):
        if not psutil.pid_exists(int(left.name.split("-")[1])):
            ip("netns", "delete", left.name)
    with ExitStack() as stack:
        yield Network(stack)
