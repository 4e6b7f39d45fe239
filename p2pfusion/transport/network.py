"""The transport between machines: a control plane and a data plane side by side.

Both listen on one address, the data plane one port above the control plane, so that a
single address says where a peer is. Every promise of ``base.py`` is kept by one of the
two planes, or by both; here is only who does what.
"""

from __future__ import annotations

import ipaddress
import selectors
import time
from collections.abc import Collection, Mapping, Sequence

from p2pfusion.errors import ConfigError, ConflictError
from p2pfusion.transport import bounds
from p2pfusion.transport.base import (
    Address,
    Arrival,
    Caps,
    Frame,
    Keys,
    Plane,
    Remote,
    Traffic,
    check_banner,
    check_peer_id,
)
from p2pfusion.transport.control import ControlPlane
from p2pfusion.transport.tcp import NO_CAPS, DataPlane


class NetworkTransport:
    """A ``Transport`` over TCP."""

    def __init__(
        self,
        peer: str,
        listen: Address,
        keys: Keys | None,
        *,
        caps: Caps = NO_CAPS,
        relays: bool = True,
    ) -> None:
        """Listens at once, for port 0 on any pair of free ports.

        ``relays``: whether others may reach each other through this peer. ``keys``:
        who this peer is to the others; None for plain mode, without proof or
        encryption. ``ConflictError`` names the port that is taken, ``ConfigError`` what
        cannot be listened on."""
        check_peer_id(peer)
        self.traffic = Traffic()
        self._control, self._data = _listen(
            peer, listen, keys, self.traffic, caps, relays
        )
        self._passages = self._data.passages
        self._passages.control = _from_here(self._control.address)

    @property
    def addresses(self) -> Mapping[Plane, Address]:
        """Where this peer listens, with the ports that were really bound."""
        return {Plane.CONTROL: self._control.address, Plane.DATA: self._data.address}

    def admit(self, name: str, key: bytes) -> None:
        """Connections that prove this key are ``name``'s; see ``Transport``."""
        self._control.admit(name, key)

    def expel(self, name: str) -> None:
        """Refuses the key of ``name`` from now on; see ``Transport``."""
        self._control.expel(name)
        self._data.expel(name)

    def set_door(
        self, *, guests: Collection[bytes], strangers: bool, banner: bytes
    ) -> None:
        """Says who else may greet; see ``Transport``."""
        check_banner(banner)
        self._control.set_door(guests=guests, strangers=strangers)
        self._data.banner = banner

    def kick(self, sender: str) -> None:
        """Closes the control connections of ``sender``; see ``Transport``."""
        self._control.kick(sender)

    def connect(self, peer: str, remote: Remote) -> None:
        """Makes ``peer`` known; see ``Transport``. ``ResourceError`` if this process
        may open no more descriptors; ``peer`` is unknown then."""
        address, relay = remote.control, remote.relay
        if relay:
            address = self._passages.gate(peer, remote.data, relay)
        else:
            self._passages.close_gate(peer)
        self._control.connect(peer, address, remote.key)
        self._data.connect(peer, remote.data, relay)

    def know(self, peer: str, token: bytes) -> None:
        """Passages between ``peer`` and this one begin so; see ``Transport``."""
        self._passages.know(peer, token)

    def stand_by(self, peer: str, data: Address) -> None:
        """Keeps a connection at ``peer`` for its use; see ``Transport``."""
        self._passages.stand_by(peer, data)

    def disconnect(self, peer: str) -> None:
        """Forgets ``peer``; what waits for it still leaves if it can at once."""
        self._control.disconnect(peer)
        self._data.disconnect(peer)

    def open_session(self, peer: str, *, sending: bytes, receiving: bytes) -> None:
        """Tokens of the data plane; see ``Transport``."""
        self._data.open_session(peer, sending=sending, receiving=receiving)

    def knock(
        self,
        address: Address,
        frames: Sequence[Frame],
        *,
        key: bytes,
        own: Keys | None = None,
    ) -> None:
        """Sends a message to whoever listens there; see ``Transport``."""
        self._control.knock(address, frames, key=key, own=own)

    def ask(self, address: Address) -> None:
        """Fetches the banner of who listens there; see ``Transport``."""
        self._data.ask(address)

    def send(self, peer: str, plane: Plane, frames: Sequence[Frame]) -> bool:
        """Queues a message, or returns False; see ``Transport``."""
        if plane is Plane.CONTROL:
            return self._control.send(peer, frames)
        return self._data.send(peer, frames)

    def waiting(self, peer: str) -> int:
        """Messages that wait on the data plane; see ``Transport``."""
        return self._data.waiting(peer)

    def under_way(self, peer: str) -> int:
        """Messages that have not reached the peer's kernel; see ``Transport``."""
        return self._data.under_way(peer)

    def poll(
        self, timeout_s: float | None, descriptors: Mapping[int, int]
    ) -> tuple[list[Arrival], list[int]]:
        """Waits for messages or descriptors; see ``Transport``."""
        deadline = self._data.deadline()
        if deadline is not None:
            left_s = max(deadline - time.monotonic(), 0.0)
            timeout_s = left_s if timeout_s is None else min(timeout_s, left_s)
        watched = {**descriptors, self._data.fileno(): selectors.EVENT_READ}
        arrivals, ready = self._control.poll(timeout_s, watched)
        arrivals += self._data.take()
        return arrivals, [number for number in ready if number in descriptors]

    def close(self) -> None:
        """Lets the last messages leave for a bounded time and frees everything."""
        self._control.close()
        self._data.close()


def _listen(
    peer: str,
    listen: Address,
    keys: Keys | None,
    traffic: Traffic,
    caps: Caps,
    relays: bool,
) -> tuple[ControlPlane, DataPlane]:
    if listen.port == 65_535:
        raise ConfigError(
            f"cannot listen on {listen}: the port above it is needed as well",
            hint="listen on a port between 1024 and 65534",
        )
    tries = 1 if listen.port else bounds.PORT_TRIES
    while True:
        tries -= 1
        control = ControlPlane(peer, listen, keys, traffic)
        try:
            above = Address(listen.host, control.address.port + 1)
            data = DataPlane(above, traffic, caps=caps, me=peer, relays=relays)
            return control, data
        except (ConfigError, ConflictError):
            # A free port may be the last one, which has none above it.
            control.close()
            if not tries:
                raise
        except Exception:
            control.close()
            raise


def _from_here(address: Address) -> Address:
    """Where this machine itself reaches what listens on an address."""
    if not address.is_literal or not ipaddress.ip_address(address.host).is_unspecified:
        return address
    return Address("::1" if address.is_ipv6 else "127.0.0.1", address.port)
