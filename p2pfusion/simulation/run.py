"""One simulation from beginning to end: ``p2pfusion sim``.

Builds a swarm, lets a fault script strike, waits until everybody is done, and tells
what it cost and what was wrong.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from p2pfusion.protocol.course import Standing
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.simulation.accidents import Accidents
from p2pfusion.simulation.checkers import Violation
from p2pfusion.simulation.ending import Ending
from p2pfusion.simulation.eventlog import Watch
from p2pfusion.simulation.faults import Script, check_names, load_script
from p2pfusion.simulation.keys import founder
from p2pfusion.simulation.network import Conditions
from p2pfusion.simulation.random_script import random_script
from p2pfusion.simulation.recovery import LOOK_EVERY_S, Recovery
from p2pfusion.simulation.world import Equip, Make, World, make_peer
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec

FAULTS = ("random", "none")
"""What can stand in place of a script's file."""

JOIN_WITHIN_S = 0.5


@dataclass(frozen=True)
class Scale:
    """What is usual in a kind of network, in virtual seconds."""

    training_s: float
    """A round of training, unless a setting says another."""
    conditions: Conditions


SCALES = {
    "local": Scale(1.0, Conditions()),
    "lan": Scale(3.0, Conditions()),
    "wan": Scale(15.0, Conditions(latency_s=0.04, jitter_s=0.03)),
}
"""By the manifest's key ``network``: who waits longer for others trains longer, too."""
TIME_LIMIT_S = 1e6

COLLECTED_AFTER = 50_000
"""So many new objects more than have gone, and Python looks which are garbage: some
megabytes. With its own 700 that takes a twentieth of the time."""


@dataclass(frozen=True)
class Setting:
    """What a simulation is of; the fields down to ``faults`` are a command line's.

    Machines differ: one trains in 0.8 to 1.2 times ``training_s`` virtual seconds.
    """

    peers: int = 8
    rounds: int = 10
    seed: int = 0
    split_fraction: Fraction = Fraction(1, 2)
    faults: str = "random"
    network: str = "local"
    policy: str = "majority"
    training_s: float = 0.0
    """0 for what is usual in this kind of network."""
    layout: Layout | None = None
    like: Manifest | None = None
    """Model, method and optimiser of the swarm, where numbers matter."""

    @property
    def round_s(self) -> float:
        """How long a round of training takes."""
        return self.training_s or self.scale.training_s

    @property
    def scale(self) -> Scale:
        """What is usual in its network."""
        return SCALES[self.network]

    def script(self) -> Script:
        """The faults; ``ConfigError`` for a file that cannot be meant."""
        if self.faults == "none":
            return Script()
        if self.faults == "random":
            return random_script(self.seed, self.peers, self.rounds, self.round_s)
        script = load_script(Path(self.faults))
        check_names(script, self.peers)
        return script

    def manifest(self) -> Manifest:
        """The swarm's: a small model, epochs so short that several pass."""
        small = self.layout or small_perceptron()
        # Tied windows overlap in more ways than any other: more to go wrong.
        base = self.like or Manifest(
            name="small",
            model="mlp",
            layout=small,
            method_arguments={"shift": "tied", "start": "dense"},
        )
        return replace(
            base,
            name="simulated",
            seed=self.seed,
            rounds=self.rounds,
            rounds_per_epoch=max(2, min(5, self.rounds // 6)),
            min_peers=max(1, self.peers - (self.faults != "none")),
            deadline_min_s=2.0 * max(1.0, self.round_s),
            deadline_max_s=20.0 * max(1.0, self.round_s),
            network=self.network,
            partition_policy=self.policy,
            admission="open",
            founder=founder("p0"),
        )

    @property
    def command(self) -> str:
        """The command line that does this again."""
        train = "" if self.like is None else "--train "
        command = (
            f"p2pfusion sim {train}--peers {self.peers} --rounds {self.rounds} --seed "
            f"{self.seed} --split-fraction {self.split_fraction} --faults {self.faults}"
        )
        if self.network != Setting.network:
            command += f" --network {self.network}"
        if self.policy != Setting.policy:
            command += f" --policy {self.policy}"
        return command


def small_perceptron() -> Layout:
    """Two hidden widths and five parameters: every kind of signature there is."""
    weight, zeros = Initial("uniform", 0.1), Initial("zeros")
    first, second = Dimension(32, "h1"), Dimension(16, "h2")
    return Layout(
        (Axis("h1", 32), Axis("h2", 16)),
        (
            ParameterSpec("w1", (first, Dimension(8)), weight),
            ParameterSpec("b1", (first,), zeros),
            ParameterSpec("w2", (second, first), weight),
            ParameterSpec("b2", (second,), zeros),
            ParameterSpec("b3", (Dimension(10),), zeros),
        ),
    )


@dataclass
class Outcome:
    """What came of a simulation."""

    setting: Setting
    event_log_hash: str
    events: int
    virtual_seconds: float
    rounds_completed_min: int
    roster_convergence_s: float | None
    bytes_per_peer_round: dict[str, float | None]
    control_bytes_per_peer_s: float
    violations: list[Violation] = field(default_factory=list)
    gaps: list[Violation] = field(default_factory=list)
    """What is known not to be built yet, and showed."""
    observed: Counter[str] = field(default_factory=Counter)
    """How often something showed that is not promised not to."""

    def to_data(self) -> dict[str, object]:
        """As ``sim --json`` prints it."""
        setting = self.setting
        return {
            "peers": setting.peers,
            "rounds": setting.rounds,
            "seed": setting.seed,
            "split_fraction": float(setting.split_fraction),
            "faults": setting.faults,
            "network": setting.network,
            "partition_policy": setting.policy,
            "event_log_hash": self.event_log_hash,
            "events": self.events,
            "virtual_seconds": self.virtual_seconds,
            "rounds_completed_min": self.rounds_completed_min,
            "roster_convergence_s": self.roster_convergence_s,
            "bytes_per_peer_round": self.bytes_per_peer_round,
            "control_bytes_per_peer_s": self.control_bytes_per_peer_s,
            "observed": dict(sorted(self.observed.items())),
            "known_gaps": dict(sorted(Counter(g.check for g in self.gaps).items())),
            "violations": [
                {**asdict(each), "replay": setting.command} for each in self.violations
            ],
        }


def simulate(
    setting: Setting,
    *,
    exact: bool = False,
    watch: Watch | None = None,
    make: Make = make_peer,
    on_world: Callable[[World], None] = lambda world: None,
    equip: Equip | None = None,
) -> Outcome:
    """Runs a simulation. ``on_world`` is shown the world before anything happens."""
    world = World(
        setting.manifest(),
        seed=setting.seed,
        conditions=setting.scale.conditions,
        exact=exact,
        watch=watch,
        make=make,
        equip=equip,
    )
    script = setting.script()
    populate(world, setting)
    accidents = Accidents(
        world, script, fraction=str(setting.split_fraction), training_s=setting.round_s
    )
    on_world(world)
    recovery = Recovery(world, accidents.quiet_at + JOIN_WITHIN_S)
    with rarely_collecting():
        while not recovery.is_done() and world.now < TIME_LIMIT_S:
            world.run(world.now + LOOK_EVERY_S)
            if not recovery.look():
                break
        ended_at = world.now
        recovery.export()
        Ending(world, recovery.quiet_at).look()
    return _outcome(world, setting, recovery, ended_at)


@contextmanager
def rarely_collecting() -> Iterator[None]:
    """Python looks for garbage in cycles less often: of all that events make hardly
    anything is, and what is there before does not become any."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(COLLECTED_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def populate(world: World, setting: Setting) -> None:
    """The machines of the beginning: one founds the swarm, the others join it."""
    chance = world.chance("machines")
    for number in range(setting.peers):
        name = f"p{number}"
        training_s = setting.round_s * chance.uniform(0.8, 1.2)
        fraction = str(setting.split_fraction)
        world.add(name, fraction=fraction, training_s=training_s)
    world.found("p0")
    for number in range(1, setting.peers):
        world.at(chance.uniform(0.0, JOIN_WITHIN_S), _join, (world, f"p{number}"))


def _join(what: tuple[World, str]) -> None:
    world, name = what
    world.join(name, "p0")


def _outcome(
    world: World, setting: Setting, recovery: Recovery, ended_at: float
) -> Outcome:
    machines = [m for m in world.machines.values() if m.has_run]
    alive = [
        life.machine
        for life in world.alive()
        if life.peer.standing is not Standing.LEFT
    ]
    sent = [m.sent_bytes[n] for m in machines for n in range(m.sealed)]
    points = np.percentile(sent, [50, 99, 100]).tolist() if sent else [None] * 3
    seconds = max(ended_at, 1e-9) * max(len(machines), 1)
    agreed_at = recovery.agreed_at
    return Outcome(
        setting=setting,
        event_log_hash=world.log.digest,
        events=world.log.lines,
        virtual_seconds=ended_at,
        rounds_completed_min=min((m.sealed for m in alive), default=0),
        roster_convergence_s=(
            None if agreed_at is None else max(0.0, agreed_at - recovery.quiet_at)
        ),
        bytes_per_peer_round=dict(zip(("p50", "p99", "max"), points, strict=True)),
        control_bytes_per_peer_s=sum(m.control_bytes for m in machines) / seconds,
        violations=world.checks.violations,
        gaps=world.checks.gaps,
        observed=world.checks.observed,
    )
