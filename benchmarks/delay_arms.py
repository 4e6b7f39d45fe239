"""What ``delay.py`` compares: the same training, with averages in time and late."""

from __future__ import annotations

from contest import Arm
from width_arms import BLOCKS, MOMENTUM, OUTER, msfusion

LATE = {"--delay": 1}
DWELLS = (4,)
"""Rounds that blocks stay."""

ARMS = {
    f"blocks-momentum-{dwell}{'-late' if options else ''}": msfusion(
        f"the default with dwell {dwell}{', delay 1' if options else ''}",
        options,
        outer_momentum=OUTER,
        **BLOCKS,
        dwell=dwell,
    )
    for dwell in DWELLS
    for options in ({}, LATE)
}
ARMS["small-momentum-late"] = Arm(
    "small model, outer momentum, delay 1",
    "fedavg",
    small=True,
    options=lambda _: {**MOMENTUM, **LATE},
)
PAIRS = {
    "small-momentum-late": "small-momentum",
    **{f"blocks-momentum-{dwell}-late": f"blocks-momentum-{dwell}" for dwell in DWELLS},
}
"""Arms whose averages are late, and the same without."""
