"""The JSON file beside a whole model: what it is, where it comes from, and its hashes.

For programs, and people, who do not want to open the model for that. It is written when
the model is complete, and one of an earlier model of the same name goes before that; so
it is never about another file than the one that it lies beside.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from p2pfusion.errors import VerificationError
from p2pfusion.store.checksum import BLOCK_BYTES, METADATA, read_entries
from p2pfusion.store.files import new_file, write_at

SCHEMA = "p2pfusion.model/v1"


def companion_path(model: Path) -> Path:
    """``model.manifest.json`` of ``model.safetensors``."""
    return model.with_suffix(".manifest.json")


def write_companion(model: Path, facts: Mapping[str, object]) -> str:
    """Describes a complete model, by what is known of it and what is in the file; the
    file's SHA-256."""
    tensors, whole = _hashed(model)
    told = {
        "schema": SCHEMA,
        "file": model.name,
        "bytes": model.stat().st_size,
        "sha256": whole,
        **facts,
        "tensors": tensors,
    }
    with new_file(companion_path(model), durable=True) as file:
        write_at(file, json.dumps(told, indent=1).encode() + b"\n", 0)
    return whole


def _hashed(model: Path) -> tuple[dict[str, object], str]:
    """Shape, type and SHA-256 of every tensor, and of the file; it is read once."""
    entries, base_bytes = read_entries(model)
    found: dict[str, object] = {}
    named = [(n, e) for n, e in entries.items() if n != METADATA]
    whole = hashlib.sha256()
    with open(model, "rb") as file:
        whole.update(file.read(base_bytes))
        for name, entry in named:  # in the order of the file: we have written it
            assert isinstance(entry, dict)
            start, stop = entry["data_offsets"]
            own = hashlib.sha256()
            if file.tell() != base_bytes + start:
                raise VerificationError(f"{model} was changed while it was read")
            for at in range(start, stop, BLOCK_BYTES):
                block = file.read(min(BLOCK_BYTES, stop - at))
                own.update(block)
                whole.update(block)
            found[name] = {
                "dtype": entry["dtype"],
                "shape": entry["shape"],
                "sha256": own.hexdigest(),
            }
    return found, whole.hexdigest()
