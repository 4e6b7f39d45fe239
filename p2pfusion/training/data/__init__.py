"""Data sets: the tables of loaders, and one peer's share of one of them.

``IMAGES`` and ``TEXTS`` map a data kind to its loader; text is read with the swarm's
vocabulary. An installed package adds kinds through the entry-point groups
``p2pfusion.data`` and ``p2pfusion.text``; a loader is imported only when it is named.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from p2pfusion.errors import ConfigError
from p2pfusion.training.data.cifar import cifar, cifar10_exact, cifar10_jpeg
from p2pfusion.training.data.images import digits, fashion_mnist, idx, npz
from p2pfusion.training.data.language import text, tiny_shakespeare, wikitext_2
from p2pfusion.training.data.options import DataOptions
from p2pfusion.training.data.partition import (
    Partition,
    limited,
    share,
    validation_records,
)
from p2pfusion.training.data.records import Loader, Records, TextLoader
from p2pfusion.training.data.tables import csv, sst2, tsv
from p2pfusion.training.data.vocabulary import Coding, Vocabulary

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
    "load",
    "own_records",
]

IMAGE_ENTRY_POINTS, TEXT_ENTRY_POINTS = "p2pfusion.data", "p2pfusion.text"

IMAGES: dict[str, Loader] = {
    "cifar": cifar,
    "cifar10-exact": cifar10_exact,
    "cifar10-jpeg": cifar10_jpeg,
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "idx": idx,
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
    if kind in IMAGES:
        return IMAGES[kind](path, part)
    if kind in TEXTS:
        return TEXTS[kind](path, part, coding)
    for entry in entry_points(group=IMAGE_ENTRY_POINTS, name=kind):
        loader: Loader = entry.load()
        return loader(path, part)
    for entry in entry_points(group=TEXT_ENTRY_POINTS, name=kind):
        text_loader: TextLoader = entry.load()
        return text_loader(path, part, coding)
    raise ConfigError(
        f"data.kind: {kind!r} is unknown", hint=f"known kinds: {', '.join(DATASETS)}"
    )


def own_records(
    records: Records, options: DataOptions, seed: int
) -> tuple[Records, Records | None]:
    """One peer's training records and its validation records (None without any)."""
    index = 0
    if options.partition is not None:
        index = options.partition.index
        labels = None if records.labels is None else records.labels.numpy()
        mine = share(labels, options.partition, seed, documents=records.documents)
        records = records.select(mine)
    held = validation_records(len(records), options.validation, seed, index)
    if not held.any():
        return records, None
    return records.select((~held).nonzero()[0]), records.select(held.nonzero()[0])
