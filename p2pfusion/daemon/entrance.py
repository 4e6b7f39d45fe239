"""The way in, from both sides: our door, and other peers' doors.

Our side keeps the invitations and tells the transport which keys may greet. The other
side is what we learn of whoever listens at an address: its banner, once verified, names
a peer and its key; the address must answer with the same peer ever after.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from p2pfusion.daemon.home import Home
from p2pfusion.daemon.identity import Identity
from p2pfusion.daemon.invites import load_invites, save_invites
from p2pfusion.daemon.known import KnownPeers
from p2pfusion.errors import DiskFullError, RemoteProtocolError
from p2pfusion.protocol.access import Introduced, KnockFailed
from p2pfusion.protocol.admission import Invite
from p2pfusion.protocol.door import Door
from p2pfusion.protocol.events import Event
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.statements import banner, read_banner
from p2pfusion.security import ED25519, invite_secret_key, transport_public
from p2pfusion.transport import Arrival, Banner, Transport
from p2pfusion.transport import KnockFailed as Failed

log = logging.getLogger("p2pfusion")


class Entrance:
    """Keys and addresses of strangers, on disk and at the transport."""

    def __init__(self, home: Home, identity: Identity, transport: Transport) -> None:
        self.known = KnownPeers(home.known)
        self.first_contacts: dict[str, str] = {}
        """Addresses trusted for the first time in this run, and who answered there."""
        self._invites_file = home.invites
        self._identity = identity
        self._transport = transport
        self._banner = b""
        self._strangers = False

    def open(self, door: Door, manifest: Manifest) -> None:
        """There is a swarm: take up its invitations, and open as far as it says."""
        door.admission.restore(load_invites(self._invites_file))
        self._strangers = manifest.admission != "ticket"
        if self._strangers:
            self._banner = banner(self._identity.transport_key, self._identity.key)
        self._set(door.admission.invites.values())

    def keep(self, invites: Iterable[Invite]) -> None:
        """The invitations have changed."""
        invites = list(invites)
        save_invites(self._invites_file, invites)
        self._set(invites)

    def _set(self, invites: Iterable[Invite]) -> None:
        # Keys of invitations that have ended, too: their owners shall hear why.
        keys = [transport_public(invite_secret_key(each.secret)) for each in invites]
        self._transport.set_door(
            guests=keys, strangers=self._strangers, banner=self._banner
        )

    def arrived(self, arrival: Arrival) -> list[Event]:
        """What an attempt to knock has come to."""
        if isinstance(arrival, Failed):
            address = arrival.address
            return [KnockFailed(address.host, address.port, arrival.reason)]
        return [self._met(arrival)] if isinstance(arrival, Banner) else []

    def _met(self, arrival: Banner) -> Event:
        address = arrival.address
        try:
            peer, key = read_banner(arrival.data, ED25519)
        except RemoteProtocolError as error:
            log.warning("%s says nothing that makes sense: %s", address, error)
            return KnockFailed(address.host, address.port, "no-banner")
        before = self.known.at(str(address))
        if before not in (None, peer):
            log.error("%s answered as %s, and before as %s", address, peer, before)
            return KnockFailed(address.host, address.port, "changed-key")
        if before is None:
            log.info("first contact: %s answered as %s", address, peer)
            try:
                self.known.pin(str(address), peer)
            except DiskFullError as error:
                log.warning("%s; this contact is trusted until the next start", error)
            self.first_contacts[str(address)] = peer
        return Introduced(address.host, address.port, peer, key)
