"""Whether enough of a roster can be reached to decide anything for all."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from p2pfusion.methods.base import Member


def has_quorum(
    reached: Collection[str],
    roster: Sequence[Member],
    lost: Collection[str] = (),
) -> bool:
    """Whether these are more than half of a roster, or half of it with the lowest rank.

    ``reached`` includes the own peer. Who was declared lost does not count at all.
    """
    present = [member.peer for member in roster if member.peer not in lost]
    count = sum(peer in reached for peer in present)
    if 2 * count != len(present):
        return 2 * count > len(present)
    return not present or present[0] in reached
