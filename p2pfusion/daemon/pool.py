"""The pool: checkpoints that swarms begin with, each under the name of its hash.

A swarm's manifest names one by its SHA-256. Its founder adds the file to the pool of
its home; other peers get it from members, or from their owners, who have got it by
whatever way. A file in the pool is never changed; the store of a swarm keeps one of its
own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from p2pfusion.errors import (
    DataError,
    DiskFullError,
    NotFoundError,
    ResourceError,
    VerificationError,
)
from p2pfusion.protocol.contents import HEX
from p2pfusion.store.checksum import KEY, file_hash, read_header, verify
from p2pfusion.store.files import (
    clear_errors,
    copy_file,
    new_file,
    sync_directory,
    write_at,
)
from p2pfusion.store.pretrained import read_tensors

SUFFIX = ".safetensors"

SYNC_BYTES = 16 << 20
"""Of what arrives so much is synced at once: the last time, too, takes no longer."""

SPARE_BYTES = 1 << 20
"""Room for the small files of a peer, beside a checkpoint that arrives."""

Data = dict[str, object]


class Pool:
    """The checkpoints in one directory, which need not be there yet."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, name: str) -> Path:
        """Where the checkpoint of this hash lies, if it is there."""
        return self._directory / f"{name}{SUFFIX}"

    def add(self, file: Path) -> str:
        """Copies a checkpoint into the pool; its hash.

        ``VerificationError`` for what is none, or is damaged.
        """
        check_checkpoint(file)
        name = file_hash(file)
        if not self.path(name).exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            copy_file(file, self.path(name))
        return name

    def make(self, write: Callable[[Path], None]) -> str:
        """Has a checkpoint written into the pool; its hash."""
        self._directory.mkdir(parents=True, exist_ok=True)
        made = self._directory / ".imported"
        try:
            write(made)
            name = file_hash(made)
            made.replace(self.path(name))
        finally:
            made.unlink(missing_ok=True)
        sync_directory(self._directory)
        return name

    def find(self, name: str) -> Path:
        """The checkpoint of this hash; ``DataError`` says how to get it."""
        path = self.path(name)
        if not path.exists():
            raise self.missing(name)
        if file_hash(path) != name:
            raise VerificationError(
                f"{path} is not what its name says",
                hint="remove it, and: p2pfusion pool add FILE",
            )
        return path

    def missing(self, name: str) -> DataError:
        """The error that says that a checkpoint is not here, and how to get it."""
        return DataError(
            f"the swarm begins with the checkpoint {name}, which is not in "
            f"{self._directory}",
            hint="get the file from whoever founded the swarm, and: p2pfusion pool "
            "add FILE",
        )

    def listed(self) -> list[Data]:
        """What there is, by name. Whether it is what its name says, reading tells."""
        return [_row(path) for path in sorted(self._directory.glob(f"*{SUFFIX}"))]


class _Dropped(Exception):
    """What has come of a file is not to be kept."""


class Incoming:
    """A checkpoint on its way into the pool: there when it is whole, or not at all.

    Whatever is wrong with the disk is a ``ResourceError``.
    """

    def __init__(self, pool: Pool, name: str, total_bytes: int) -> None:
        """``DiskFullError`` if there is no room for so much."""
        self._name = name
        self._path = pool.path(name)
        self._hash = hashlib.sha256()
        self._written = self._synced = 0
        self._open = contextlib.ExitStack()
        with self._clear_errors():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._open.enter_context(new_file(self._path, durable=True))
            free = shutil.disk_usage(self._path.parent).free
        if free < total_bytes + SPARE_BYTES:
            self.drop()
            needed, here = total_bytes / 2**20, free / 2**20
            raise DiskFullError(
                f"no room for the checkpoint {name}: {needed:.1f} MiB needed and "
                f"{here:.1f} MiB free for {self._path.parent}",
                hint="free some disk space, or move the peer's home to a larger disk",
            )

    def add(self, data: memoryview) -> None:
        """The next bytes."""
        with self._clear_errors():
            write_at(self._file, data, self._written)
            self._written += data.nbytes
            if self._written >= self._synced + SYNC_BYTES:
                os.fsync(self._file)
                self._synced = self._written
        self._hash.update(data)

    def finish(self) -> bool:
        """All bytes were added: in the pool from now on, or False if they are wrong."""
        if self._hash.hexdigest() != self._name:
            self.drop()
            return False
        with self._clear_errors():
            self._open.close()
        return True

    def drop(self) -> None:
        """Removes what is here of the file, unless it is in the pool."""
        with contextlib.suppress(_Dropped), self._open:
            raise _Dropped

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            with clear_errors(self._path):
                yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise ResourceError(f"cannot write {self._path}: {reason}") from None


def check_checkpoint(file: Path) -> None:
    """``VerificationError`` for what a swarm cannot begin with, whatever its model."""
    try:
        tensors = read_tensors(file)
    except NotFoundError:
        raise DataError(
            f"{file}: there is no such file",
            hint="name a checkpoint, or the 64 hex digits of one in the pool",
        ) from None
    except IsADirectoryError:
        raise DataError(f"{file} is a directory", hint="name a file in it") from None
    if not tensors:
        raise VerificationError(f"{file} has no tensors")
    if KEY in read_header(file) and not verify(file):
        raise VerificationError(f"{file} is damaged: its checksum is another")


def is_hash(text: str) -> bool:
    """Whether a text names a checkpoint of the pool, and not a file."""
    return bool(text) and HEX.fullmatch(text) is not None


def _row(path: Path) -> Data:
    name = path.name.removesuffix(SUFFIX)
    told: Data = {"hash": name, "model": None, "parameters": None}
    told |= {"bytes": path.stat().st_size, "verified": file_hash(path) == name}
    if told["verified"]:
        tensors = read_tensors(path).values()
        told["model"] = read_header(path).get("model")
        told["parameters"] = sum(tensor.size for tensor in tensors)
    return {**told, "path": str(path)}
