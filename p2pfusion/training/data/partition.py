"""Which records of a shared file belong to which peer.

Every peer computes the same dealing from the manifest's seed, the labels and the number
of shares, and keeps one share: every record is in exactly one. The rules:

- ``iid``: shuffled and dealt evenly.
- ``dirichlet``: of every class, share i gets a part p_i, p drawn from Dir(alpha): small
  alpha makes few classes dominate a share (the split of MOON's published code).
- ``shards``: every share holds k classes; every class goes to nearly equally many
  shares and is cut evenly among them (HeteroFL's non-IID split, without repeated
  classes).
- ``by-document``, for running text: every share is a run of whole documents, nearly
  equally long; which run, the seed says.

Running text has documents and no classes, everything else has classes and no documents;
without a rule, the former is dealt by document and the latter by ``dirichlet``.

Dealt by class, every share afterwards has at least ``MIN_SHARE`` records, or as many as
an even dealing gives if that is less: the largest shares hand records of their
commonest class to those below. A peer without data could not train, and skewed draws do
produce empty shares.

Streams are numpy Generators seeded through SeedSequence. Their bits are stable, but
numpy may change a distribution between releases: peers of one swarm that share files
should run the same numpy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.limits import MAX_ROSTER

RULES = ("iid", "dirichlet", "shards", "by-document")
MIN_SHARE = 10
"""Records that every share has at least: one small batch."""

DEAL_STREAM, VALIDATION_STREAM, LIMIT_STREAM = 1, 2, 3
"""Keys that keep the random streams of one seed apart."""


@dataclass(frozen=True)
class Partition:
    """One peer's share of a file that several peers share."""

    rule: str | None
    """None: as the records are usually dealt."""
    index: int
    of: int
    alpha: float = 0.5
    shards: int = 2

    @classmethod
    def from_data(cls, data: Mapping[str, object]) -> Partition:
        """From a profile's table; ``ConfigError`` names the key."""
        unknown = set(data) - {"rule", "alpha", "shards", "share"}
        if unknown:
            raise ConfigError(f"data.partition.{min(unknown)}: unknown key")
        rule = data.get("rule")
        if rule is not None and rule not in RULES:
            raise ConfigError(
                f"data.partition.rule: {rule!r} is not one of {', '.join(RULES)}"
            )
        index, of = _share(data.get("share"))
        alpha, shards = data.get("alpha"), data.get("shards")
        alpha = 0.5 if alpha is None else alpha
        shards = 2 if shards is None else shards
        real = isinstance(alpha, (int, float)) and not isinstance(alpha, bool)
        if not real or not 1e-3 <= alpha <= 1e6:  # type: ignore[operator]
            raise ConfigError(
                f"data.partition.alpha: {alpha!r} is not a number from 0.001 to 1000000"
            )
        if not isinstance(shards, int) or isinstance(shards, bool) or shards < 1:
            raise ConfigError(
                f"data.partition.shards: {shards!r} is not a positive whole number",
                hint="it is the number of classes in every share",
            )
        return cls(rule, index, of, float(alpha), shards)  # type: ignore[arg-type]


def _share(value: object) -> tuple[int, int]:
    match = (
        re.fullmatch(r"(\d{1,6})/(\d{1,6})", value) if isinstance(value, str) else None
    )
    if match is None:
        raise ConfigError(
            f'data.partition.share: {value!r} is not of the form "i/n"',
            hint='"0/4" is the first of four shares, "3/4" the last',
        )
    index, of = int(match[1]), int(match[2])
    if not 0 <= index < of <= MAX_ROSTER:
        raise ConfigError(
            f"data.partition.share: {value!r}: the shares of {of} count from 0 to "
            f"{of - 1}" if of else f"data.partition.share: {value!r} has no shares",
            hint=f'"0/4" is the first of four shares; at most {MAX_ROSTER} shares',
        )  # fmt: skip
    return index, of


def generator(seed: int, *stream: int) -> np.random.Generator:
    """The random stream of this seed and these keys."""
    return np.random.default_rng(np.random.SeedSequence([seed, *stream]))


def deal(
    labels: np.ndarray | None,
    partition: Partition,
    seed: int,
    *,
    documents: np.ndarray | None = None,
) -> np.ndarray:
    """For every record, the index of the share that holds it.

    Records have classes (``labels``), or are of ``documents``, ascending.
    """
    rule = _rule(partition, by_class=labels is not None)
    keys = labels if documents is None else documents
    assert keys is not None
    if len(keys) < partition.of:
        raise DataError(
            f"{len(keys)} records cannot be dealt to {partition.of} shares",
            hint="use fewer shares or a larger file",
        )
    random = generator(seed, DEAL_STREAM)
    if rule == "by-document":
        return _by_document(keys, partition.of, random)
    if rule == "iid":
        owners = np.empty(len(keys), dtype=np.int64)
        order = random.permutation(len(keys))
        owners[order] = np.arange(len(keys)) * partition.of // len(keys)
        return owners
    if rule == "dirichlet":
        owners = _dirichlet(keys, partition, random)
    else:
        owners = _shards(keys, partition, random)
    return _filled(owners, keys, partition.of)


def share(
    labels: np.ndarray | None,
    partition: Partition,
    seed: int,
    *,
    documents: np.ndarray | None = None,
) -> np.ndarray:
    """The records of this peer's share, ascending."""
    owners = deal(labels, partition, seed, documents=documents)
    return np.flatnonzero(owners == partition.index)


def _rule(partition: Partition, *, by_class: bool) -> str:
    rule = partition.rule or ("dirichlet" if by_class else "by-document")
    if by_class and rule == "by-document":
        raise ConfigError(
            "data.partition.rule: 'by-document' is for running text, and this data has "
            "a class for each record",
            hint="use dirichlet, shards or iid",
        )
    if not by_class and rule in ("dirichlet", "shards"):
        raise ConfigError(
            f"data.partition.rule: {rule!r} deals by class, and running text has none",
            hint="use by-document or iid",
        )
    return rule


def _by_document(
    documents: np.ndarray, of: int, random: np.random.Generator
) -> np.ndarray:
    ends = np.append(np.flatnonzero(np.diff(documents)) + 1, len(documents))
    if len(ends) < of:
        raise DataError(
            f"{len(ends)} documents cannot be dealt to {of} shares",
            hint="use fewer shares, or the rule iid",
        )
    # The border nearest to an even dealing that leaves a document for every share.
    borders, last = [], -1
    for index in range(1, of):
        wanted = len(documents) * index / of
        nearest = int(np.abs(ends - wanted).argmin())
        last = min(max(nearest, last + 1), len(ends) - 1 - (of - index))
        borders.append(ends[last])
    runs = np.searchsorted(borders, np.arange(len(documents)), "right")
    owners: np.ndarray = random.permutation(of)[runs]
    return owners


def validation_records(
    count: int, fraction: float, seed: int, index: int
) -> np.ndarray:
    """A mask over a peer's own records: True for those kept for validation.

    At least one record is left to train on, and none is taken for fraction 0.
    """
    taken = min(int(fraction * count), count - 1)
    mask = np.zeros(count, dtype=bool)
    mask[generator(seed, VALIDATION_STREAM, index).permutation(count)[:taken]] = True
    return mask


def limited(count: int, limit: int) -> np.ndarray:
    """``limit`` of ``count`` records, ascending: the same in every run and swarm."""
    order = generator(0, LIMIT_STREAM, count).permutation(count)
    return np.sort(order[:limit])


def _dirichlet(
    labels: np.ndarray, partition: Partition, random: np.random.Generator
) -> np.ndarray:
    owners = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        records = random.permutation(np.flatnonzero(labels == label))
        parts = random.dirichlet(np.full(partition.of, partition.alpha))
        borders = np.floor(np.cumsum(parts)[:-1] * len(records) + 0.5)
        owners[records] = np.searchsorted(borders, np.arange(len(records)), "right")
    return owners


def _shards(
    labels: np.ndarray, partition: Partition, random: np.random.Generator
) -> np.ndarray:
    classes = np.unique(labels)
    per_share = min(partition.shards, len(classes))
    if per_share * partition.of < len(classes):
        raise ConfigError(
            f"data.partition.shards: {partition.of} shares of {per_share} classes "
            f"cannot hold all {len(classes)} classes",
            hint=f"use at least {-(-len(classes) // partition.of)}",
        )
    owners = np.empty(len(labels), dtype=np.int64)
    for label, holders in zip(
        classes, _holders(len(classes), per_share, partition.of, random), strict=True
    ):
        records = random.permutation(np.flatnonzero(labels == label))
        owners[records] = np.array(holders)[
            np.arange(len(records)) * len(holders) // len(records)
        ]
    return owners


def _holders(
    class_count: int, per_share: int, of: int, random: np.random.Generator
) -> list[list[int]]:
    """For every class, the shares that hold it: each share holds ``per_share`` classes.

    Every share takes the classes with the most places left, ties at random; taking the
    fullest first is what never leaves a share with the same class twice.
    """
    places = np.full(class_count, per_share * of // class_count)
    places[random.permutation(class_count)[: per_share * of % class_count]] += 1
    holders: list[list[int]] = [[] for _ in range(class_count)]
    for index in range(of):
        ranked = np.lexsort((random.permutation(class_count), -places))
        for chosen in ranked[:per_share]:
            holders[chosen].append(index)
            places[chosen] -= 1
    return holders


def _filled(owners: np.ndarray, labels: np.ndarray, of: int) -> np.ndarray:
    """Moves records from the largest shares until every share has the minimum."""
    minimum = min(MIN_SHARE, len(owners) // of)
    sizes = np.bincount(owners, minlength=of)
    for poor in np.flatnonzero(sizes < minimum):
        while sizes[poor] < minimum:
            rich = int(np.argmax(sizes))
            records = np.flatnonzero(owners == rich)
            commonest = np.bincount(labels[records]).argmax()
            given = records[labels[records] == commonest][-1]
            owners[given] = poor
            sizes[rich] -= 1
            sizes[poor] += 1
    return owners
