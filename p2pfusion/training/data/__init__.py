"""Data sets: the tables of loaders, and one peer's share of one of them.

``IMAGES`` and ``TEXTS`` map a data kind to its loader; text is read with the swarm's
vocabulary. Beside them there are functions of one's own, ``package.module:function``
(``own.py``), and kinds of installed packages, from the entry-point groups
``p2pfusion.data`` and ``p2pfusion.text``.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from p2pfusion.errors import ConfigError
from p2pfusion.training.data.cifar import cifar, cifar10_exact, cifar10_jpeg
from p2pfusion.training.data.folders import KIND as IMAGE_FOLDER
from p2pfusion.training.data.folders import image_folder
from p2pfusion.training.data.images import digits, fashion_mnist, idx, npz
from p2pfusion.training.data.language import text, tiny_shakespeare, wikitext_2
from p2pfusion.training.data.options import DataOptions
from p2pfusion.training.data.own import load_own, records_of
from p2pfusion.training.data.partition import (
    Partition,
    limited,
    share,
    validation_records,
)
from p2pfusion.training.data.records import Loader, Records, TextLoader
from p2pfusion.training.data.tables import csv, sst2, tsv
from p2pfusion.training.data.vocabulary import Coding, Vocabulary
from p2pfusion.training.outside import DATA, installed, is_own

__all__ = [
    "DATASETS",
    "IMAGES",
    "NO_CODING",
    "TEXTS",
    "Coding",
    "DataOptions",
    "Partition",
    "Records",
    "Vocabulary",
    "check_share",
    "load",
    "own_records",
]

TEXT_ENTRY_POINTS = "p2pfusion.text"

IMAGES: dict[str, Loader] = {
    "cifar": cifar,
    "cifar10-exact": cifar10_exact,
    "cifar10-jpeg": cifar10_jpeg,
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "idx": idx,
    IMAGE_FOLDER: image_folder,
    "npz": npz,
}

TEXTS: dict[str, TextLoader] = {
    "csv": csv,
    "sst2": sst2,
    "text": text,
    "tiny-shakespeare": tiny_shakespeare,
    "tsv": tsv,
    "wikitext-2": wikitext_2,
}

DATASETS = sorted((*IMAGES, *TEXTS))


NO_CODING = Coding()


def load(options: DataOptions, part: str, coding: Coding = NO_CODING) -> Records | None:
    """The ``train`` or ``test`` part, limited; None if there is no test part.

    ``coding``: how text becomes tokens in this swarm.
    """
    found = _loaded(options, part, coding)
    limit = options.limit_train if part == "train" else options.limit_test
    if found is None or limit is None or limit >= len(found):
        return found
    return found.select(limited(len(found), limit))


def _loaded(options: DataOptions, part: str, coding: Coding) -> Records | None:
    """The part as its loader gives it; ``ConfigError`` if there is no such kind."""
    kind, path = options.kind, options.path
    if kind == IMAGE_FOLDER:
        return image_folder(path, part, options.kept)
    if kind in IMAGES:
        return IMAGES[kind](path, part)
    if kind in TEXTS:
        return TEXTS[kind](path, part, coding)
    if is_own(kind):
        return load_own(kind, path, part, coding)
    loader = installed(DATA, kind)
    if loader is not None:
        found = cast(Loader, loader)(path, part)
        return records_of(found, f"data {kind!r}", coding)
    text_loader = installed(DATA, kind, group=TEXT_ENTRY_POINTS)
    if text_loader is not None:
        return cast(TextLoader, text_loader)(path, part, coding)
    raise ConfigError(
        f"data.kind: {kind!r} is unknown",
        hint=f"known kinds: {', '.join(DATASETS)}; your own: package.module:function",
    )


def check_share(records: Records, options: DataOptions) -> None:
    """``DataError`` or ``ConfigError`` if a peer's share cannot be dealt."""
    if options.partition is not None:
        _mine(records, options.partition, seed=0)  # whether it can follows from none


def own_records(
    records: Records, options: DataOptions, seed: int
) -> tuple[Records, Records | None]:
    """One peer's training records and its validation records (None without any)."""
    index = 0
    if options.partition is not None:
        index = options.partition.index
        records = records.select(_mine(records, options.partition, seed))
    held = validation_records(len(records), options.validation, seed, index)
    if not held.any():
        return records, None
    return records.select((~held).nonzero()[0]), records.select(held.nonzero()[0])


def _mine(records: Records, partition: Partition, seed: int) -> np.ndarray:
    labels = None if records.labels is None else records.labels.numpy()
    return share(labels, partition, seed, documents=records.documents)
