"""What ``doctor`` looks at, check by check; each finding says what to do about it.

The checks need no daemon where they can do without: the home, the disk, the clock, the
ports, and the way to every member that this home knows of.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from p2pfusion import __version__
from p2pfusion.cli.fields import Table, items, part, real, rows, word
from p2pfusion.cli.output import Data
from p2pfusion.cli.reach import Reached, reach
from p2pfusion.cli.text import duration, plural, size
from p2pfusion.daemon.address import parse_address
from p2pfusion.daemon.home import HOME_MODE, Home
from p2pfusion.daemon.memory import BARE_TRAINER_BYTES, installed_bytes
from p2pfusion.errors import ConfigError, P2PFusionError

GOOD, INFO, WARN, BAD = "ok", "info", "warn", "error"

ENOUGH_BYTES = 1 << 30
"""Free disk below which a home is in danger, where no model says what it needs."""

TIGHT_BYTES = 256 << 20
"""Available memory below which a system begins to end programs."""

MEMORY = Path("/proc/meminfo")
MOST_REASONS = 3
MODEL_COPIES = 3
"""Space that a model may take: its store, what a round brings, and an export."""

PLAUSIBLE_FROM_S = 1_735_689_600.0
"""2025 in Unix time: a clock that is behind has been reset."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, and how it is."""

    level: str
    subject: str
    text: str
    hint: str = ""

    def to_data(self) -> Data:
        """For the answer."""
        return {
            "level": self.level,
            "subject": self.subject,
            "message": self.text,
            "hint": self.hint or None,
        }


def check_home(home: Home) -> Iterator[Finding]:
    """The directory, whom it belongs to, and the identity in it."""
    try:
        mode = stat.S_IMODE(home.root.stat().st_mode)
    except OSError as error:
        hint = "make it with: p2pfusion init"
        why = error.strerror or str(error)
        yield Finding(BAD, "home", f"{home.root}: {why}", hint)
        return
    if mode & ~HOME_MODE:
        text = f"{home.root} can be read by others (mode {mode:o})"
        yield Finding(WARN, "home", text, f"chmod 700 {home.root}")
    else:
        yield Finding(GOOD, "home", f"{home.root}, readable by its owner alone")
    if not home.key.exists():
        text = "no peer lives here yet"
        yield Finding(BAD, "identity", text, "make one with: p2pfusion init")
        return
    from p2pfusion.daemon.identity import read_identity

    try:
        identity = read_identity(home)
    except P2PFusionError as error:
        yield Finding(BAD, "identity", error.message, error.hint)
        return
    if identity is not None:
        yield Finding(GOOD, "identity", f"{identity.name} ({identity.peer})")


def check_disk(home: Home, full_model_bytes: float | None) -> Iterator[Finding]:
    """Room for what a peer writes."""
    there = home.root if home.root.exists() else home.root.parent
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        yield Finding(BAD, "disk", f"{there}: {error.strerror or error}")
        return
    needed = MODEL_COPIES * (full_model_bytes or 0) or ENOUGH_BYTES
    text = f"{size(free)} free; this peer may need {size(needed)}"
    hint = "make room, or move the home to another disk and name it with --home"
    enough = free >= needed
    yield Finding(GOOD if enough else WARN, "disk", text, "" if enough else hint)


def check_clock() -> Finding:
    """Only the ends of tickets follow from the clock; a reset one spoils those."""
    now = time.gmtime()
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", now)
    if time.time() < PLAUSIBLE_FROM_S:
        hint = "set the clock: tickets would seem good, or ended, when they are not"
        return Finding(WARN, "clock", f"it says {text}", hint)
    return Finding(GOOD, "clock", text)


def check_daemon(status: Table) -> Iterator[Finding]:
    """What a running daemon says of itself."""
    daemon, state = part(status, "daemon"), part(status, "state")
    uptime = duration(real(daemon, "uptime_s"))
    text = f"pid {word(daemon.get('pid'))}, up {uptime}: {word(state.get('text'))}"
    yield Finding(GOOD, "daemon", text)
    for row in rows(status, "health"):
        level = BAD if row.get("level") == "error" else word(row.get("level"))
        text, hint = word(row.get("message")), word(row.get("hint") or "")
        yield Finding(level, word(row.get("code")), text, hint)


def check_version(status: Table) -> Iterator[Finding]:
    """Whether the daemon is of the version that asks: an upgrade changes no daemon."""
    running = word(part(status, "daemon").get("version"))
    if running != __version__:
        text = f"the daemon is version {running}, and this program {__version__}"
        hint = "p2pfusion stop --drain 30, and start it again"
        yield Finding(WARN, "version", text, hint)


def check_memory(is_running: bool) -> Finding:
    """What is free for a trainer; a running one has most of its own already."""
    total, free = memory_bytes()
    text = f"{size(free)} of {size(total)} available"
    needed = TIGHT_BYTES if is_running else BARE_TRAINER_BYTES
    if free >= needed:
        return Finding(GOOD, "memory", text)
    hint = 'close other programs, or train less: a smaller split_fraction, or "auto"'
    return Finding(WARN, "memory", f"{text}: a trainer may be ended for it", hint)


def memory_bytes() -> tuple[int, int]:
    """This machine's memory, and what programs can have of it now; all where the
    system does not say."""
    total = installed_bytes()
    with contextlib.suppress(OSError):
        found = re.search(r"MemAvailable: +(\d+) kB", MEMORY.read_text())
        if found is not None:
            return total, 1024 * int(found[1])
    return total, total


def check_store(status: Table) -> Iterator[Finding]:
    """Copies that are lacking, and values that are old."""
    store, swarm = part(status, "store"), part(status, "swarm")
    copies, wanted = real(store, "replication_min"), real(swarm, "replication")
    members = real(part(status, "roster"), "members")
    if not real(store, "version_max") or None in (copies, wanted, members):
        return  # nothing has been trained
    wanted = min(wanted or 0, members or 0)
    copies = copies or 0
    if copies < wanted:
        places = plural(int(copies), "peer")
        text = f"parts of the model are at {places}, and shall be at {wanted:.0f}"
        hint = "stop no other member now; rounds make copies, or members that are back"
        yield Finding(WARN, "replication", text, hint)
    else:
        text = f"everything is at {plural(int(copies), 'peer')} at least"
        yield Finding(GOOD, "replication", text)
    stale = int(real(store, "stale_ranges") or 0)
    if stale:
        text = f"{plural(stale, 'range')} here are older than the newest of the swarm"
        hint = "who had them was late or gone; a later round brings them"
        yield Finding(INFO, "stale", text, hint)


def check_refused(status: Table) -> Iterator[Finding]:
    """Peers that were put out or are in quarantine, and what was turned away."""
    security = part(status, "security")
    for row in rows(status, "health"):
        if row.get("code") in ("quarantined", "convicted"):
            text, hint = word(row.get("message")), word(row.get("hint"))
            level = BAD if row.get("level") == "error" else WARN
            yield Finding(level, "quarantine", text, hint)
    revoked = int(real(security, "revoked") or 0)
    if revoked:
        text = f"{plural(revoked, 'peer')} put out by an admin"
        yield Finding(INFO, "put out", text, "see: p2pfusion trust ls")
    refused = part(security, "refused")
    if refused:
        most = sorted(refused, key=lambda why: -(real(refused, why) or 0))
        text = "turned away: " + ", ".join(
            f"{why} ({real(refused, why):.0f})" for why in most[:MOST_REASONS]
        )
        yield Finding(INFO, "refused", text, "see: p2pfusion events, logs")


def check_ports(status: Table) -> Iterator[Finding]:
    """Whether the own address can be reached, at least from here."""
    for address in items(part(status, "self"), "addresses"):
        host, port = _split(str(address))
        for number, plane in ((port, "control"), (port + 1, "data")):
            found = reach(host, number)
            if found.is_good:
                text = f"{host}:{number} ({plane}) can be reached from this machine"
                yield Finding(GOOD, "port", text)
            else:
                hint = "check --advertise, and what firewalls let through"
                yield Finding(BAD, "port", f"own {plane} port: {found.text}", hint)


def check_member(peer: Table, answered: bool | None) -> Finding:
    """One member: resolves, connects, answers, both ways."""
    name, subject = word(peer.get("name")), "peer"
    if answered:
        took = duration(real(peer, "rtt_s"), "not measured")
        return Finding(GOOD, subject, f"{name}: {word(peer.get('state'))}, {took}")
    far = reached(peer)
    if peer.get("asymmetric") is True or (answered is False and peer.get("online")):
        text = f"{name}: it is heard, and does not answer from here; {far.text}"
        return Finding(WARN, subject, text, far.hint or HANDSHAKE)
    if not far.is_good:
        return Finding(WARN, subject, f"{name}: {far.text}", far.hint)
    if answered is None:
        return Finding(GOOD, subject, f"{name}: {far.text}")
    return Finding(WARN, subject, f"{name}: {far.text}, and does not answer", HANDSHAKE)


HANDSHAKE = (
    "somebody listens there who does not know this peer's key, or is stopped: look at "
    "`p2pfusion status` there"
)


def reached(peer: Mapping[str, object]) -> Reached:
    """How far the way to a member's address leads: both of its ports."""
    if peer.get("outward") is True:
        return _behind(peer.get("through"))
    host, port = _split(word(peer.get("address")))
    control = reach(host, port)
    return control if not control.is_good else _data(host, port, control)


def _behind(relay: object) -> Reached:
    """The way to one that can only dial out, which nobody can try out from here."""
    if relay is not None:
        hint = f"see whether both reach {relay}: p2pfusion ping {relay}, on each"
        return Reached("relay", f"it dials out only, and is reached by {relay}", hint)
    hint = "see there whether it reaches this peer: p2pfusion ping"
    return Reached(
        "relay", "it dials out only, and has to reach this peer itself", hint
    )


def _data(host: str, port: int, control: Reached) -> Reached:
    data = reach(host, port + 1)
    if data.is_good:
        return control
    hint = "peers need both ports: the one that is named and the next one"
    return Reached("connect", f"{control.text}; its data port: {data.text}", hint)


def _split(address: str) -> tuple[str, int]:
    try:
        return parse_address(address, "the address")
    except ConfigError:
        return address, 0
