"""A newcomer without the checkpoint: from members into its pool, over real sockets."""

from __future__ import annotations

import contextlib
import errno
import random
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfusion.daemon import pool
from p2pfusion.daemon.pool import Incoming, Pool
from p2pfusion.errors import DataError, DiskFullError, ResourceError
from p2pfusion.limits import CHECKPOINT_PIECE_BYTES
from p2pfusion.store import copy_model, write_checkpoint
from p2pfusion.store.checksum import file_hash
from tests.daemon.running import ALONE, Running, running, turn_all

MODEL = {**ALONE, "model_arguments": {"hidden": [1024, 1024]}, "rounds": 400}
SWARM = {**MODEL, "method": "fedavg", "min_peers": 2, "local_steps": 1}
LEAST_BYTES = 4 << 20
"""The file is larger than what may be on its way at once."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the model."""
    path = tmp_path_factory.mktemp("checkpoint") / "begin.safetensors"
    with running(swarm=MODEL) as alone:
        alone.turn_until(lambda: alone.node.payloads is not None)
        manifest, payloads = alone.node.peer.manifest, alone.node.payloads
        assert manifest is not None and payloads is not None
        with write_checkpoint(path, manifest.layout, {"model": "mlp"}) as writer:
            copy_model(payloads.store, writer)
    assert path.stat().st_size > LEAST_BYTES
    return path


@contextlib.contextmanager
def joining(file: Path) -> Iterator[tuple[Running, Running]]:
    """A founder that has the file, and a peer without it that has found its door."""
    swarm = {**SWARM, "pretrained": str(file)}
    with running(swarm=swarm) as founder, running() as other:
        founder.turn_until(lambda: founder.node.payloads is not None)
        other.join(founder.ticket())
        yield founder, other


def in_pool(node: Running) -> list[str]:
    """Everything in the pool's directory, also what is hidden."""
    directory = node.home.pool
    return (
        sorted(path.name for path in directory.iterdir()) if directory.exists() else []
    )


def test_a_newcomer_gets_the_file_and_trains_with_the_others(file: Path) -> None:
    name = file_hash(file)
    with joining(file) as nodes:
        founder, other = nodes
        fetch = other.node.fetch
        turn_all(nodes, lambda: fetch._incoming is not None)
        assert other.node.payloads is None and other.node.peer.round is None
        assert in_pool(other) == [f".{name}.safetensors.part"]
        assert not (other.home.swarm / "facts.msgpack").exists()
        turn_all(nodes, lambda: other.node.payloads is not None)
        assert in_pool(other) == [f"{name}.safetensors"]
        assert Pool(other.home.pool).find(name).read_bytes() == file.read_bytes()
        turn_all(nodes, lambda: all(n.node.history.rounds(1) for n in nodes))
        assert (other.home.swarm / "facts.msgpack").exists()
        assert founder.node.state.load_manifest() == other.node.state.load_manifest()


def test_who_gets_it_says_so_and_is_joined_when_it_is_there(file: Path) -> None:
    with joining(file) as nodes:
        _, other = nodes
        waits = other.begin("wait", **{"for": "joined"})
        turn_all(nodes, lambda: other.node.fetch._incoming is not None)
        asked = other.begin("status")
        other.turn_until(asked.done)
        status = asked.result()
        assert isinstance(status, dict)
        assert status["state"]["code"] == "fetching"
        text = status["state"]["text"]
        name = file_hash(file)[:12]
        assert text.startswith(f"gets the checkpoint {name}, ") and "from me" in text
        (wait,) = status["round"]["waiting_for"]
        assert f"of {file.stat().st_size / 2**20:.1f} MiB" in wait["reason"]
        assert not waits.done()
        turn_all(nodes, waits.done)
        assert other.node.payloads is not None


def ends(nodes: tuple[Running, Running]) -> Exception:
    """What the newcomer ends with."""
    _, other = nodes
    turn_all(nodes, lambda: other.node.ending.is_now)
    with pytest.raises(Exception) as caught:
        other.node.run()
    assert in_pool(other) == [] and other.node.state.load_manifest() is None
    return caught.value


def test_a_file_that_is_not_the_named_one_is_not_taken(file: Path) -> None:
    with joining(file) as nodes:
        payloads = nodes[0].node.payloads
        assert payloads is not None and payloads.store._pretrained is not None
        wrong = bytearray(file.read_bytes())
        wrong[-1] ^= 1
        payloads.store._pretrained._file = wrong  # type: ignore[assignment]
        error = ends(nodes)
        assert isinstance(error, DataError) and error.exit_code == 8
        assert file_hash(file) in error.message
        assert "p2pfusion pool add FILE" in error.hint


def test_a_full_disk_is_said_and_leaves_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(pool.shutil, "disk_usage", lambda path: usage(1 << 20))
    with joining(file) as nodes:
        error = ends(nodes)
        assert isinstance(error, DiskFullError) and error.exit_code == 12
        assert "MiB needed and 1.0 MiB free" in error.message


def test_a_disk_that_fills_meanwhile_is_said_and_leaves_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*where: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with joining(file) as nodes:
        turn_all(nodes, lambda: nodes[1].node.fetch._incoming is not None)
        monkeypatch.setattr(pool, "write_at", refuse)
        assert isinstance(ends(nodes), DiskFullError)


def test_a_daemon_that_is_stopped_meanwhile_leaves_nothing(file: Path) -> None:
    with joining(file) as nodes:
        _, other = nodes
        turn_all(nodes, lambda: other.node.fetch._incoming is not None)
        other.node.ending.stop()
        other.node.run()
        assert in_pool(other) == []


def test_a_founder_without_the_file_asks_nobody(tmp_path: Path) -> None:
    swarm = {**SWARM, "pretrained": "ab" * 32}
    with running(swarm=swarm) as founder, pytest.raises(DataError, match="ab" * 32):
        founder.turn_until(lambda: founder.node.payloads is not None)


# --- The file alone ------------------------------------------------------------------

DATA = random.Random(0).randbytes(3 * CHECKPOINT_PIECE_BYTES + 5)


@pytest.fixture
def named(tmp_path: Path) -> tuple[Pool, str]:
    """A pool, and the hash of what is to come into it."""
    (tmp_path / "data").write_bytes(DATA)
    return Pool(tmp_path / "pool"), file_hash(tmp_path / "data")


def test_what_is_added_appears_when_it_is_whole(
    named: tuple[Pool, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SYNC_BYTES", 1 << 18)
    kept, name = named
    incoming = Incoming(kept, name, len(DATA))
    for at in range(0, len(DATA), 100_000):
        incoming.add(memoryview(DATA)[at : at + 100_000])
        assert not kept.path(name).exists() and not kept.listed()
    assert incoming.finish()
    assert kept.find(name).read_bytes() == DATA
    assert [path.name for path in kept.path(name).parent.iterdir()] == [
        kept.path(name).name
    ]


def test_what_is_wrong_or_dropped_leaves_nothing(named: tuple[Pool, str]) -> None:
    kept, name = named
    for data in (DATA[:-1], DATA + b"x"):
        incoming = Incoming(kept, name, len(DATA))
        incoming.add(memoryview(data))
        assert not incoming.finish()
    Incoming(kept, name, len(DATA)).drop()
    assert not list(kept.path(name).parent.iterdir())


def test_what_a_crash_has_left_is_overwritten(named: tuple[Pool, str]) -> None:
    kept, name = named
    left = Incoming(kept, name, len(DATA))
    left.add(memoryview(bytes(1_000)))
    incoming = Incoming(kept, name, len(DATA))
    incoming.add(memoryview(DATA))
    assert incoming.finish() and kept.find(name).read_bytes() == DATA
    left.drop()


def test_a_pool_that_cannot_be_written_is_an_error_of_this_machine(
    tmp_path: Path,
) -> None:
    (tmp_path / "pool").write_text("a file")
    with pytest.raises(ResourceError, match="cannot write"):
        Incoming(Pool(tmp_path / "pool"), "ab" * 32, 1)
