"""The pool: checkpoints that swarms begin with, each under the name of its hash.

A swarm's manifest names one by its SHA-256. Peers do not send them to each other: each
peer's owner gets the file, by whatever way, and adds it to the pool of its home. A file
in the pool is never changed; the store of a swarm keeps one of its own.
"""

from __future__ import annotations

from pathlib import Path

from p2pfusion.errors import DataError, NotFoundError, VerificationError
from p2pfusion.protocol.manifest import HEX
from p2pfusion.store.checksum import KEY, file_hash, read_header, verify
from p2pfusion.store.files import copy_file
from p2pfusion.store.pretrained import read_tensors

SUFFIX = ".safetensors"

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

    def find(self, name: str) -> Path:
        """The checkpoint of this hash; ``DataError`` says how to get it."""
        path = self.path(name)
        if not path.exists():
            raise DataError(
                f"the swarm begins with the checkpoint {name}, which is not in "
                f"{self._directory}",
                hint="get the file from whoever founded the swarm, and: p2pfusion pool "
                "add FILE",
            )
        if file_hash(path) != name:
            raise VerificationError(
                f"{path} is not what its name says",
                hint="remove it, and: p2pfusion pool add FILE",
            )
        return path

    def listed(self) -> list[Data]:
        """What there is, by name. Whether it is what its name says, reading tells."""
        return [_row(path) for path in sorted(self._directory.glob(f"*{SUFFIX}"))]


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
