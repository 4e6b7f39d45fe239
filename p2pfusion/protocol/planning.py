"""From facts to splits, and from splits to plans.

Both are pure functions, and peers that know the same facts compute the same. A peer has
a ``Planner`` of its own; whoever keeps many peers in one process can give them one that
remembers.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pfusion.methods.base import Method, PlanContext
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan, plan_round
from p2pfusion.split.segment import Split

Splits = Mapping[str, Split]


class Planner:
    """Computes everything when it is asked for."""

    def splits(
        self, manifest: Manifest, method: Method, facts: FactSet, round_index: int
    ) -> Splits:
        """Every member's split in a round, by these facts."""
        roster = facts.roster(manifest.epoch(round_index))
        context = PlanContext(manifest.seed, manifest.rounds, manifest.layout, roster)
        return {
            member.peer: method.split(context, round_index, rank)
            for rank, member in enumerate(roster)
        }

    def plan(
        self,
        manifest: Manifest,
        round_index: int,
        current: Splits,
        following: Splits,
        homes: Homes,
    ) -> ExchangePlan:
        """The plan of a round; ``LayoutError`` if the table of homes does not fit."""
        return plan_round(
            manifest.layout,
            seed=manifest.seed,
            round_index=round_index,
            current=current,
            following=following,
            homes=homes,
            replication=manifest.replication,
            among_holders=manifest.sends_changes,
        )

    def homes_after(self, plan: ExchangePlan) -> Homes:
        """The table of homes when a round has gone as planned."""
        return plan.homes_after()


PLANNER = Planner()
