"""What hostile peers of an experiment do: a table of attacks, and who carries them out.

All of them are finite values in well-formed streams, but for two. What belongs to the
wire (equivocation, floods, many identities) is no matter of values.
"""

from __future__ import annotations

from p2pfusion.simulation.attacks.hostile import Hostile
from p2pfusion.simulation.attacks.table import ATTACKS, Attack

__all__ = ["ATTACKS", "Attack", "Hostile"]
