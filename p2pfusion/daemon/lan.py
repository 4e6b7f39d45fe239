"""Peers of the local network, found by multicast (mDNS and DNS-SD, as printers are).

A daemon that wants it announces its swarm's short id, its name and where it listens,
and looks for others; nothing of that is secret, and nothing that is heard is believed.
A member that is not reached where its record says, and announces itself elsewhere, is
knocked at there; who answers must prove the member's key. Joining needs what it always
needs. The only file that imports zeroconf, an optional extra that runs in threads of
its own, and itself imported only by those who want it.

As the metrics, this asks the daemon over the local socket and shares nothing with it.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from p2pfusion.daemon.address import LARGEST_PORT, write_address
from p2pfusion.errors import ConfigError, P2PFusionError
from p2pfusion.limits import MAX_FOUND_PEERS, MAX_NAME_CHARACTERS

try:
    import ifaddr
    from zeroconf import (
        Error,
        InterfaceChoice,
        ServiceBrowser,
        ServiceInfo,
        ServiceListener,
        Zeroconf,
    )
except ModuleNotFoundError:
    raise ConfigError(
        "the local network cannot be looked into: zeroconf is not installed",
        hint="pip install 'p2pfusion[lan]'",
    ) from None

KIND = "_p2pfusion._tcp.local."

SWARM_CHARACTERS = 12
"""Of a swarm's id: enough to tell the swarms of a network apart."""

LABEL_CHARACTERS = 63
"""Of one part of a DNS name."""

LOOK_EVERY_S = 5.0
"""How often a daemon is asked what there is to announce, and whom it misses."""

QUESTION_MS = 2_000
"""How long a peer that was seen may take to say where it is."""

MAX_TEXT_CHARACTERS = 128
MAX_ADDRESSES = 8

Ask = Callable[..., Mapping[str, object]]
"""Asks the daemon: a command and its arguments."""

log = logging.getLogger("p2pfusion")


@dataclass(frozen=True)
class Announced:
    """What a peer says of itself, or somebody in its name."""

    peer: str
    name: str
    swarm: str
    """The beginning of its swarm's id; "" while it has none."""
    addresses: tuple[str, ...]
    """Numbers, without the port."""
    port: int

    def info(self) -> ServiceInfo:
        """As it is announced."""
        return ServiceInfo(
            KIND,
            f"{self.peer[:LABEL_CHARACTERS]}.{KIND}",
            port=self.port,
            parsed_addresses=list(self.addresses),
            properties={"peer": self.peer, "name": self.name, "swarm": self.swarm},
            server=f"{self.peer[:LABEL_CHARACTERS]}.local.",
        )


def read(info: ServiceInfo) -> Announced | None:
    """What was heard, or None if it makes no sense."""
    properties = info.decoded_properties
    peer, name, swarm = (properties.get(key) or "" for key in ("peer", "name", "swarm"))
    texts = (peer, name, swarm)
    if not peer or any(len(each) > MAX_TEXT_CHARACTERS for each in texts):
        return None
    if not all(each.isprintable() for each in texts) or not info.port:
        return None
    found = sorted(info.parsed_addresses(), key=lambda each: ":" in each)
    addresses = tuple(found[:MAX_ADDRESSES])
    if not addresses or not 0 < info.port < LARGEST_PORT:
        return None
    shown = name[:MAX_NAME_CHARACTERS], swarm[:SWARM_CHARACTERS]
    return Announced(peer, *shown, addresses, info.port)


@dataclass
class Found(ServiceListener):
    """Who is announced now. Written by the library's thread."""

    _known: dict[str, Announced] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Somebody is there."""
        self.update_service(zc, type_, name)

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Somebody says something new."""
        try:
            info = zc.get_service_info(type_, name, timeout=QUESTION_MS)
            said = None if info is None else read(info)
        except (Error, ValueError):
            said = None
        with self._lock:
            if said is not None and len(self._known) < MAX_FOUND_PEERS:
                self._known[name] = said

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Somebody has gone."""
        with self._lock:
            self._known.pop(name, None)

    def all(self) -> list[Announced]:
        """Everybody, sorted."""
        with self._lock:
            return sorted(
                self._known.values(), key=lambda said: (said.swarm, said.peer)
            )


class Network:
    """The local network, as long as it is open: announcing and looking."""

    def __init__(self, interfaces: Sequence[str] = ()) -> None:
        """``interfaces``: own addresses to use; none: all there are.

        ``ConfigError`` if this machine cannot send to many at once."""
        chosen = list(interfaces) or InterfaceChoice.All
        try:
            self._zeroconf = Zeroconf(interfaces=chosen)
        except OSError as error:
            raise ConfigError(
                f"cannot look into the local network: {error}",
                hint="multicast must be possible here; or do without --lan",
            ) from None
        self.found = Found()
        self._browser = ServiceBrowser(self._zeroconf, KIND, self.found)
        self._info: ServiceInfo | None = None

    def announce(self, said: Announced | None) -> None:
        """Says this from now on, or nothing any more."""
        if self._info is not None:
            self._zeroconf.unregister_service(self._info)
            self._info = None
        if said is not None:
            self._info = said.info()
            self._zeroconf.register_service(self._info, allow_name_change=True)

    def close(self) -> None:
        """Takes back what was announced."""
        self._zeroconf.close()


class Neighbours:
    """A daemon's part in its local network: a thread that asks the daemon."""

    def __init__(self, ask: Ask, listen: str) -> None:
        """``listen``: the host on which the daemon listens."""
        self._ask = ask
        self._own = _own_addresses(listen)
        self._network = Network(self._own)
        self._said: Announced | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lan", daemon=True)

    def start(self) -> None:
        """The daemon can be asked now."""
        self._thread.start()

    def close(self) -> None:
        """Ends it; what was announced is taken back."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(LOOK_EVERY_S)
        self._network.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._look()
            except P2PFusionError:
                pass  # the daemon is busy, or ends
            except (Error, OSError) as error:
                log.warning("nothing is announced for now: %s", error)
            self._ended.wait(LOOK_EVERY_S)

    def _look(self) -> None:
        status = self._ask("status")
        said = announcement(status, self._own or _all_addresses())
        if said != self._said:
            self._network.announce(said)
            self._said = said
        if said is not None and said.swarm:
            rows = self._ask("peers")["peers"]
            assert isinstance(rows, list), "it is this daemon's own"
            for peer, host, port in elsewhere(
                rows, self._network.found.all(), said.swarm
            ):
                log.info("%s announces itself at %s", peer, write_address(host, port))
                self._ask("meet", peer=peer, host=host, port=port)


def announcement(
    status: Mapping[str, object], addresses: Sequence[str]
) -> Announced | None:
    """What a daemon announces that says this of itself; None if nobody can dial it."""
    own, swarm = status["self"], status["swarm"]
    assert isinstance(own, dict) and isinstance(own["addresses"], list)
    if not own["addresses"] or not addresses:
        return None
    _, _, port = str(own["listen"]).rpartition(":")
    in_swarm = str(swarm["id"])[:SWARM_CHARACTERS] if isinstance(swarm, dict) else ""
    return Announced(
        str(own["id"]), str(own["name"]), in_swarm, tuple(addresses), int(port)
    )


def elsewhere(
    rows: Sequence[Mapping[str, object]], found: Sequence[Announced], swarm: str
) -> list[tuple[str, str, int]]:
    """Members that are not reached, and announce themselves at another address than
    their record has: where to knock."""
    missed = {row["id"]: row["address"] for row in rows if not row["online"]}
    return [
        (said.peer, host, said.port)
        for said in found
        if said.swarm == swarm and said.peer in missed
        for host in said.addresses
        if missed[said.peer] != write_address(host, said.port)
    ]


def _own_addresses(listen: str) -> list[str]:
    """The address on which a daemon listens; none if it is every one."""
    try:
        number = ipaddress.ip_address(listen)
    except ValueError:
        return []
    return [] if number.is_unspecified else [listen]


def _all_addresses() -> list[str]:
    """Every address of this machine but those that only it can use."""
    found = [
        str(ip.ip)
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
        if ip.is_IPv4 and not ipaddress.ip_address(str(ip.ip)).is_loopback
    ]
    return found[:MAX_ADDRESSES]
