"""The only wiring: from a home and a profile to a running daemon."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import logging
import os
import resource
import socket
import time
from collections.abc import Callable, Sequence

from p2pfusion.daemon import answers
from p2pfusion.daemon.address import LARGEST_PORT, is_loopback, parse_address
from p2pfusion.daemon.apprentice import Apprentice
from p2pfusion.daemon.config import NOWHERE, Profile
from p2pfusion.daemon.control import ControlServer
from p2pfusion.daemon.entrance import Entrance
from p2pfusion.daemon.history import Watcher
from p2pfusion.daemon.home import Home
from p2pfusion.daemon.identity import Identity, create_identity
from p2pfusion.daemon.links import Links
from p2pfusion.daemon.logs import log_to_file
from p2pfusion.daemon.node import Node
from p2pfusion.daemon.outlets import NO_OUTLETS, OpenOutlets, Outlets
from p2pfusion.daemon.service import Service
from p2pfusion.daemon.signals import EndingSignals
from p2pfusion.daemon.state import SwarmState
from p2pfusion.daemon.training import first_fraction
from p2pfusion.daemon.ways import ways_of
from p2pfusion.errors import ConfigError, ConflictError, StartInterruptedError
from p2pfusion.limits import MAX_DESCRIPTORS
from p2pfusion.protocol.access import JoinBy
from p2pfusion.protocol.events import Found, Resume
from p2pfusion.protocol.joining import Way
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import BEFORE_START, PeerRecord
from p2pfusion.protocol.peer import Peer
from p2pfusion.security import ExchangeKey, preferred_cipher
from p2pfusion.transport import Address, Caps, Keys, NetworkTransport, Plane, Transport

DOCUMENTATION_ADDRESS = ("192.0.2.1", 9)
"""An address that is nobody's: asking for the way there sends nothing."""

OnReady = Callable[[answers.Data], None]

log = logging.getLogger("p2pfusion")


def run_daemon(
    home: Home,
    profile: Profile,
    join: Sequence[str],
    on_ready: OnReady,
    signals: EndingSignals,
    outlets: Outlets = NO_OUTLETS,
) -> None:
    """Runs a daemon until it is stopped; raises what makes going on pointless.

    ``on_ready`` is told who and where this peer is, once the local socket answers; if
    a signal comes before that, it is told nothing and ``StartInterruptedError`` raised.
    """
    _raise_descriptor_limit()
    service = Service.of(os.environ)
    home.create()
    identity = create_identity(home, profile.peer.name)
    control = ControlServer(home.socket)
    shown = OpenOutlets(home)
    try:
        log_to_file(home.log, profile.peer.log_format)
        shown.open(outlets, profile.peer)
        watchers = shown.watchers

        def ready(told: answers.Data) -> None:
            on_ready({**told, **shown.urls})
            shown.begin()

        _run(home, identity, profile, join, control, ready, signals, service, watchers)
    except Exception as error:
        log.error("the daemon ends: %s", error)
        raise
    finally:
        control.close()
        shown.close()


def _run(
    home: Home,
    identity: Identity,
    profile: Profile,
    join: Sequence[str],
    control: ControlServer,
    on_ready: OnReady,
    signals: EndingSignals,
    service: Service,
    watchers: Sequence[Watcher],
) -> None:
    state = SwarmState(home.swarm)
    manifest = _own_swarm(state, identity)
    _check_founder(profile, manifest)
    joins = [JoinBy(way) for each in join for way in _ways(each)]
    if manifest is None and not joins:
        _check_others_can_join(profile)
    transport = _listen(identity, profile)
    peer = dataclasses.replace(
        profile.peer, models=profile.models, objectives=profile.objectives
    )
    apprentice = Apprentice(home, peer, profile.data)
    try:
        node = make_node(
            home,
            identity,
            profile,
            transport,
            control,
            apprentice,
            state,
            joins,
            service,
        )
        node.history.watchers += watchers
        node.obey(signals)
        _begin(node, manifest)
        if signals.have_come:
            raise StartInterruptedError
        on_ready(answers.identity(node))
        service.ready(node.now())
        node.run()
        node.farewell()
    finally:
        apprentice.stop()
        transport.close()


def make_node(
    home: Home,
    identity: Identity,
    profile: Profile,
    transport: Transport,
    control: ControlServer,
    apprentice: Apprentice,
    state: SwarmState,
    joins: Sequence[JoinBy] = (),
    service: Service | None = None,
) -> Node:
    """A peer of this home, with a new exchange key, around what was made for it."""
    exchange_key = ExchangeKey.generate()
    record = _record(identity, profile, transport, state, exchange_key.public)
    wall_offset_s = time.time() - time.monotonic()
    encrypted = not profile.peer.insecure_loopback
    return Node(
        home=home,
        peer=Peer(record, identity.key, wall_offset_s=wall_offset_s),
        profile=profile,
        links=Links(
            transport,
            exchange_key,
            record,
            secret=identity.transport_secret,
            encrypted=encrypted,
        ),
        entrance=Entrance(home, identity, transport),
        control=control,
        apprentice=apprentice,
        state=state,
        joins=joins,
        service=service,
    )


def _raise_descriptor_limit() -> None:
    """As many files as the system allows: each peer costs about half a dozen."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, MAX_DESCRIPTORS), hard))


def _begin(node: Node, manifest: Manifest | None) -> None:
    """The first events: back in a swarm, about to found one, or on the way into one."""
    swarm = node.profile.swarm
    if manifest is not None:
        _resume(node, manifest)
    elif swarm is not None:
        # Its layout is lacking yet; node then founds the swarm, or joins this one only.
        node.apprentice.describe(swarm)
        return
    for join in node.joins:
        node.handle(join)


def _own_swarm(state: SwarmState, identity: Identity) -> Manifest | None:
    """The swarm that this home belongs to; None if it does not, or not quite yet."""
    manifest = state.load_manifest()
    if manifest is None or manifest.founder_key == identity.key.public:
        return manifest
    # Joining writes the manifest first. Without the facts it was cut short: join again.
    return manifest if state.load_facts() else None


def _resume(node: Node, manifest: Manifest) -> None:
    next_round, homes = node.state.load_progress(manifest.layout)
    facts = node.state.load_facts()
    node.peer.gossip.quarantine.offences.restore(node.state.load_offences())
    node.handle(Resume(manifest, facts, next_round, homes))
    if node.is_founder and not any(message.start for message in facts):
        # It ended before round 0 began, and nobody else will begin it.
        node.handle(Found(manifest))


def _ways(typed: str) -> list[Way]:
    return ways_of(typed, "--join", time.time())


def _check_others_can_join(profile: Profile) -> None:
    """Who is about to found a swarm has to be found."""
    if profile.swarm is not None and profile.peer.advertise == NOWHERE:
        raise ConfigError(
            "nobody could join: a peer that can only dial out cannot found a swarm",
            hint="found it where others can connect, and let this peer join it",
        )


def _check_founder(profile: Profile, manifest: Manifest | None) -> None:
    """A second start goes on with the swarm of the first, or is refused."""
    if manifest is None or profile.swarm is None:
        return
    key = profile.swarm.differs_from(manifest)
    if key is not None:
        raise ConflictError(
            f"this home is in the swarm {manifest.name!r}, whose {key!r} differs from "
            f"{profile.source}",
            hint="use another --home for another swarm, or start without [swarm]",
        )


def _listen(identity: Identity, profile: Profile) -> Transport:
    """Control at the given port, data at the next one."""
    host, port = parse_address(profile.peer.listen, "listen")
    if port:
        _check_data_port(port, "listen")
    keys = Keys(identity.transport_key, identity.transport_secret)
    if profile.peer.insecure_loopback:
        _check_loopback(host)
    return NetworkTransport(
        identity.peer,
        Address(host, port),
        None if profile.peer.insecure_loopback else keys,
        caps=Caps(profile.peer.up_limit, profile.peer.down_limit),
        relays=profile.peer.relay,
    )


def _check_loopback(host: str) -> None:
    """Plain traffic stays on this machine."""
    if not is_loopback(host):
        raise ConfigError(
            f"--insecure-loopback cannot listen on {host}: nothing would be encrypted",
            hint="listen on 127.0.0.1, or leave the option out",
        )


def _check_data_port(port: int, where: str) -> None:
    """The data plane is at the next port, which must exist."""
    if not 0 < port < LARGEST_PORT:
        raise ConfigError(
            f"{where} is port {port}: data goes to the next one, which cannot exist",
            hint=f"choose a port from 1 to {LARGEST_PORT - 1}",
        )


def _record(
    identity: Identity,
    profile: Profile,
    transport: Transport,
    state: SwarmState,
    exchange_key: bytes,
) -> PeerRecord:
    bound = transport.addresses[Plane.CONTROL]
    host, port = _reachable(bound.host), bound.port
    if profile.peer.advertise == NOWHERE:
        host, port = "", 0
    elif profile.peer.advertise is not None:
        host, port = parse_address(profile.peer.advertise, "advertise")
        _check_data_port(port, "advertise")
    return PeerRecord(
        peer=identity.peer,
        name=profile.peer.name or identity.name,
        host=host,
        port=port,
        split_fraction=str(first_fraction(profile, state)),
        incarnation=state.next_incarnation(),
        sequence=0,
        join_epoch=BEFORE_START,
        swarm="",
        key=identity.key.public,
        transport_key=identity.transport_key,
        exchange_key=exchange_key,
        cipher=preferred_cipher(),
        relays=profile.peer.relay,
    )


def _reachable(host: str) -> str:
    """An address that others can dial, where this one means every interface."""
    try:
        if not ipaddress.ip_address(host).is_unspecified:
            return host
    except ValueError:
        return host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(DOCUMENTATION_ADDRESS)
            found: str = probe.getsockname()[0]
            return found
        except OSError:
            return socket.gethostname()
