"""Averages that come a round late: where that can be, and where it means nothing.

With ``delay = 1`` a peer whose split stays trains the next round while the present one
is exchanged. It goes on from its own contribution y, for the average x of it and the
others' is still on its way. What training makes of y is z; when the average is here,

    x + (z - y)

is what the peer contributes to the next round, and goes on from. So nothing that it has
trained is lost, and what the others have changed reaches it a round late.

Source: CoCoD-SGD (Shen et al., arXiv 1906.12043), which averages whole models while all
train on. Differs: a split that moves is not trained before its values are here, so only
rounds between two moves are overlapped.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from p2pfusion.errors import ConfigError
from p2pfusion.methods.base import Member, Method, PlanContext
from p2pfusion.split.layout import Layout

LOOKED_AT = 64
"""Rounds of a method that are looked at: one whose splits ever stay shows it early."""


def check_delay(method: Method, layout: Layout, objective: str, sent: str) -> None:
    """``ConfigError`` where averages must not be late, or never are. ``sent``: whether
    contributions are ``values`` or ``changes``."""
    if sent == "changes":
        raise ConfigError(
            "delay = 1 needs contributions that are values, and here they are changes",
            hint="leave out delay, or choose another method or wire_dtype",
        )
    if objective == "contrastive":
        raise ConfigError(
            "the objective 'contrastive' compares with what a peer received, which "
            "comes after training with delay = 1",
            hint="leave out delay, or choose another objective",
        )
    if layout.axes and not stays(method, layout):
        raise ConfigError(
            "delay = 1 means nothing here: no split stays from one round to the next",
            hint="set dwell in method_arguments to several rounds, or leave out delay",
        )


def stays(method: Method, layout: Layout) -> bool:
    """Whether a peer's split ever stays from one round to the next."""
    members = tuple(Member(name, Fraction(1, 2)) for name in ("a", "b"))
    context = PlanContext(0, LOOKED_AT, layout, members)
    splits = [method.split(context, number, 0) for number in range(LOOKED_AT)]
    return any(now == then for now, then in pairwise(splits))
