"""The only wiring: from a home and a profile to a running daemon."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import resource
import socket
from collections.abc import Callable, Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path

from p2pfusion.daemon import answers
from p2pfusion.daemon.address import LARGEST_PORT, parse_address
from p2pfusion.daemon.apprentice import Apprentice
from p2pfusion.daemon.config import Profile
from p2pfusion.daemon.control import ControlServer
from p2pfusion.daemon.home import Home, Identity, create_identity
from p2pfusion.daemon.node import Node
from p2pfusion.daemon.state import SwarmState
from p2pfusion.errors import ConfigError, ConflictError
from p2pfusion.limits import KEPT_LOGS, MAX_DESCRIPTORS, MAX_LOG_BYTES
from p2pfusion.protocol.events import Found, JoinAddress, Resume
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import BEFORE_START, PeerRecord
from p2pfusion.protocol.peer import Peer
from p2pfusion.transport import Address, Plane, Transport, ZeroMQTransport

DOCUMENTATION_ADDRESS = ("192.0.2.1", 9)
"""An address that is nobody's: asking for the way there sends nothing."""

OnReady = Callable[[answers.Data], None]

log = logging.getLogger("p2pfusion")


def run_daemon(
    home: Home, profile: Profile, join: Sequence[str], on_ready: OnReady
) -> None:
    """Runs a daemon until it is stopped; raises what makes going on pointless.

    ``on_ready`` is told who and where this peer is, once the local socket answers.
    """
    _raise_descriptor_limit()
    home.create()
    identity = create_identity(home, profile.peer.name)
    control = ControlServer(home.socket)
    try:
        _log_to(home.log)
        _run(home, identity, profile, join, control, on_ready)
    except Exception as error:
        log.error("the daemon ends: %s", error)
        raise
    finally:
        control.close()


def _run(
    home: Home,
    identity: Identity,
    profile: Profile,
    join: Sequence[str],
    control: ControlServer,
    on_ready: OnReady,
) -> None:
    state = SwarmState(home.swarm)
    manifest = state.load_manifest()
    _check_founder(profile, manifest)
    joins = [_join(address) for address in join]
    transport = _listen(identity, profile)
    apprentice = Apprentice(home.trainer_log, profile.peer, profile.data)
    try:
        peer = Peer(_record(identity, profile, transport, state))
        node = Node(
            peer=peer,
            profile=profile,
            transport=transport,
            control=control,
            apprentice=apprentice,
            state=state,
            joins=joins,
        )
        # Before anybody is told that there is something to stop.
        node.catch_signals()
        _begin(node, manifest)
        on_ready(answers.identity(node))
        node.run()
        node.farewell()
    finally:
        apprentice.stop()
        transport.close()


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
        node.apprentice.describe(swarm.model, swarm.model_arguments)
        return
    for join in node.joins:
        node.handle(join)


def _resume(node: Node, manifest: Manifest) -> None:
    next_round, homes = node.state.load_progress(manifest.layout)
    facts = node.state.load_facts()
    node.handle(Resume(manifest, facts, next_round, homes))
    if node.is_founder and not any(message.start for message in facts):
        # It ended before round 0 began, and nobody else will begin it.
        node.handle(Found(manifest))


def _join(address: str) -> JoinAddress:
    host, port = parse_address(address, "--join")
    Address(host, port)  # refuses what no socket could take
    return JoinAddress(host, port)


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
    """Control at the given port, data at the next one (or both wherever is room)."""
    host, port = parse_address(profile.peer.listen, "listen")
    return ZeroMQTransport(
        identity.peer,
        control=Address(host, port),
        data=Address(host, _next_port(port, "listen") if port else 0),
    )


def _next_port(port: int, where: str) -> int:
    """Where the data plane is, for whoever knows only the control plane's port."""
    if not 0 < port < LARGEST_PORT:
        raise ConfigError(
            f"{where} is port {port}: data goes to the next one, which cannot exist",
            hint=f"choose a port from 1 to {LARGEST_PORT - 1}",
        )
    return port + 1


def _record(
    identity: Identity, profile: Profile, transport: Transport, state: SwarmState
) -> PeerRecord:
    bound = transport.addresses[Plane.CONTROL]
    data_port = transport.addresses[Plane.DATA].port
    host, port = _reachable(bound.host), bound.port
    if profile.peer.advertise is not None:
        host, port = parse_address(profile.peer.advertise, "advertise")
        data_port = _next_port(port, "advertise")
    return PeerRecord(
        peer=identity.peer,
        name=profile.peer.name or identity.name,
        host=host,
        port=port,
        data_port=data_port,
        split_fraction=str(profile.peer.split_fraction),
        incarnation=state.next_incarnation(),
        sequence=0,
        join_epoch=BEFORE_START,
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


def _log_to(path: Path) -> None:
    handler = RotatingFileHandler(path, maxBytes=MAX_LOG_BYTES, backupCount=KEPT_LOGS)
    text = "%(asctime)s %(levelname)s %(message)s"
    handler.setFormatter(logging.Formatter(text))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
