"""Many swarms at once: random shapes, random faults, one seed after the other.

    python -m p2pfusion.simulation.seeds --seeds 1000 --processes 2

Prints every seed that breaks a promise of the protocol, with the command that does the
same again, and ends with 1 if there was one. ``make sim`` runs it.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction

from p2pfusion.simulation.run import Outcome, Setting, simulate

FEWEST, MOST = 3, 24
"""Peers of the beginning."""

SMALLER = 1.5
"""Small swarms are drawn more often, for they cost less: 1 would be as often for each
doubling."""

ROUNDS = (8, 14)
FRACTIONS = ("1/4", "1/2", "3/4")
NETWORKS = {"local": 6, "lan": 2, "wan": 1}
POLICIES = {"majority": 5, "fork": 1}
"""How often each is drawn, against the others."""

TOLD_EVERY = 100


@dataclass(frozen=True)
class Told:
    """What is told of one seed."""

    command: str
    violations: tuple[str, ...]
    gaps: frozenset[str]
    """Known ones."""
    observed: frozenset[str]
    events: int


def random_setting(seed: int) -> Setting:
    """A swarm in which something goes wrong; its shape follows from the seed, too."""
    chance = random.Random(f"{seed} shape")
    return Setting(
        peers=round(FEWEST * (MOST / FEWEST) ** chance.random() ** SMALLER),
        rounds=chance.randint(*ROUNDS),
        seed=seed,
        split_fraction=Fraction(chance.choice(FRACTIONS)),
        network=chance.choices(list(NETWORKS), list(NETWORKS.values()))[0],
        policy=chance.choices(list(POLICIES), list(POLICIES.values()))[0],
    )


def told(outcome: Outcome) -> Told:
    """An outcome as plain text, as it travels between processes."""
    found = (f"{v.at_s:.3f} {v.check} {v.peer}: {v.text}" for v in outcome.violations)
    gaps = frozenset(gap.check for gap in outcome.gaps)
    observed = frozenset(outcome.observed)
    return Told(outcome.setting.command, tuple(found), gaps, observed, outcome.events)


def run_seed(seed: int) -> Told:
    """One random swarm."""
    return told(simulate(random_setting(seed)))


def run_seeds(seeds: Sequence[int], processes: int) -> Iterator[Told]:
    """All of these, in order."""
    if processes == 1:
        yield from map(run_seed, seeds)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run_seed, seeds, chunksize=4)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args(arguments)
    seeds = range(given.first, given.first + given.seeds)
    began, failed, events = time.monotonic(), 0, 0
    gaps, observed = Counter[str](), Counter[str]()
    for count, each in enumerate(run_seeds(seeds, given.processes), 1):
        gaps.update(each.gaps)
        observed.update(each.observed)
        if each.gaps:
            print(f"Gap       {', '.join(sorted(each.gaps))}\nAgain     {each.command}")
        events += each.events
        if each.violations:
            failed += 1
            print(f"VIOLATED  {each.violations[0]}\nAgain     {each.command}")
        if count % TOLD_EVERY == 0 or count == len(seeds):
            seconds = time.monotonic() - began
            print(
                f"{count} seeds, {failed} failed, {events:,} events, {seconds:.0f} s",
                flush=True,
            )
    for what, counts in (("Known gaps", gaps), ("Observed", observed)):
        if counts:
            pairs = (f"{check} {count}" for check, count in sorted(counts.items()))
            print(f"{what}: {', '.join(pairs)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
