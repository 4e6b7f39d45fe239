"""What this peer shall have and has not: asked of its own side, said by it, given up.

The protocol knows who shall have what; only the side with the store knows what is
there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfusion.protocol.values import value
from p2pfusion.split.keeping import Cells
from p2pfusion.split.restoring import Versions


@value
class FindLacking:
    """Say which of these cells are older here than the table says, also if none is."""

    round_index: int
    cells: Cells = field(compare=False, repr=False)


@value
class FoundLacking:
    """Of what this peer shall have, these cells are older than the table of homes says:
    as this round began, or of those that ``FindLacking`` has named."""

    round_index: int
    cells: Cells = field(compare=False, repr=False)
    versions: Versions = field(compare=False, repr=False)


@dataclass(frozen=True)
class KeepOld:
    """These cells count as newest here, as they are."""

    round_index: int
    cells: Cells = field(compare=False, repr=False)
