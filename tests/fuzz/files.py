"""Files of a peer that are read back, and files that others made, as parsers of bytes.

Most of a home's files carry a digest of their content, so that no accident gets past
it; here it is put right, for what lies behind it.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from p2pfusion.daemon.home import Home
from p2pfusion.daemon.identity import read_identity, write_private
from p2pfusion.daemon.invites import load_invites, save_invites
from p2pfusion.daemon.known import KnownPeers
from p2pfusion.daemon.state import SwarmState, _sealed
from p2pfusion.errors import ConfigError, NotFoundError, VerificationError
from p2pfusion.protocol.messages import Facts
from p2pfusion.split.homes import Homes
from p2pfusion.store import read_checkpoint
from p2pfusion.store.foreign import INDEX, foreign_tensors
from p2pfusion.store.journal import Journal
from p2pfusion.store.pretrained import read_tensors
from tests.fuzz.parsers import MANIFEST, REAL, Parser, Read, changed_json, refusing
from tests.protocol.names import invitation, membership, record


def parsers(root: Path) -> list[Parser]:
    """Parsers whose files lie below ``root``."""
    home = Home(root / "home")
    home.create()
    state = SwarmState(home.swarm)
    state.directory.mkdir(parents=True, exist_ok=True)
    return [*_of_swarm(state), *_of_home(home), *_of_values(root)]


def _written(
    path: Path, read: Callable[[], object], *, sealed: bool = False
) -> Callable[[bytes], object]:
    """A function of the bytes that a file is made of before it is read."""

    def parse(data: bytes) -> object:
        path.write_bytes(_sealed(data) if sealed else data)
        return read()

    return parse


def _damaged(path: Path, read: Callable[[], object], *, sealed: bool = False) -> Read:
    return refusing(VerificationError)(_written(path, read, sealed=sealed))


def _of_swarm(state: SwarmState) -> list[Parser]:
    layout, directory = MANIFEST.layout, state.directory

    def facts(rng: random.Random) -> list[bytes]:
        known = membership(record("p1"), MANIFEST.swarm_id)
        state.save_facts([Facts((known,)), Facts()])
        return [(directory / "facts.msgpack").read_bytes()[len(_sealed(b"")) :]]

    return [
        Parser(
            "state-manifest",
            _damaged(directory / "manifest.msgpack", state.load_manifest, sealed=True),
            lambda rng: [MANIFEST.to_bytes()],
        ),
        Parser(
            "state-facts",
            _damaged(directory / "facts.msgpack", state.load_facts, sealed=True),
            facts,
        ),
        Parser(
            "state-progress",
            _damaged(
                directory / "progress.bin",
                lambda: state.load_progress(layout),
                sealed=True,
            ),
            lambda rng: [struct.pack("<Q", 3) + Homes.initial(layout).to_bytes()],
        ),
        Parser(
            "state-fraction",
            _damaged(
                directory / "fraction", lambda: state.load_fraction("auto"), sealed=True
            ),
            lambda rng: [f"{Fraction(1, 4)} auto".encode(), b"1/1 auto"],
        ),
        Parser(
            "state-announced",
            _damaged(
                directory / "announced.bin",
                lambda: state.load_announced("1/2"),
                sealed=True,
            ),
            lambda rng: [b"1/2\n\x01\x02"],
        ),
        Parser(
            "state-torn",
            _damaged(directory / "facts.msgpack", state.load_facts),
            lambda rng: [_sealed(b"\x90")],
        ),
        Parser(
            "incarnation",
            _damaged(directory.parent / "incarnation", state.next_incarnation),
            lambda rng: [b"1", b"999999"],
        ),
    ]


def _of_home(home: Home) -> list[Parser]:
    known = home.root / "known.json"
    pem, name = REAL.to_pem(), json.dumps({"peer": REAL.peer, "name": "me"}).encode()

    for path, right in ((home.key, pem), (home.identity, name)):
        write_private(path, right)

    def read(tried: Path) -> Callable[[], object]:
        """The identity, of which the other file is as it should be."""

        def read_it() -> object:
            for path, right in ((home.key, pem), (home.identity, name)):
                if path != tried:
                    write_private(path, right)
            return read_identity(home)

        return read_it

    def invites(rng: random.Random) -> list[bytes]:
        save_invites(home.invites, [invitation(1), invitation(2, uses=3)])
        return [home.invites.read_bytes(), b"[]"]

    return [
        Parser(
            "invites",
            _damaged(home.invites, lambda: load_invites(home.invites)),
            invites,
            changed_json,
        ),
        Parser(
            "known",
            _damaged(known, lambda: KnownPeers(known).all()),
            lambda rng: [b'{"127.0.0.1:1": "a-peer"}', b"{}"],
            changed_json,
        ),
        Parser(
            "identity",
            refusing(ConfigError)(_written(home.identity, read(home.identity))),
            lambda rng: [name],
            changed_json,
        ),
        Parser(
            "device-key",
            refusing(ConfigError)(_written(home.key, read(home.key))),
            lambda rng: [pem],
        ),
    ]


def _of_values(root: Path) -> list[Parser]:
    journal, tensors = root / "journal", root / "model.safetensors"
    index = root / f"model{INDEX}"

    def read_journal() -> object:
        found = Journal(journal)
        if not found.recover():
            return "nothing that counts"
        return f"{sum(1 for _ in found.records())} records"

    def journals(rng: random.Random) -> list[bytes]:
        made = Journal(journal)
        made.append(1, np.arange(3), np.ones(5, np.float32), 0)
        made.append(2, np.arange(1), np.ones(2, np.float32), 0)
        made.commit(7)
        return [journal.read_bytes()]

    return [
        Parser("journal", refusing()(_written(journal, read_journal)), journals),
        Parser(
            "checkpoint",
            _damaged(tensors, lambda: read_checkpoint(tensors)),
            _safetensors,
            _changed_header,
        ),
        Parser(
            "pretrained",
            _damaged(tensors, lambda: read_tensors(tensors)),
            _safetensors,
            _changed_header,
        ),
        Parser(
            "foreign",
            _damaged(tensors, lambda: foreign_tensors(tensors)),
            _safetensors,
            _changed_header,
        ),
        Parser(
            "foreign-index",
            refusing(VerificationError, NotFoundError)(
                _written(index, lambda: foreign_tensors(index))
            ),
            lambda rng: [json.dumps({"weight_map": {"w": "w.safetensors"}}).encode()],
        ),
    ]


def _changed_header(rng: random.Random, data: bytes) -> bytes:
    """One thing in the header is another; its length is right."""
    (size,) = struct.unpack_from("<Q", data)
    header = changed_json(rng, data[8 : 8 + size])
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def _safetensors(rng: random.Random) -> list[bytes]:
    """Small files, whose headers are right."""
    made = []
    for dtype, width in (("F32", 4), ("F16", 2), ("BF16", 2), ("I64", 8)):
        entries = {
            "__metadata__": {"format": "pt"},
            "w": {"dtype": dtype, "shape": [2, 3], "data_offsets": [0, 6 * width]},
            "b": {"dtype": dtype, "shape": [], "data_offsets": [6 * width, 7 * width]},
        }
        header = json.dumps(entries).encode()
        values = bytes(7 * width)
        made.append(struct.pack("<Q", len(header)) + header + values)
    return made
