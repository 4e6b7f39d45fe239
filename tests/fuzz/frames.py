"""Feeds mutated frames to everything that reads bytes of others.

``python -m tests.fuzz.frames --count 1000000 --seed 0`` prints one JSON document: per
target how many frames it got and what came of them, and by how much memory grew.
Progress goes to stderr. The first exception that is not a refusal ends it with exit 1,
and says how to have it again.

A run is a row of *worlds* of ``WORLD_FRAMES`` frames. A world follows from the seed and
its number alone, so that ``--world N`` repeats what happened there, state and all.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from p2pfusion.protocol.manifest import Manifest
from tests.fuzz.corpus import Author
from tests.fuzz.peers import fed
from tests.fuzz.targets import STATELESS, Target
from tests.protocol.swarm import small_manifest

WORLD_FRAMES = 2_000

SHARES = {
    "decode": 24,
    "session": 8,
    "ticket": 6,
    "credential": 8,
    "manifest": 4,
    "banner": 2,
    "newcomer": 14,
    "member": 10,
    "admin": 10,
    "trainer": 8,
    "fetcher": 4,
    "misled": 2,
}
"""Of a hundred frames, how many each target gets."""

MANIFESTS: list[Manifest] = [
    small_manifest(rounds=32),
    small_manifest(rounds=5, admission="ticket", method="fedrolex"),
    small_manifest(rounds=5, admission="pending", weighting="samples", min_peers=1),
    small_manifest(rounds=5, pretrained="ab" * 32),
]
"""The last one begins with a checkpoint."""


class Finding(Exception):
    """Code has raised what it may not raise."""


@dataclass
class Tally:
    """What came of all frames."""

    frames: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)

    def note(self, target: str, outcome: str) -> None:
        """One frame more."""
        self.frames[target] += 1
        self.outcomes.setdefault(target, Counter())[outcome] += 1


def worlds(count: int) -> Iterator[tuple[int, int]]:
    """The numbers of the worlds of a run, and how many frames each gets."""
    for number in range(-(-count // WORLD_FRAMES)):
        yield number, min(WORLD_FRAMES, count - number * WORLD_FRAMES)


def alone(seed: int, number: int, count: int) -> int:
    """One world of so many frames, of a campaign; the exit code."""
    try:
        play(seed, number, count, Tally())
    except Finding as finding:
        traceback.print_exception(finding.__cause__, file=sys.stderr)
        print(finding, file=sys.stderr)
        return 1
    return 0


def play(seed: int, number: int, frames: int, tally: Tally) -> None:
    """One world; ``Finding`` says how to have it again."""
    rng = random.Random(f"{seed}/{number}")
    damage = rng.choice((0.03, 0.1, 0.4))
    authors = [Author(rng, manifest, damage=damage) for manifest in MANIFESTS]
    targets: list[Target] = [make(rng, rng.choice(authors)) for make in STATELESS]
    targets += fed(rng, authors)
    by_name = {target.name: target for target in targets}
    assert by_name.keys() == SHARES.keys()
    names, weights = list(SHARES), list(SHARES.values())
    for step, name in enumerate(rng.choices(names, weights, k=frames)):
        target = by_name[name]
        try:
            tally.note(name, target.attempt())
        except Exception as error:
            shown = " ".join(frame.hex() for frame in target.frames)
            where = f"seed {seed}, world {number}, step {step}, target {name}"
            raise Finding(f"{where}\nframes: {shown}") from error
    for name, target in by_name.items():
        try:
            target.finish()
        except Exception as error:
            where = f"seed {seed}, world {number}, at the end, target {name}"
            raise Finding(where) from error


def peak_memory_bytes() -> int:
    """The most that this process has ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run(seed: int, count: int, only: int | None) -> dict[str, object]:
    """All worlds, or one; the document."""
    tally = Tally()
    began = time.monotonic()
    baseline = 0
    for number, frames in worlds(count):
        if only is not None and number != only:
            continue
        play(seed, number, frames, tally)
        # Modules, tables and caches are there after the first world.
        baseline = baseline or peak_memory_bytes()
        if number % 25 == 24:
            done, seconds = tally.frames.total(), time.monotonic() - began
            print(f"{done} frames, {seconds:.0f} s", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    return {
        "seed": seed,
        "frames": tally.frames.total(),
        "seconds": round(seconds, 1),
        "frames_per_second": round(tally.frames.total() / seconds),
        "peak_memory_growth_bytes": peak_memory_bytes() - baseline,
        "findings": 0,
        "targets": {
            name: {
                "frames": tally.frames[name],
                "outcomes": dict(tally.outcomes.get(name, Counter()).most_common()),
            }
            for name in SHARES
        },
    }


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.frames")
    parser.add_argument("--count", type=int, default=1_000_000, help="frames in all")
    parser.add_argument("--seed", type=int, default=0, help="another run than others")
    parser.add_argument("--world", type=int, help="play this one world only")
    parser.add_argument("--frames", type=int, help="... which has so many frames")
    given = parser.parse_args(arguments)
    if given.world is not None and given.frames is not None:
        return alone(given.seed, given.world, given.frames)
    try:
        found = run(given.seed, given.count, given.world)
    except Finding as finding:
        traceback.print_exception(finding.__cause__, file=sys.stderr)
        number = str(finding).split("world ")[1].split(",")[0]
        again = f"--seed {given.seed} --count {given.count} --world {number}"
        print(f"{finding}\nagain: python -m tests.fuzz.frames {again}", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
