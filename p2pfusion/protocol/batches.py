"""Facts in messages that fit a control frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from p2pfusion.protocol.messages import (
    Evidence,
    Facts,
    Membership,
    Recovery,
    Revocation,
    Signed,
)

MAX_BATCH_BYTES = 48 * 1024
"""Facts of one kind in one message: with its head it fits a control frame of 64 KiB,
also where one item alone is longer."""

Item = TypeVar("Item", Membership, Revocation, Recovery, Signed, Evidence)


def in_frames(facts: Facts) -> list[Facts]:
    """The same facts in messages that fit a control frame, the start list first.

    Members come before what they say of each other: nobody believes a stranger.
    """
    found: list[Facts] = [Facts(start=facts.start)] if facts.start else []
    for members in _batches(facts.members):
        found.append(Facts(members=members))
    for revocations in _batches(facts.revocations):
        found.append(Facts(revocations=revocations))
    for accusations in _batches(facts.accusations):
        found.append(Facts(accusations=accusations))
    for recoveries in _batches(facts.recoveries):
        found.append(Facts(recoveries=recoveries))
    for evidence in _batches(facts.evidence):
        found.append(Facts(evidence=evidence))
    return found


def _batches(items: Iterable[Item]) -> list[tuple[Item, ...]]:
    batches: list[list[Item]] = []
    size = MAX_BATCH_BYTES
    for item in items:
        length = _bytes(item)
        size += length
        if size > MAX_BATCH_BYTES:
            batches.append([])
            size = length
        batches[-1].append(item)
    return [tuple(batch) for batch in batches]


def _bytes(item: Membership | Revocation | Recovery | Signed | Evidence) -> int:
    """An upper bound of an item's length on the wire."""
    if isinstance(item, Evidence):
        return _bytes(item.first) + _bytes(item.second) + 16
    if isinstance(item, Signed):
        return len(item.payload) + len(item.signature) + 16
    signed = item.record if isinstance(item, Membership) else item.statement
    return len(signed.payload) + len(signed.signature) + len(item.credential) + 16
