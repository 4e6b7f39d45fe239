"""What a peer keeps on disk: the store, offers, initial values and checkpoints."""

from __future__ import annotations

from p2pfusion.store.checkpoint import (
    CheckpointWriter,
    copy_model,
    read_checkpoint,
    write_checkpoint,
)
from p2pfusion.store.initial import initial_values
from p2pfusion.store.offer import Offer, add_progress, reading_from, write_offer
from p2pfusion.store.owed import Owed
from p2pfusion.store.spent import Spent
from p2pfusion.store.store import Store

__all__ = [
    "CheckpointWriter",
    "Offer",
    "Owed",
    "Spent",
    "Store",
    "add_progress",
    "copy_model",
    "initial_values",
    "read_checkpoint",
    "reading_from",
    "write_checkpoint",
    "write_offer",
]
