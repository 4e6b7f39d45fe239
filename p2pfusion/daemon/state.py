"""What a peer keeps of its swarm between two starts, beside the store.

``manifest.msgpack`` is written once. ``facts.msgpack`` holds the membership facts as
messages; ``offences.msgpack`` what members were caught at; ``progress.bin`` the next
round and the table of homes; ``announced.bin`` what the trainer has found out, if the
method asks for that. Each is replaced as a whole: temporary name, fsync, rename; and
begins with a digest of the rest, so that a damaged file is an error that names it.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from dataclasses import astuple
from fractions import Fraction
from pathlib import Path

import msgpack

from p2pfusion.daemon.home import Home
from p2pfusion.daemon.pool import Pool
from p2pfusion.errors import (
    LayoutError,
    RemoteProtocolError,
    ResourceError,
    VerificationError,
)
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import Facts
from p2pfusion.protocol.offences import Charge
from p2pfusion.protocol.wire import decode, encode
from p2pfusion.split.homes import Homes
from p2pfusion.split.layout import Layout
from p2pfusion.store import Store
from p2pfusion.store.files import clear_errors, sync_directory
from p2pfusion.store.store import HEADER as STORE_HEADER

RESTORE = "restore it from a backup, or remove the directory and join the swarm again"
DIGEST_BYTES = 16

_ROUND = struct.Struct("<Q")


class SwarmState:
    """The files of one peer's membership, in the home's ``swarm`` directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = directory / "store"
        self.offers = directory / "offers"
        self.owed = directory / "offers" / "owed"
        self._manifest = directory / "manifest.msgpack"
        self._facts = directory / "facts.msgpack"
        self._offences = directory / "offences.msgpack"
        self._progress = directory / "progress.bin"
        self._fraction = directory / "fraction"
        self._announced = directory / "announced.bin"
        self._incarnation = directory.parent / "incarnation"
        self.pool = Pool(Home(directory.parent).pool)

    def next_incarnation(self) -> int:
        """A number larger than at any start before; kept before it is used."""
        try:
            last = int(self._incarnation.read_text(encoding="ascii"))
        except FileNotFoundError:
            last = 0
        except (ValueError, OSError) as error:
            hint = "write into it a number larger than any that it can have had"
            raise _damaged(self._incarnation, error, hint) from None
        _replace(self._incarnation, str(last + 1).encode())
        return last + 1

    def keep_incarnation(self, number: int) -> None:
        """Has the next start take a number above this one."""
        _replace(self._incarnation, str(number).encode())

    def open_store(self, manifest: Manifest) -> Store:
        """The store of this swarm; the first time, it is made, and this is the swarm.

        ``DataError`` if the swarm begins with a checkpoint that the pool lacks; once
        there is a store, it has one of its own. The manifest comes last: a start that
        was cut short is simply done again.
        """
        layout, seed, begins = manifest.layout, manifest.seed, manifest.pretrained
        if (self.store / STORE_HEADER).exists():
            store = Store.open(
                self.store, layout, seed, writable=True, pretrained=begins
            )
        else:
            file = self.pool.find(begins) if begins else None
            store = Store.create(self.store, layout, seed, file)
        self.offers.mkdir(exist_ok=True)
        if self.load_manifest() is None:
            _replace(self._manifest, _sealed(manifest.to_bytes()))
        return store

    def lacks_checkpoint(self, manifest: Manifest) -> bool:
        """Whether the swarm begins with a file that neither a store has, nor the pool.

        Then ``open_store`` would fail.
        """
        if not manifest.pretrained or (self.store / STORE_HEADER).exists():
            return False
        return not self.pool.path(manifest.pretrained).exists()

    def load_manifest(self) -> Manifest | None:
        """The swarm that this peer belongs to, or None."""
        try:
            return Manifest.from_bytes(_opened(self._manifest))
        except FileNotFoundError:
            return None
        except RemoteProtocolError as error:
            raise _damaged(self._manifest, error) from None

    def load_facts(self) -> tuple[Facts, ...]:
        """The membership facts of the last run."""
        try:
            frames = msgpack.unpackb(_opened(self._facts))
            messages = [decode([frame], data_plane=False) for frame in frames]
        except FileNotFoundError:
            return ()
        except (RemoteProtocolError, ValueError, TypeError) as error:
            raise _damaged(self._facts, error) from None
        return tuple(message for message in messages if isinstance(message, Facts))

    def save_facts(self, facts: Sequence[Facts]) -> None:
        """Keeps the membership facts."""
        packed = msgpack.packb([encode(message)[0] for message in facts])
        _replace(self._facts, _sealed(packed))

    def load_offences(self) -> tuple[Charge, ...]:
        """What members were caught at before this start."""
        try:
            rows = msgpack.unpackb(_opened(self._offences))
            return tuple(Charge(*row) for row in rows)
        except FileNotFoundError:
            return ()
        except (ValueError, TypeError) as error:
            raise _damaged(self._offences, error) from None

    def save_offences(self, charges: Sequence[Charge]) -> None:
        """Keeps what members were caught at."""
        packed = msgpack.packb([astuple(charge) for charge in charges])
        _replace(self._offences, _sealed(packed))

    def save_fraction(self, fraction: Fraction, *, wish: str) -> None:
        """The split fraction that came of what the profile wished."""
        _replace(self._fraction, _sealed(f"{fraction} {wish}".encode()))

    def load_fraction(self, wish: str) -> Fraction | None:
        """What came of that wish; None if nothing is known."""
        try:
            fraction, before = _opened(self._fraction).decode().split()
            return Fraction(fraction) if before == wish else None
        except FileNotFoundError:
            return None
        except (ValueError, ZeroDivisionError) as error:
            raise _damaged(self._fraction, error) from None

    def save_announced(self, split_fraction: str, announced: bytes) -> None:
        """What the trainer has found out at a split fraction."""
        head = split_fraction.encode() + b"\n"
        _replace(self._announced, _sealed(head + announced))

    def load_announced(self, split_fraction: str) -> bytes | None:
        """The same; None if nothing is known of that fraction."""
        try:
            fraction, _, announced = _opened(self._announced).partition(b"\n")
        except FileNotFoundError:
            return None
        return announced if fraction == split_fraction.encode() else None

    def load_progress(self, layout: Layout) -> tuple[int, Homes]:
        """The first round that was not sealed, and its table of homes."""
        try:
            data = _opened(self._progress)
            (next_round,) = _ROUND.unpack_from(data)
            return next_round, Homes.from_bytes(layout, data[_ROUND.size :])
        except FileNotFoundError:
            return 0, Homes.initial(layout)
        except (struct.error, LayoutError) as error:
            raise _damaged(self._progress, error) from None

    def save_progress(self, next_round: int, homes: Homes) -> None:
        """A round was sealed."""
        data = _ROUND.pack(next_round) + homes.to_bytes()
        _replace(self._progress, _sealed(data))


def _sealed(data: bytes) -> bytes:
    return _digest(data) + data


def _opened(path: Path) -> bytes:
    """What ``_sealed`` was given; ``VerificationError`` if it is not that any more."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _damaged(path, error) from None
    digest, data = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if digest != _digest(data):
        raise _damaged(path, "its content is not what was written")
    return data


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def _damaged(path: Path, why: object, hint: str = RESTORE) -> VerificationError:
    return VerificationError(f"{path} is damaged: {why}", hint=hint)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        with clear_errors(path), open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with clear_errors(path):
            temporary.replace(path)
            sync_directory(path.parent)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}") from None
