"""How large swarms bear up: what each peer pays, and how soon all know the same.

    python -m p2pfusion.simulation.storm 150

All start at once and know each other; then newcomers join in a storm; then one in ten
crashes. Looked at from outside once a minute of virtual time. Ends with 1, and says
why, if it cost more than a swarm of any size may.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from p2pfusion.simulation.crowd import acquaint
from p2pfusion.simulation.machine import Machine
from p2pfusion.simulation.run import Setting
from p2pfusion.simulation.world import World
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec

DEFAULT_PEERS = 150
TRAINING_S = 45.0
HANDLING_S = 2e-4
"""What one message costs a daemon: measured on a small machine, without bulk."""

MINUTE_S = 60.0
STARTING_S = 5.0
"""All daemons of the beginning start within so long."""

JOINING_S = 20.0
CALM_MINUTES = 4
LOOK_EVERY_S = 1.0
PATIENCE_S = 900.0

MOST_CONTROL = 4000.0
"""Bytes per second that half of the peers may send at most."""

QUEUED_PER_PEER = 32
"""Messages of each other peer that may wait in front of one at once: a crowd that
starts at once says a few things to everybody, and nobody everything to everybody."""


@dataclass
class Storm:
    """What a run has shown. Bytes are those of frames sent."""

    peers: int
    control_median: float = 0.0
    """Bytes per second of a peer, from the first minute on."""
    control_p99: float = 0.0
    control_worst_minute: float = 0.0
    """Of the peer and the minute in which most was sent, the first included."""
    starting_median: float = 0.0
    """Of the first minute, in which everybody says that it is there."""
    bulk_median: float = 0.0
    """Bytes of values that a peer sends per round."""
    rounds: int = 0
    longest_queue: int = 0
    joined_s: float | None = None
    """From the storm's beginning until all know the same."""
    converged_s: float | None = None
    """From the crash until the survivors agree about the roster."""
    virtual_s: float = 0.0
    violations: list[str] = field(default_factory=list)


def wide_layout(cells: int) -> Layout:
    """One hidden width of many cells, and two parameters."""
    weight, hidden = Initial("uniform", 0.1), Dimension(cells, "h")
    return Layout(
        (Axis("h", cells),),
        (
            ParameterSpec("w1", (hidden, Dimension(16)), weight),
            ParameterSpec("w2", (Dimension(10), hidden), weight),
        ),
    )


class Meter:
    """Reads every machine's counters once a minute."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._last: dict[str, int] = {}
        self._base: dict[str, int] = {}
        self._base_at = 0.0
        self.worst = 0.0
        self._from = world.now

    def begin(self) -> list[float]:
        """From now on it counts; gives the rates until now."""
        rates = self.rates()
        self._base = {n: m.control_bytes for n, m in self._world.machines.items()}
        self._base_at = self._world.now
        return rates

    def rates(self) -> list[float]:
        """Bytes per second of every machine since it counts."""
        seconds = max(self._world.now - self._base_at, 1e-9)
        machines = self._world.machines.items()
        return [(m.control_bytes - self._base.get(n, 0)) / seconds for n, m in machines]

    def read(self) -> None:
        """The minute is over."""
        seconds = max(self._world.now - self._from, 1e-9)
        self._from = self._world.now
        for name, machine in self._world.machines.items():
            sent = machine.control_bytes - self._last.get(name, 0)
            self._last[name] = machine.control_bytes
            self.worst = max(self.worst, sent / seconds)


def prepared(peers: int, *, seats: int, training_s: float = TRAINING_S) -> World:
    """A world in which so many machines know each other, and none runs yet."""
    cells = max(64, 4 * seats)
    setting = Setting(
        peers=peers,
        rounds=1000,
        faults="none",
        network="wan",
        training_s=training_s,
        layout=wide_layout(cells),
        split_fraction=Fraction(max(8, cells // 32), cells),
    )
    world = World(setting.manifest(), conditions=setting.scale.conditions)
    world.handling_s = HANDLING_S
    chance = world.chance("machines")
    names = [f"p{number}" for number in range(peers)]
    for name in names:
        world.add(
            name,
            fraction=str(setting.split_fraction),
            training_s=training_s * chance.uniform(0.8, 1.2),
        )
    acquaint(world, names)
    for name in names:
        world.at(chance.uniform(0.0, STARTING_S), world.start, name)
    return world


def grown(peers: int, minutes: int = CALM_MINUTES) -> Storm:
    """A swarm of so many peers in which nothing goes wrong."""
    world = prepared(peers, seats=peers)
    meter, found = Meter(world), Storm(peers)
    run_minutes(world, meter, 1)
    found.starting_median = float(np.median(meter.begin()))
    run_minutes(world, meter, minutes - 1)
    found.joined_s = found.converged_s = 0.0 if is_agreed(world) else None
    return finished(world, meter, found)


def storm(peers: int) -> Storm:
    """Eight tenths start, two tenths join, and then one in ten crashes at once."""
    members = peers * 8 // 10
    world = prepared(members, seats=peers)
    meter, found = Meter(world), Storm(peers)
    run_minutes(world, meter, 1)
    found.starting_median = float(np.median(meter.begin()))
    chance = world.chance("storm")
    began_at = world.now
    for number in range(members, peers):
        name = f"p{number}"
        world.add(name, fraction=world.machines["p0"].fraction, training_s=TRAINING_S)
        world.at(world.now + chance.uniform(0.0, JOINING_S), _join, (world, name))
    while len(world.alive()) < peers or not is_agreed(world):
        if world.now > began_at + PATIENCE_S:
            return finished(world, meter, found)
        run_minutes(world, meter, 0, LOOK_EVERY_S)
    found.joined_s = world.now - began_at
    run_minutes(world, meter, 1)
    crashed_at = world.now
    for name in chance.sample([f"p{n}" for n in range(1, peers)], peers // 10):
        world.kill(name, power=True)
    while world.now < crashed_at + PATIENCE_S and not is_rid(world):
        run_minutes(world, meter, 0, LOOK_EVERY_S)
    if is_rid(world):
        found.converged_s = world.now - crashed_at
    return finished(world, meter, found)


def _join(what: tuple[World, str]) -> None:
    world, name = what
    world.join(name, "p0")


def run_minutes(world: World, meter: Meter, minutes: int, seconds: float = 0.0) -> None:
    """Lets virtual time pass."""
    for _ in range(minutes):
        world.run(world.now + MINUTE_S)
        meter.read()
    before = world.now
    world.run(before + seconds)
    if before // MINUTE_S != world.now // MINUTE_S:
        meter.read()


def is_agreed(world: World) -> bool:
    """Whether all who live know the same."""
    return len({life.peer.gossip.facts.digest for life in world.alive()}) == 1


def is_rid(world: World) -> bool:
    """Whether all who live know the same, and none of the dead is to stay."""
    lives = world.alive()
    facts = lives[0].peer.gossip.facts
    epochs = facts_epoch(world)
    alive = {life.name for life in lives}
    return is_agreed(world) and {m.peer for m in facts.roster(epochs)} <= alive


def facts_epoch(world: World) -> int:
    """An epoch in which all that is known by now counts."""
    furthest = max(life.peer.gossip.round_index for life in world.alive())
    return world.manifest.epoch(furthest) + 3


def finished(world: World, meter: Meter, found: Storm) -> Storm:
    """Adds up."""
    meter.read()
    machines: list[Machine] = list(world.machines.values())
    median, p99 = np.percentile(meter.rates(), [50, 99]).tolist()
    sent = [m.sent_bytes[n] for m in machines for n in range(m.sealed)]
    found.control_median, found.control_p99 = median, p99
    found.control_worst_minute = meter.worst
    found.bulk_median = float(np.median(sent)) if sent else 0.0
    found.rounds = max(machine.sealed for machine in machines)
    found.longest_queue = max(machine.longest_queue for machine in machines)
    found.virtual_s = world.now
    found.violations = [f"{v.check} {v.text}" for v in world.checks.violations]
    return found


def faults(found: Storm) -> Iterator[str]:
    """What a swarm of any size must not show."""
    yield from found.violations
    if found.joined_s is None:
        yield "the newcomers and the others never knew the same"
    elif found.converged_s is None:
        yield "the dead never left the roster"
    if found.control_median > MOST_CONTROL:
        yield f"half of the peers send more than {MOST_CONTROL:.0f} B/s"
    if found.longest_queue > QUEUED_PER_PEER * found.peers:
        yield f"{found.longest_queue} messages waited in front of one peer"


def main(arguments: list[str]) -> int:
    """Runs a storm of so many peers; gives the exit code."""
    began = time.monotonic()
    found = storm(int(arguments[0]) if arguments else DEFAULT_PEERS)
    wrong = list(faults(found))
    for text in wrong:
        print(f"VIOLATED  {text}")
    joined = "never" if found.joined_s is None else f"{found.joined_s:.0f} s"
    rid = "never" if found.converged_s is None else f"{found.converged_s:.0f} s"
    print(
        f"{found.peers} peers: all known after {joined}, the dead out after {rid}; "
        f"control {found.control_median:,.0f} B/s, p99 {found.control_p99:,.0f}, worst "
        f"minute {found.control_worst_minute:,.0f}; longest queue "
        f"{found.longest_queue}; {time.monotonic() - began:.0f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
