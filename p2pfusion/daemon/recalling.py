"""Sums that are closed by whom remembers what the contributors have said before."""

from __future__ import annotations

from dataclasses import replace

from p2pfusion.fusion import Deviation, StreamingSum
from p2pfusion.fusion.repeating import LastSaid
from p2pfusion.fusion.robust import RobustChange
from p2pfusion.split.grid import Counts
from p2pfusion.split.plan import ExchangePlan

NOTHING = Deviation(0.0, 0.0, 0)
"""Of who shares too little with others to be compared with them."""


def close(
    total: StreamingSum, last_said: LastSaid, plan: ExchangePlan, ranges: Counts
) -> None:
    """Closes a sum of these ranges; where a rule looks at each contribution, it is told
    how much is new in it."""
    if not isinstance(total, RobustChange):
        total.close()
        return
    numbers, elements = last_said.sample.inside(plan.segments(ranges.tolist()))
    total.look_at(elements)
    total.close()
    last_said.keep(plan.peers)
    for peer, values in total.sayings.items():
        news, recalled = last_said.compare(peer, plan.round_index, numbers, values)
        found = total.deviations.get(peer, NOTHING)
        total.deviations[peer] = replace(found, news=news, recalled=recalled)
