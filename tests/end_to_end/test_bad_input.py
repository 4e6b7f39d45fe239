"""What users get wrong and strangers send: one clear line, and the daemon lives."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfusion.daemon.home import Home
from p2pfusion.daemon.identity import read_identity
from p2pfusion.errors import (
    ConfigError,
    ConflictError,
    IncompatibleError,
    NotFoundError,
    P2PFusionError,
    WaitTimeoutError,
)
from p2pfusion.protocol.messages import (
    BEFORE_START,
    PROTOCOL_VERSION,
    Hello,
    Message,
    PeerRecord,
    Refused,
)
from p2pfusion.protocol.statements import banner, read_record, sign_record
from p2pfusion.protocol.wire import decode_all, encode
from p2pfusion.security import ED25519, DeviceKey, ExchangeKey, transport_public
from p2pfusion.transport import (
    Address,
    Incoming,
    Keys,
    NetworkTransport,
    Plane,
    Remote,
)
from tests.end_to_end.swarm import PATIENCE_S, QUICK, Daemon, Data, Swarm

pytestmark = pytest.mark.slow

DIGITS: Data = {"kind": "digits"}
OPEN = {**QUICK, "admission": "open"}
POLLS = 200
POLL_S = 0.1


def soaking(*values: object) -> object:
    """A case that only ``make soak`` looks at."""
    return pytest.param(*values, marks=pytest.mark.soak)


def two_free_ports() -> int:
    """A port that is free, and so is the next."""
    while True:
        with socket.socket() as first, contextlib.suppress(OSError):
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with socket.socket() as second:
                second.bind(("127.0.0.1", port + 1))
                return int(port)


class Stranger:
    """Somebody who speaks the protocol, takes everybody, and is no daemon."""

    def __init__(self) -> None:
        self.key = DeviceKey.generate()
        secret = self.key.derived("transport key/v1")
        keys = Keys(transport_public(secret), secret)
        anywhere = Address("127.0.0.1", 0)
        self.transport = NetworkTransport(self.key.peer, anywhere, keys)
        said = banner(keys.public, self.key)
        self.transport.set_door(guests=[], strangers=True, banner=said)
        self.record = PeerRecord(
            peer=self.key.peer,
            name="stranger",
            host="127.0.0.1",
            port=self.transport.addresses[Plane.CONTROL].port,
            split_fraction="1/2",
            incarnation=1,
            sequence=0,
            join_epoch=BEFORE_START,
            swarm="",
            key=self.key.public,
            transport_key=keys.public,
            exchange_key=ExchangeKey.generate().public,
            cipher="aes-256-gcm",
        )

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.record.port}"

    def greet(self, daemon: Daemon, version: int, record: PeerRecord) -> None:
        """Knocks at a daemon, and lets it answer."""
        identity = read_identity(Home(daemon.home))
        assert identity is not None
        self.transport.admit(identity.peer, identity.transport_key)
        hello = Hello(version, "", sign_record(record, self.key))
        address = Address.parse(daemon.address)
        self.transport.knock(address, encode(hello), key=identity.transport_key)

    def hears(self, wanted: type[Message]) -> Message:
        """The first message of this kind."""
        for _ in range(POLLS):
            arrivals, _ready = self.transport.poll(POLL_S, {})
            for each in arrivals:
                if not isinstance(each, Incoming):
                    continue
                on_data = each.plane is Plane.DATA
                for message in decode_all(each.frames, data_plane=on_data):
                    if isinstance(message, wanted):
                        return message
        raise AssertionError("it never came")

    def answer(self, greeting: Hello, message: Message) -> None:
        """Sends a message to whoever greeted."""
        record = read_record(greeting.record, ED25519)
        control = Address(record.host, record.port)
        data = Address(record.host, record.data_port)
        remote = Remote(control, data, record.transport_key)
        self.transport.connect(record.peer, remote)
        assert self.transport.send(record.peer, Plane.CONTROL, encode(message))


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """A stranger, who leaves at the end."""
    made = Stranger()
    yield made
    made.transport.close()


# --- Places that are taken, and addresses without anybody ----------------------------


@pytest.mark.soak
def test_a_second_daemon_in_a_home_and_a_taken_port_are_conflicts(swarm: Swarm) -> None:
    first, second = swarm.add(data=DIGITS), swarm.add(data=DIGITS)
    first.start()
    process = first.process
    first.launch()
    code, line = first.ended()
    first.process = process
    assert code == 10 and f"pid {first.pid}" in line and "--home" in line
    second.launch("--listen", first.address)
    code, line = second.ended()
    assert code == 10 and first.address.rpartition(":")[2] in line
    assert "--listen" in line
    assert first.ask("status")["daemon"]["pid"] == first.pid  # type: ignore[index]


@pytest.mark.soak
def test_an_address_where_nobody_answers_is_waited_for(swarm: Swarm) -> None:
    port = two_free_ports()
    address = f"127.0.0.1:{port}"
    late, founder = (
        swarm.add(data=DIGITS),
        swarm.add(data=DIGITS, swarm={**OPEN, "min_peers": 2, "rounds": 1}),
    )
    late.start("--join", address)
    with pytest.raises(WaitTimeoutError, match=rf"{address}: nobody has answered"):
        late.wait("joined", limit_s=0.5)
    late.until(lambda: late.ask("status")["joining"][0]["attempts"] >= 2)  # type: ignore[index]
    status = late.ask("status")
    (joining,) = status["joining"]  # type: ignore[misc]
    assert joining["address"] == address
    assert joining["last_error"] and joining["next_in_s"] >= 0
    assert [h["code"] for h in status["health"]] == ["not-joined"]  # type: ignore[union-attr]
    assert status["round"]["waiting_for"][0]["peer"] == address  # type: ignore[index]
    assert status["swarm"] is None
    founder.start("--listen", address)
    assert late.wait("done")["reached"] == "done"
    assert late.ask("status")["joining"] == []


@pytest.mark.soak
def test_the_command_join_says_what_it_waited_for_and_goes_on(swarm: Swarm) -> None:
    address = f"127.0.0.1:{two_free_ports()}"
    late = swarm.add(data=DIGITS)
    late.start()
    assert late.ask("status")["round"]["waiting_for"][0]["peer"] == "you"  # type: ignore[index]
    for bad in ("nowhere", "a b:80", "a/b:80", "127.0.0.1:70000"):
        with pytest.raises(ConfigError, match="address"):
            late.ask("join", address=bad)
    with pytest.raises(WaitTimeoutError, match="nobody has answered"):
        late.ask("join", address=address, limit_s=0.5)
    founder = swarm.add(data=DIGITS, swarm={**OPEN, "rounds": 400})
    # The daemon goes on knocking after that answer; the next question waits with it.
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(late.ask, "join", address=address, limit_s=PATIENCE_S)
        founder.start("--listen", address)
        found = asked.result()
    assert found["swarm"] == {"id": swarm_id(founder), "name": "test"}
    # It came after the start: it counts from an epoch that has not begun.
    assert found["member_from_epoch"] >= 1  # type: ignore[operator]
    with pytest.raises(ConflictError, match="already in the swarm 'test'"):
        late.ask("join", address=address)


def list_of(data: Data, key: str) -> list[object]:
    found = data[key]
    assert isinstance(found, list)
    return found


def swarm_id(daemon: Daemon) -> object:
    return daemon.ask("status")["swarm"]["id"]  # type: ignore[index]


# --- Other swarms and other versions -------------------------------------------------


@pytest.mark.soak
def test_a_start_that_expects_another_swarm_ends_and_names_the_key(
    swarm: Swarm,
) -> None:
    settings = {**QUICK, "min_peers": 3, "rounds": 5, "admission": "open"}
    founder = swarm.add(data=DIGITS, swarm=settings)
    same = swarm.add(data=DIGITS, swarm=settings)
    other = swarm.add(data=DIGITS, swarm={**settings, "batch": 16, "seed": 7})
    founder.start()
    founder.wait("joined")
    other.launch("--join", founder.address)
    same.start("--join", founder.address)
    code, line = other.ended()
    assert code == 9 and "'batch'" in line and "another swarm" in line
    assert same.wait("joined")["reached"] == "joined"
    assert swarm_id(same) == swarm_id(founder)
    assert same.ask("status")["self"]["role"] == "member"  # type: ignore[index]
    assert founder.ask("status")["self"]["role"] == "founder"  # type: ignore[index]


@pytest.mark.soak
def test_a_home_of_another_swarm_is_a_conflict_that_names_the_key(
    swarm: Swarm,
) -> None:
    daemon = swarm.add(data=DIGITS, swarm={**QUICK, "rounds": 1})
    daemon.start()
    daemon.wait("joined")
    daemon.ask("stop")
    daemon.ended()
    text = daemon.profile.read_text()
    daemon.profile.write_text(text.replace("rounds = 1", "rounds = 2"))
    daemon.launch()
    code, line = daemon.ended()
    assert code == 10 and "'rounds'" in line and str(daemon.profile) in line


def test_a_newcomer_of_another_version_is_told(
    swarm: Swarm, stranger: Stranger
) -> None:
    founder = swarm.add(data=DIGITS, swarm={**OPEN, "min_peers": 2})
    founder.start()
    founder.wait("joined")
    stranger.greet(founder, PROTOCOL_VERSION + 1, stranger.record)
    refused = stranger.hears(Refused)
    assert isinstance(refused, Refused)
    assert refused.code == "version"
    assert str(PROTOCOL_VERSION) in refused.text
    assert founder.ask("status")["roster"]["members"] == 0  # type: ignore[index]


def refuse(stranger: Stranger) -> None:
    """Answers a greeting as a daemon of another version would."""
    hello = stranger.hears(Hello)
    assert isinstance(hello, Hello)
    stranger.answer(hello, Refused("version", "protocol 1 there, 99 here"))


def test_a_swarm_of_another_version_ends_a_start_that_joins_it(
    swarm: Swarm, stranger: Stranger
) -> None:
    daemon = swarm.add(data=DIGITS)
    daemon.start("--join", stranger.address)
    refuse(stranger)
    code, line = daemon.ended()
    assert code == 9 and "protocol 1 there, 99 here" in line
    assert "same version" in line


@pytest.mark.soak
def test_a_swarm_of_another_version_fails_the_command_and_not_the_daemon(
    swarm: Swarm, stranger: Stranger
) -> None:
    daemon = swarm.add(data=DIGITS)
    daemon.start()
    with ThreadPoolExecutor(1) as pool:
        address = stranger.address
        asked = pool.submit(daemon.ask, "join", address=address, limit_s=PATIENCE_S)
        refuse(stranger)
        with pytest.raises(IncompatibleError, match="99 here"):
            asked.result(PATIENCE_S)
    refuse(stranger)  # it goes on knocking, and nobody waits for the answer any more
    assert daemon.ask("status")["joining"][0]["last_error"].endswith("99 here")  # type: ignore[index]


# --- What strangers send -------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"host": "no such host!"}, soaking({"host": "a" * 200 + ":"})],
    ids=["words", "colon"],
)
def test_a_record_that_cannot_be_dialled_hurts_nobody(
    swarm: Swarm, stranger: Stranger, change: dict[str, str]
) -> None:
    founder = swarm.add(data=DIGITS, swarm={**OPEN, "min_peers": 3})
    founder.start()
    founder.wait("joined")
    there = {"swarm": swarm_id(founder), **change}
    record = replace(stranger.record, **there)  # type: ignore[arg-type]
    stranger.greet(founder, PROTOCOL_VERSION, record)
    founder.until(lambda: len(list_of(founder.ask("trust-ls"), "peers")) == 2)
    assert founder.ask("status")["round"]


# --- Profiles and data ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "data", "settings", "code", "told"),
    [
        ({"split_fraction": 0.001}, DIGITS, {}, 8, ["0.toml", "too small", "h1"]),
        ({}, {"kind": "npz", "path": "{root}/bad.npz"}, {}, 8, ["bad.npz"]),
        soaking({}, {"kind": "npz", "path": "{root}/none.npz"}, {}, 8, ["none.npz"]),
        soaking({}, {"kind": "nope"}, {}, 8, ["nope"]),
        ({}, DIGITS, {"model": "nope"}, 8, ["nope"]),
        soaking({"device": "nope"}, DIGITS, {}, 8, ["nope"]),
    ],
    ids=["fraction", "corrupt", "missing", "kind", "model", "device"],
)
def test_a_start_with_what_cannot_work_ends_with_one_line(
    swarm: Swarm,
    peer: Data,
    data: Data,
    settings: Data,
    code: int,
    told: list[str],
) -> None:
    (swarm.root / "bad.npz").write_bytes(b"PK\\x03\\x04 and nothing that follows")
    placed = {k: str(v).format(root=swarm.root) for k, v in data.items()}
    daemon = swarm.add(peer=peer, data=placed, swarm={**QUICK, **settings})
    daemon.launch()
    found, line = daemon.ended()
    assert found == code, daemon.errors()
    assert all(word in line for word in told), line
    assert "Traceback" not in daemon.errors()


def test_a_corrupt_record_is_named(swarm: Swarm) -> None:
    import numpy as np

    images = np.zeros((20, 8, 8), np.float32)
    images[13] = np.nan
    np.savez(swarm.root / "data.npz", images=images, labels=np.arange(20) % 10)
    data: Data = {"kind": "npz", "path": str(swarm.root / "data.npz")}
    daemon = swarm.add(data=data, swarm=QUICK)
    daemon.launch()
    code, line = daemon.ended()
    assert code == 8 and "data.npz" in line and "13" in line


def test_a_damaged_file_of_the_swarm_is_named(swarm: Swarm) -> None:
    daemon = swarm.add(data=DIGITS, swarm={**QUICK, "rounds": 1})
    daemon.start()
    daemon.wait("done")
    daemon.ask("stop")
    daemon.ended()
    files = ("manifest.msgpack", "facts.msgpack", "progress.bin", "store/store.json")
    for damaged in (daemon.home / "swarm" / name for name in files):
        content = damaged.read_bytes()
        changed = bytearray(content)
        changed[len(changed) // 2] ^= 0x41
        damaged.write_bytes(changed)
        daemon.launch()
        code, line = daemon.ended()
        assert code == 11 and str(damaged) in line, daemon.errors()
        damaged.write_bytes(content)
    assert "Traceback" not in daemon.errors()
    daemon.start()  # with all of them mended it goes on


# --- Questions to the daemon ---------------------------------------------------------


def test_odd_questions_get_an_error_and_the_daemon_lives(
    swarm: Swarm, tmp_path: Path
) -> None:
    daemon = swarm.add(data=DIGITS)
    daemon.start()
    odd: list[tuple[str, Data, type[P2PFusionError]]] = [
        ("nonsense", {}, NotFoundError),
        ("rounds", {"count": float("nan")}, ConfigError),
        ("rounds", {"count": float("inf")}, ConfigError),
        ("rounds", {"count": "many"}, ConfigError),
        ("wait", {}, ConfigError),
        ("wait", {"for": "peers=-1"}, ConfigError),
        ("wait", {"for": "christmas"}, ConfigError),
        ("wait", {"for": "done", "limit_s": float("nan")}, ConfigError),
        ("wait", {"for": "done", "limit_s": -5}, WaitTimeoutError),
        ("join", {}, ConfigError),
        ("export", {"path": str(tmp_path / "m.safetensors")}, NotFoundError),
        ("plan", {}, NotFoundError),
    ]
    for command, arguments, error in odd:
        with pytest.raises(error):
            daemon.ask(command, **arguments)
    assert daemon.ask("rounds", count=-3) == {"rounds": []}
