"""What ``wire.py`` compares: the default method, its values in each wire type."""

from __future__ import annotations

from width_arms import BLOCKS, OUTER, msfusion

from p2pfusion.split.forms import WIRE

EXACT = "blocks-momentum"
"""The arm whose values travel as float32: the default, as ``methods.py`` knows it."""

ARMS = {
    f"wire-{name}": msfusion(
        f"the default, as {name}",
        {"--wire-dtype": name},
        outer_momentum=OUTER,
        **BLOCKS,
        dwell=1,
    )
    for name in WIRE
    if name != "float32"
}
