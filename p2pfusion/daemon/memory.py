"""How much of a model a machine's memory suffices for: ``split_fraction = "auto"``.

An estimate, made before anything is trained and without torch: what the trainer is by
itself, every copy of the sub-model that training holds, and activations in proportion
to the widths. What it underestimates, a trainer that runs out of memory corrects
(``training.py``).
"""

from __future__ import annotations

import os
import re
from fractions import Fraction

from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.objectives import frozen_copies
from p2pfusion.split.coverage import TRAINING_ELEMENT_BYTES, training_bytes
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.split.windows import window_cells

BARE_TRAINER_BYTES = 320 << 20
"""A trainer that has imported torch and holds a small data set."""

COPIES = 3
"""Beside values and gradients: momentum, the values before the round, and the offer.
What the manifest asks for beside them, ``copies_of`` counts."""

SAVED_PER_WIDTH = 4
"""Activations that training saves per example and index of an axis, for the layers on
both sides, before and after their nonlinearity; images cost more."""

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

_SIZE = re.compile(r"(\d{1,15})(?:\.(\d{1,3}))? ?(?:([KMGT])i?B?|B)?", re.ASCII)


def parse_size(text: str) -> int | None:
    """Bytes of ``1.5 GiB`` or ``800MB``; None for anything else.

    Units are powers of 1024, however they are written.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        return None
    number = Fraction(f"{found[1]}.{found[2] or 0}")
    return int(number * UNITS[found[3] or ""])


def installed_bytes() -> int:
    """This machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def machine_bytes() -> int:
    """Half of this machine's memory: the other half is its owner's."""
    return installed_bytes() // 2


def copies_of(manifest: Manifest) -> int:
    """Copies of a sub-model beside values and gradients, in this swarm.

    AdamW keeps mean squares beside its momentum, and takes their roots. The proximal
    term keeps what the round began with. The contrastive objective keeps sub-models of
    past rounds, and the present one as it was received; some self-supervised ones have
    a second branch.
    """
    squares = 2 if manifest.optimiser == "adamw" else 0
    start = 1 if manifest.proximal else 0
    frozen = frozen_copies(manifest.objective, manifest.objective_arguments)
    return COPIES + squares + start + frozen


def fitting_fraction(
    layout: Layout, batch: int, memory_bytes: int, *, copies: int = COPIES
) -> Fraction:
    """The largest split fraction that so much memory suffices for, or one cell."""
    finest = max((axis.cell_count for axis in layout.widths), default=1)
    fewest = min((axis.cell_count for axis in layout.widths), default=1)
    for cells in range(finest, 0, -1):
        fraction = Fraction(cells, finest)
        if fraction * fewest < 1:
            break
        if predicted_bytes(layout, fraction, batch, copies=copies) <= memory_bytes:
            return fraction
    return Fraction(1, fewest)


def predicted_bytes(
    layout: Layout, fraction: Fraction, batch: int, *, copies: int = COPIES
) -> int:
    """What a trainer will need for a sub-model of this fraction."""
    sets = {
        axis.name: axis.cells(IndexSet.span(0, window_cells(axis, fraction)))
        for axis in layout.axes
    }
    widths = sum(len(indices) for indices in sets.values())
    activations = batch * widths * SAVED_PER_WIDTH * TRAINING_ELEMENT_BYTES
    split = Split.of(sets)
    return BARE_TRAINER_BYTES + training_bytes(
        layout, split, optimiser_copies=copies, activation_bytes=activations
    )
