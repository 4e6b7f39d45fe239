"""Commands that look for what is wrong: ping, doctor."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pfusion.cli.checkup import (
    BAD,
    GOOD,
    HANDSHAKE,
    WARN,
    Finding,
    check_clock,
    check_daemon,
    check_disk,
    check_home,
    check_member,
    check_memory,
    check_ports,
    check_refused,
    check_store,
    check_version,
    reached,
)
from p2pfusion.cli.command import command
from p2pfusion.cli.completion import peer_names
from p2pfusion.cli.connection import ask
from p2pfusion.cli.fields import Table, part, real, rows, word
from p2pfusion.cli.output import Data, Failure, settings, show
from p2pfusion.cli.screens import where_of
from p2pfusion.cli.text import coloured, duration, plural
from p2pfusion.daemon.home import Home
from p2pfusion.errors import (
    NotFoundError,
    NotRunningError,
    P2PFusionError,
    UnhealthyError,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from p2pfusion.daemon.config import PeerSettings

PING_MARGIN_S = 10.0
"""Beside a second for each ping: the daemon answers when its patience is over."""


@command("ping", example="p2pfusion ping lab-c -c 10")
@click.argument("peer", metavar="PEER", shell_complete=peer_names)
@click.option(
    "-c",
    "count",
    type=click.IntRange(1, 1_000),
    default=4,
    show_default=True,
    metavar="N",
    help="How many.",
)
def ping(peer: str, count: int) -> None:
    """Round trips to a peer's daemon, or where the way to it ends.

    Name it, or give the beginning of its id.
    """
    home, as_json = settings().chosen_home, settings().as_json

    def tell(event: Mapping[str, object]) -> None:
        if not as_json:
            print(
                f"{peer} answers: {duration(real(event, 'round_trip_s'))}", flush=True
            )

    wanted: Data = {"peer": peer, "count": count}
    limit_s = count + PING_MARGIN_S
    told = ask(home, "ping", wanted, timeout_s=limit_s, on_event=tell)
    way = {} if told.get("answered") else way_ends(told)
    data = {**told, "way": way or None}
    trouble = None
    if way:
        text = f"{word(told.get('name'))}: {way['text']}"
        trouble = WaitTimeoutError(text, hint=str(way["hint"]))
    failure = None if trouble is None else Failure.of(trouble)
    show(data, lambda: _trips_text(told), failure)
    if trouble is None:
        return
    if as_json:
        raise click.exceptions.Exit(trouble.exit_code)
    raise trouble


def way_ends(told: Data) -> Data:
    """Where the way to a peer ends that has not answered."""
    far = reached(told)
    if not far.is_good:
        return {"step": far.step, "text": far.text, "hint": far.hint}
    heard = real(told, "heard_s_ago")
    if told.get("asymmetric"):
        text = "others hear it; here, somebody listens at its address and is silent"
        return {"step": "asymmetric", "text": text, "hint": HANDSHAKE}
    if heard is None:
        text = "somebody listens at its address, and takes no message of this peer"
        return {"step": "handshake", "text": text, "hint": HANDSHAKE}
    text = f"it was last heard {duration(heard)} ago, and is silent"
    return {"step": "silent", "text": text, "hint": HANDSHAKE}


def _trips_text(told: Data) -> str:
    trips = told.get("round_trips_s")
    times = [float(t) for t in trips] if isinstance(trips, list) else []
    if not times:
        return ""
    lost = sum(int(real(told, key) or 0) for key in ("unanswered", "unsent"))
    middle = sorted(times)[len(times) // 2]
    return (
        f"{plural(len(times), 'answer')} from {word(told.get('name'))} "
        f"{where_of(told)}, {lost} lost: shortest {duration(min(times))}, "
        f"median {duration(middle)}, longest {duration(max(times))}"
    )


@command("doctor", example="p2pfusion doctor peers/laptop-cpu.toml")
@click.argument("profile", required=False, type=click.Path(path_type=Path))
def doctor(profile: Path | None) -> None:
    """Look at home, disk, memory, clock, ports, copies and members; say what to do.

    Works without a daemon, as far as possible. With a profile, that is checked, too.
    """
    home, as_json = settings().chosen_home, settings().as_json
    findings: list[Finding] = []
    for finding in _examination(home, profile):
        findings.append(finding)
        if not as_json:
            print(_line(finding), flush=True)
    bad = [finding for finding in findings if finding.level in (WARN, BAD)]
    trouble = None
    if bad:
        text = f"{plural(len(bad), 'finding')}, the first: {bad[0].text}"
        trouble = UnhealthyError(text, hint=bad[0].hint or "see the list above")
    data = {"findings": [finding.to_data() for finding in findings]}
    failure = None if trouble is None else Failure.of(trouble)
    show(data, lambda: "" if bad else "All is well.", failure)
    if trouble is not None:
        raise click.exceptions.Exit(trouble.exit_code)


def _examination(home: Home, profile: Path | None) -> Iterator[Finding]:
    status = _status(home)
    yield from check_home(home)
    full = real(part(status or {}, "traffic"), "full_model_bytes")
    yield from check_disk(home, full)
    yield check_memory(status is not None)
    yield check_clock()
    if profile is not None:
        yield from _check_profile(profile)
    if status is None:
        hint = "start it with: p2pfusion start"
        yield Finding("info", "daemon", f"no daemon runs in {home.root}", hint)
        yield from _check_known(home)
        yield from _check_trainer()
        return
    yield from check_version(status)
    yield from check_daemon(status)
    yield from check_store(status)
    yield from check_refused(status)
    yield from check_ports(status)
    for peer in rows(ask(home, "peers"), "peers"):
        if peer.get("state") != "self":
            yield check_member(peer, _answers(home, peer))


def _status(home: Home) -> Data | None:
    with contextlib.suppress(NotRunningError):
        return ask(home, "status")
    return None


def _answers(home: Home, peer: Table) -> bool:
    wanted: Data = {"peer": peer.get("id"), "count": 1}
    try:
        told = ask(home, "ping", wanted, timeout_s=PING_MARGIN_S)
    except (NotFoundError, WaitTimeoutError):
        return False
    return bool(told.get("answered"))


def _check_profile(path: Path) -> Iterator[Finding]:
    from p2pfusion.daemon.config import load_profile

    try:
        peer = load_profile(path).peer
    except P2PFusionError as error:
        yield Finding(BAD, "profile", error.message, error.hint)
        return
    yield Finding(GOOD, "profile", f"{path} is in order")
    yield _check_device(peer)


def _check_device(peer: PeerSettings) -> Finding:
    """Whether this machine has what the profile's trainer computes on."""
    from p2pfusion.cli.trainer import ask_trainer

    told = {"device": peer.device, "precision": peer.precision}
    question = {"do": "look", "processes": peer.processes, **told}
    text = f"{peer.device}, in {peer.precision}"
    if peer.processes > 1:
        text += f", {peer.processes} processes"
    return _tried("device", text, lambda: ask_trainer(question))


def _check_known(home: Home) -> Iterator[Finding]:
    """The members that the last run knew of."""
    from p2pfusion.daemon.known_members import known_members

    try:
        members = known_members(home)
    except P2PFusionError as error:
        yield Finding(BAD, "swarm", error.message, error.hint)
        return
    for member in members:
        yield check_member(member, None)


def _check_trainer() -> Iterator[Finding]:
    from p2pfusion.cli.trainer import describe

    kind: Data = {"kind": "digits"}
    text = "the trainer starts"
    yield _tried("trainer", text, lambda: describe("mlp", {}, kind))


def _tried(subject: str, text: str, attempt: Callable[[], object]) -> Finding:
    try:
        attempt()
    except P2PFusionError as error:
        return Finding(BAD, subject, error.message, error.hint)
    return Finding(GOOD, subject, text)


def _line(finding: Finding) -> str:
    level = finding.level
    shown = coloured(level, level) if level in (GOOD, WARN, BAD) else level
    text = f"{finding.subject}: {finding.text}"
    if finding.hint:
        text += f"; {finding.hint}"
    return f"{shown}{' ' * max(1, 6 - len(level))}{text}"
