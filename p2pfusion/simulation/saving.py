"""Whole models as an experiment's beginning and end: checkpoints like a swarm's.

One saved here by one peer that trains everything is how a pretrained model is made.
"""

from __future__ import annotations

from pathlib import Path

from p2pfusion.daemon.answers import export_facts, export_metadata
from p2pfusion.daemon.pool import check_checkpoint
from p2pfusion.errors import ResourceError
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.homes import Homes
from p2pfusion.store import Store, copy_model, write_checkpoint
from p2pfusion.store.beside import Beside
from p2pfusion.store.checksum import file_hash
from p2pfusion.store.companion import companion_path, write_companion


def hash_of(pretrained: Path | None) -> str:
    """What a manifest says of the checkpoint to begin with; empty for none.

    ``DataError`` or ``VerificationError`` if it is missing or damaged.
    """
    if pretrained is None:
        return ""
    check_checkpoint(pretrained)
    return file_hash(pretrained)


def save_model(
    store: Store, manifest: Manifest, homes: Homes, path: Path, beside: Beside
) -> None:
    """Writes the assembled model as a checkpoint."""
    metadata = export_metadata(manifest, manifest.rounds)
    try:
        companion_path(path).unlink(missing_ok=True)
        with write_checkpoint(path, manifest.layout, metadata, beside) as writer:
            copy_model(store, writer)
        write_companion(path, export_facts(manifest, manifest.rounds, homes))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceError(
            f"cannot write {path}: {reason}", hint="choose another place"
        ) from None
