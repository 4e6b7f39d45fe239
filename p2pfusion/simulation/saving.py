"""Whole models as an experiment's beginning and end: checkpoints like a swarm's.

One saved here by one peer that trains everything is how a pretrained model is made.
"""

from __future__ import annotations

from pathlib import Path

from p2pfusion.daemon.answers import export_metadata
from p2pfusion.daemon.pool import check_checkpoint
from p2pfusion.errors import ResourceError
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.store import Store, copy_model, write_checkpoint
from p2pfusion.store.checksum import file_hash


def hash_of(pretrained: Path | None) -> str:
    """What a manifest says of the checkpoint to begin with; empty for none.

    ``DataError`` or ``VerificationError`` if it is missing or damaged.
    """
    if pretrained is None:
        return ""
    check_checkpoint(pretrained)
    return file_hash(pretrained)


def save_model(store: Store, manifest: Manifest, path: Path | None) -> None:
    """Writes the assembled model as a checkpoint, if it is to be kept."""
    if path is None:
        return
    metadata = export_metadata(manifest, manifest.rounds)
    try:
        with write_checkpoint(path, manifest.layout, metadata) as writer:
            copy_model(store, writer)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceError(
            f"cannot write {path}: {reason}", hint="choose another place"
        ) from None
