"""From one record of a peer to its next, and which accusations they answer.

An accusation of a record is void once a newer record refutes it: one whose
``refutes_epoch`` is not after the epoch from which the accusation counts. What was
refuted stays so, whatever the peer says of itself later: each record remembers the
refutations of those before it. It refutes nothing by itself, though: who was put out
while it did not look would undo that, and every roster since.
"""

from __future__ import annotations

from dataclasses import replace

from p2pfusion.limits import MAX_REFUTED
from p2pfusion.protocol.messages import NEVER, Age, PeerRecord

Step = tuple[int, int, int]
"""Accusations of records older than (incarnation, sequence) are void as far as they
count from this epoch on."""


def renewed(record: PeerRecord, **changes: object) -> PeerRecord:
    """What a peer says next: changed so, and one newer; the same without a change.

    With ``refutes_epoch`` it answers the accusations of all its records so far.
    """
    answers = changes.get("refutes_epoch", NEVER) != NEVER
    kept: dict[str, object] = {"refutes_epoch": NEVER, "refuted": _steps(record)}
    changed = replace(record, **changes)  # type: ignore[arg-type]
    if changed == record and not answers:
        return record
    following: PeerRecord = replace(record, **{**kept, **changes})  # type: ignore[arg-type]
    refuted = _bounded(following.refuted, following.refutes_epoch)
    return replace(following, sequence=record.sequence + 1, refuted=refuted)


def carried_over(fresh: PeerRecord, before: PeerRecord) -> PeerRecord:
    """The first record of a new life, with what the former life's last one promised."""
    # A home from a backup may count lives anew: nobody may refute what is yet to come.
    steps = tuple(step for step in _steps(before) if step[:2] <= fresh.age)
    kept = replace(
        fresh,
        join_epoch=before.join_epoch,
        leave_epoch=before.leave_epoch,
        refuted=_bounded(steps, NEVER),
    )
    if fresh.split_fraction != before.split_fraction:
        return kept
    return replace(
        kept,
        former_fraction=before.former_fraction,
        since_epoch=before.since_epoch,
        announced=before.announced,
        announced_epoch=before.announced_epoch,
    )


def refutes(record: PeerRecord, age: Age, epoch: int) -> bool:
    """Whether a record answers an accusation of a record of that age, from an epoch."""
    if age < record.age and epoch >= record.refutes_epoch:
        return True
    return any(
        age < (incarnation, sequence) and epoch >= since
        for incarnation, sequence, since in record.refuted
    )


def _steps(record: PeerRecord) -> tuple[Step, ...]:
    """What a record answers, for those after it to repeat."""
    if record.refutes_epoch == NEVER:
        return record.refuted
    return (*record.refuted, (*record.age, record.refutes_epoch))


def _bounded(steps: tuple[Step, ...], since: int) -> tuple[Step, ...]:
    """The steps that say more than others and than a newer one ``since`` an epoch."""
    found: list[Step] = []
    for step in sorted(steps, key=lambda s: (s[0], s[1], -s[2]), reverse=True):
        if step[2] < min([since, *(newer[2] for newer in found)]):
            found.append(step)
    found.reverse()
    # Two of long ago become one: had anybody else evicted the peer between them, it
    # would have had to join anew since.
    while len(found) > MAX_REFUTED:
        found[:2] = [(*found[1][:2], found[0][2])]
    return tuple(found)
