"""What streams between two peers are for."""

from __future__ import annotations

from enum import StrEnum


class Hop(StrEnum):
    """What a stream between two peers is for."""

    CONTRIBUTION = "contribution"
    """Trained values, from a holder to the reducer."""
    FUSED = "fused"
    """Fused values, from the reducer to a next holder."""
    HOME = "home"
    """Not trained this round, older at the target: from the home to a next holder, or
    to one that shall keep a copy."""
    CATCH_UP = "catch_up"
    """As HOME, whatever the plans say that the target has: for one that starts."""
    KEEP = "keep"
    """The newest values from before of what the target reduces and has not got, where
    nobody contributes; ``instead_of`` names the silent reducer whose work it does."""
    RESTORE = "restore"
    """What the target shall have newest, and lacks: cells that it names itself. They
    come, but for what somebody trains in this round."""
    SEEDS = "seeds"
    """What opens a sum of masked contributions, from a holder to the reducer;
    ``asked`` names those whose contributions are lost."""
    EXPORT = "export"
    """Everything that lives at the source as the round begins."""


CONTRIBUTION, FUSED, HOME, KEEP = Hop.CONTRIBUTION, Hop.FUSED, Hop.HOME, Hop.KEEP
RESTORE, SEEDS, EXPORT = Hop.RESTORE, Hop.SEEDS, Hop.EXPORT
"""The same by themselves, for what is asked of every stream again and again: to look up
a member of an enumeration takes Python 3.11 as long as four calls."""

HOPS = {hop.value: hop for hop in Hop}
"""By their names, as streams have them."""

BESIDE = frozenset({EXPORT, RESTORE})
"""Hops that no round waits for."""

ROUND_HOPS = frozenset(Hop) - BESIDE
"""The hops that a round waits for."""
