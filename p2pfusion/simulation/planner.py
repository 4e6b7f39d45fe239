"""One planner for all simulated peers: what one has computed, none computes again.

Splits and plans are pure functions, so peers that know the same get the same objects.
What is remembered is named by its content: splits by the digest of the facts and the
round, and again by the roster that the facts amount to; plans by the splits and the
digest of the table of homes. Few rounds are remembered, because peers are never far
apart.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from p2pfusion.methods.base import Member, Method
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.planning import Planner, Splits
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan

KEPT = 256
"""Results of each kind: a dozen rounds, for a dozen opinions about the roster."""

Result = TypeVar("Result")


class Memory:
    """The newest results, each under a name for its content."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._results: dict[Hashable, object] = {}
        self.computed = 0

    def get(
        self, key: Hashable, compute: Callable[..., Result], *given: object
    ) -> Result:
        """The result under this name, which is never None; computed, of what is given,
        if nobody has asked for it lately."""
        found: Result | None = self._results.get(key)  # type: ignore[assignment]
        if found is not None:
            return found
        made = compute(*given)
        self.computed += 1
        self._results[key] = made
        if len(self._results) > self._kept:
            del self._results[next(iter(self._results))]
        return made


class SharedPlanner(Planner):
    """Computes what is asked for the first time."""

    def __init__(self) -> None:
        self._by_facts = Memory()
        self._by_roster = Memory()
        self._plans = Memory()
        self._homes = Memory()

    def splits(
        self, manifest: Manifest, method: Method, facts: FactSet, round_index: int
    ) -> Splits:
        """As the plain one; equal rosters give the very same object."""

        def compute() -> Splits:
            roster = facts.roster(manifest.epoch(round_index))
            found: tuple[tuple[Member, ...], Splits] = self._by_roster.get(
                (manifest.swarm_id, roster, round_index),
                lambda: (roster, plain(manifest, method, facts, round_index)),
            )
            return found[1]

        plain = super().splits
        key = (manifest.swarm_id, facts.digest, round_index)
        return self._by_facts.get(key, compute)

    def plan(
        self,
        manifest: Manifest,
        round_index: int,
        current: Splits,
        following: Splits,
        homes: Homes,
    ) -> ExchangePlan:
        """As the plain one."""
        plain = super().plan
        key = (
            *(manifest.swarm_id, round_index, homes.digest),
            *(_named(current), _named(following)),
        )

        def compute() -> tuple[Splits, Splits, ExchangePlan]:
            made = plain(manifest, round_index, current, following, homes)
            return current, following, made

        # The splits are kept with the plan: while it is, no others can have their ids.
        return self._plans.get(key, compute)[2]

    def homes_after(self, plan: ExchangePlan) -> Homes:
        """As the plain one."""
        made = self._homes.get(id(plan), lambda: (plan, plan.homes_after()))
        return made[1]


def _named(splits: Splits) -> Hashable:
    """A name for these splits: by identity, since equal ones are one object here."""
    return id(splits) if splits else 0
