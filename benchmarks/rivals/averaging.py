"""The averaging step alone: four peers have an array each, then the mean of all.

hivemind averages an array in memory. Ours is a round of real daemons with whole models
of the same size: what they fused is on their disks, synced, before a round is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from math import isqrt
from pathlib import Path

from contestants import (
    LIMIT_S,
    MATCHMAKING,
    PEERS,
    Contestant,
    directory_of,
    notes,
    profile,
    programs,
    settings_of,
)
from network import Meter, run
from ours import swarm

STEPS = 10
"""Of hivemind in one run: half of each kind."""

ROUNDS = 6
"""Of ours in one run; the first, in which everybody connects, is left out."""

ALL_REDUCE, WHOLE_STEP = "hivemind, all-reduce alone", "hivemind, whole step"
HIVEMIND_PROCESSOR = "hivemind, processor time of a step"
OUR_PROCESSOR = "p2pfusion, processor time of a round, training and all"
LAST_OFFER = "p2pfusion, from the last offer on"

Seconds = dict[str, list[float]]


def widths(mib: int) -> tuple[int, ...]:
    """Of a perceptron with two equal hidden layers and about so many MiB of float32."""
    elements, ends = mib << 18, 64 + 10
    # h * h + (ends + 2) * h + 10 = elements
    half = (ends + 2) // 2
    hidden = isqrt(elements - 10 + half * half) - half
    return (64, hidden, hidden, 10)


def hivemind_steps(mib: int, home: Path) -> Seconds | str:
    """Seconds of every step, from the last peer's begin to the last peer's end; or why
    there are none."""
    system = {**MATCHMAKING, "elements": float(mib << 18)}
    settings = replace(settings_of(rounds=STEPS, keep_every=0), system=system)
    contestant = Contestant("", "hivemind", peer="hivemind_average.py")
    with directory_of(settings, 0) as root:
        meter = Meter()
        with meter.running():
            failed = run(programs(contestant, settings, root, home), LIMIT_S)
        if failed:
            return failed
        found = list(notes(root))
    seconds: Seconds = {WHOLE_STEP: [], ALL_REDUCE: [], HIVEMIND_PROCESSOR: []}
    whole, alone, used = seconds.values()
    for number in range(2, STEPS):  # in the first of each kind everybody connects
        mine = [note for note in found if note["number"] == number]
        begins = [float(str(n["at"])) for n in mine if n["event"] == "begin"]
        ends = [float(str(n["at"])) for n in mine if n["event"] == "end"]
        assert len(begins) == len(ends) == PEERS
        (alone if number % 2 else whole).append(max(ends) - max(begins))
        used.append(meter.processor_s(max(begins), max(ends)))
    return seconds


def our_exchanges(mib: int) -> Seconds:
    """Seconds of every round's exchange, of the slowest peer.

    Values begin to move when the first peer has offered, so the exchange after the last
    offer can be shorter than an exchange; from the first offer on it is never less, and
    has a part of the others' training in it. Training is one step on one record. Rounds
    that somebody missed are left out.
    """
    settings = settings_of(rounds=ROUNDS, keep_every=0, widths=widths(mib))
    told: Mapping[str, object] = {
        **{"method": "fedavg", "local_steps": 1, "momentum": 0.0},
        # By the rules of a local network, a daemon whose loop does not run for half a
        # second has slept, and listens before it goes on. Busy cores do that to it.
        **{"batch": 1, "network": "wan", "deadline_min_s": 30.0},
    }
    contestant = Contestant("", swarm=told)
    profiles = [profile(contestant, settings, 0, rank) for rank in range(PEERS)]
    meter = Meter()
    with (
        meter.running(),
        directory_of(settings, 0) as root,
        swarm(root / "homes", profiles) as daemons,
    ):
        for daemon in daemons:
            daemon.wait("done")
        rounds = [daemon.rounds() for daemon in daemons]
        sealed = [daemon.sealed() for daemon in daemons]
        ends = [max(each) for each in zip(*sealed, strict=False)]
    by_number: dict[int, list[dict[str, dict[str, float]]]] = {}
    for row in (row for each in rounds for row in each):
        by_number.setdefault(int(str(row["number"])), []).append(row)
    after_last, after_first, whole = [], [], []
    for number in range(1, ROUNDS):
        rows = by_number.get(number, [])
        if len(rows) == PEERS and not any(row["missing"] for row in rows):
            phases = [row["phases"] for row in rows]
            after_last.append(max(p["exchange"] for p in phases))
            after_first.append(max(p["offers"] + p["exchange"] for p in phases))
            whole.append(max(sum(p.values()) for p in phases))
    return {
        LAST_OFFER: after_last,
        "p2pfusion, from the first offer on": after_first,
        "p2pfusion, whole round": whole,
        OUR_PROCESSOR: [meter.processor_s(a, b) for a, b in pairwise(ends)],
    }
