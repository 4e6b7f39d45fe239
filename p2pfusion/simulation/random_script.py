"""Random fault scripts: a few incidents at once, and then calm.

An incident is something bad for a while: a crash and a restart, a partition and its
end. All are over when six tenths of the time have passed, so that the rest shows
whether the swarm recovers. Who stays dead is never more than one peer. The same
arguments give the same script.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from p2pfusion.simulation.faults import ALL, Fault, Script, Value

CALM_SHARE = 0.6
INCIDENT_EVERY = 4.0
"""So many rounds lie between two incidents, in the mean of the fiercest scripts."""

MOST_INCIDENTS = 12
GONE_SHARE = 0.2
"""How often somebody dies for good."""

OUTWARD_SHARE = 0.25
"""How often some peers can only dial out."""

RECOVERED_SHARE = 0.3
"""How often an admin says so."""

STARTED = 3.0
"""In rounds: who dies for good does so after the swarm has begun, or it never would."""


@dataclass
class Stage:
    """What an incident may choose from."""

    chance: random.Random
    names: list[str]
    begin_s: float
    end_s: float
    latest_s: float
    """When the calm begins."""

    def some(self, most: int) -> tuple[str, ...]:
        """One to ``most`` peers."""
        count = self.chance.randint(1, max(1, min(most, len(self.names))))
        return tuple(sorted(self.chance.sample(self.names, count)))

    def within(self) -> float:
        """An instant while the incident lasts."""
        return self.chance.uniform(self.begin_s, self.end_s)


Incident = Callable[[Stage], Iterator[Fault]]


def _fault(at_s: float, kind: str, **values: Value) -> Fault:
    return Fault(round(at_s, 3), kind, values)


def _crash(stage: Stage) -> Iterator[Fault]:
    peers = stage.some(2)
    power = stage.chance.random() < 0.5
    yield _fault(stage.begin_s, "kill", peers=peers, power=power)
    yield _fault(stage.end_s, "restart", peers=peers)


def _lost_writes(stage: Stage) -> Iterator[Fault]:
    peers = stage.some(1)
    slowest = round(stage.chance.uniform(0.05, 1.0), 3)
    yield _fault(stage.begin_s, "lost-writes", peers=peers, sync_s=slowest)
    yield _fault(stage.within(), "kill", peers=peers, power=True)
    yield _fault(stage.end_s, "restart", peers=peers)


def _freeze(stage: Stage) -> Iterator[Fault]:
    peers = stage.some(2)
    yield _fault(stage.begin_s, "pause", peers=peers)
    yield _fault(stage.end_s, "resume", peers=peers)


def _leave_politely(stage: Stage) -> Iterator[Fault]:
    peers = stage.some(2)
    yield _fault(stage.begin_s, "stop", peers=peers)
    yield _fault(stage.end_s, "restart", peers=peers)


def _slow(stage: Stage) -> Iterator[Fault]:
    peers = stage.some(2)
    factor = round(stage.chance.uniform(1.5, 20.0), 2)
    yield _fault(stage.begin_s, "slow", peers=peers, factor=factor)
    yield _fault(stage.end_s, "slow", peers=peers, factor=1.0)


def _trainer(stage: Stage) -> Iterator[Fault]:
    rounds = stage.chance.randint(1, 3)
    yield _fault(stage.begin_s, "fail-trainer", peers=stage.some(2), rounds=rounds)


def _partition(stage: Stage) -> Iterator[Fault]:
    names = stage.chance.sample(stage.names, len(stage.names))
    at = stage.chance.randint(1, max(1, len(names) - 1))
    groups = (tuple(sorted(names[:at])), tuple(sorted(names[at:])))
    if all(groups):
        yield _fault(stage.begin_s, "partition", groups=groups)
        yield _fault(stage.end_s, "heal")


def _one_way(stage: Stage) -> Iterator[Fault]:
    yield _fault(stage.begin_s, "cut", peers=stage.some(2), others=stage.some(9))
    yield _fault(stage.end_s, "heal")


def _rough(stage: Stage) -> Iterator[Fault]:
    chance = stage.chance
    yield _fault(
        stage.begin_s,
        "network",
        peers=ALL if chance.random() < 0.5 else stage.some(2),
        loss=round(chance.uniform(0.0, 0.25), 3),
        duplicates=round(chance.uniform(0.0, 0.2), 3),
        jitter_s=round(chance.uniform(0.0, 0.3), 3),
        in_order=chance.random() < 0.7,
    )
    yield _fault(stage.end_s, "heal")


def _thin(stage: Stage) -> Iterator[Fault]:
    chance = stage.chance
    yield _fault(
        stage.begin_s,
        "network",
        peers=stage.some(2),
        latency_s=round(chance.uniform(0.02, 0.8), 3),
        bytes_per_s=round(chance.uniform(5e3, 5e5)),
    )
    yield _fault(stage.end_s, "heal")


def _clog(stage: Stage) -> Iterator[Fault]:
    ends: dict[str, Value] = {"peers": stage.some(3), "others": stage.some(9)}
    yield _fault(stage.begin_s, "clog", **ends)
    yield _fault(stage.end_s, "unclog", **ends)


def _swizzle(stage: Stage) -> Iterator[Fault]:
    """Everybody's links are clogged one after the other, and freed in another order."""
    for name in stage.chance.sample(stage.names, len(stage.names)):
        clogged, freed = sorted((stage.within(), stage.within()))
        yield _fault(clogged, "clog", peers=(name,))
        yield _fault(freed, "unclog", peers=(name,))


def _break(stage: Stage) -> Iterator[Fault]:
    for _ in range(stage.chance.randint(1, 4)):
        peers, others = stage.some(3), stage.some(9)
        yield _fault(stage.within(), "break", peers=peers, others=others)


def _join(stage: Stage) -> Iterator[Fault]:
    yield _fault(stage.begin_s, "join", ticket=stage.chance.random() < 0.5)


def _storm(stage: Stage) -> Iterator[Fault]:
    count = stage.chance.randint(2, 4)
    pause = round(stage.chance.uniform(0.0, 0.3), 3)
    yield _fault(stage.begin_s, "join-storm", count=count, pause_s=pause)


def _rolling(stage: Stage) -> Iterator[Fault]:
    each = (stage.end_s - stage.begin_s) / len(stage.names)
    down = round(each * stage.chance.uniform(0.1, 0.9), 3)
    yield _fault(
        stage.begin_s,
        "rolling-restart",
        peers=tuple(stage.names),
        down_s=down,
        pause_s=round(each - down, 3),
    )


def _mass(stage: Stage) -> Iterator[Fault]:
    down = round(stage.chance.uniform(0.0, stage.end_s - stage.begin_s), 3)
    power = stage.chance.random() < 0.5
    yield _fault(stage.begin_s, "mass-restart", down_s=down, power=power)


def _leave(stage: Stage) -> Iterator[Fault]:
    """One leaves for good; never the founder, who lets others in."""
    others = stage.names[1:]
    if len(others) > 2:
        name = stage.chance.choice(others)
        yield _fault(stage.begin_s, "leave", peers=(name,))


def _fraction(stage: Stage) -> Iterator[Fault]:
    fraction = stage.chance.choice(("1/4", "1/2", "3/4", "1"))
    yield _fault(stage.begin_s, "fraction", peers=stage.some(2), fraction=fraction)


def _absence(stage: Stage) -> Iterator[Fault]:
    """Somebody is away for as long as there is time: most likely it is given up."""
    kinds = (("kill", "restart"), ("pause", "resume"))
    down, up = kinds[stage.chance.randrange(2)]
    peers = stage.some(2)
    yield _fault(stage.begin_s, down, peers=peers)
    yield _fault(stage.latest_s, up, peers=peers)


def _long_partition(stage: Stage) -> Iterator[Fault]:
    for fault in _partition(stage):
        at_s = stage.latest_s if fault.kind == "heal" else fault.at_s
        yield _fault(at_s, fault.kind, **fault.values)


INCIDENTS: dict[Incident, int] = {
    _crash: 4,
    _lost_writes: 2,
    _freeze: 2,
    _leave_politely: 1,
    _slow: 2,
    _trainer: 2,
    _partition: 2,
    _one_way: 2,
    _rough: 3,
    _thin: 2,
    _clog: 2,
    _swizzle: 1,
    _break: 2,
    _join: 2,
    _storm: 1,
    _rolling: 1,
    _mass: 1,
    _leave: 1,
    _fraction: 1,
    _absence: 2,
    _long_partition: 1,
}
"""How often each kind of incident is drawn, against the others."""

NEWCOMERS = (_join, _storm)


def random_script(
    seed: int, peer_count: int, rounds: int, round_s: float = 1.0
) -> Script:
    """What goes wrong in a swarm that trains so many rounds of about so long."""
    chance = random.Random(f"{seed} faults")
    names = [f"p{number}" for number in range(peer_count)]
    calm = rounds * CALM_SHARE
    calm_s = calm * round_s
    most = min(MOST_INCIDENTS, max(2, round(2 * calm / INCIDENT_EVERY)))
    faults: list[Fault] = []
    gone = _gone(chance, names, STARTED * round_s, calm_s)
    for _ in range(chance.randint(1, most)):
        begin = chance.uniform(0.0, 0.9 * calm_s)
        end = min(calm_s, begin + chance.uniform(0.1, 1.0) * (calm_s - begin))
        incident = chance.choices(list(INCIDENTS), list(INCIDENTS.values()))[0]
        if incident in NEWCOMERS and gone and gone[0].values["peers"] == ("p0",):
            continue  # nobody else admits
        faults += incident(Stage(chance, names, begin, end, calm_s))
    faults += gone + _outward(seed, names)
    back: tuple[str, ...] = tuple(names)
    for fault in gone:
        back = tuple(name for name in names if (name,) != fault.values["peers"])
    faults += [
        _fault(calm_s, "heal"),
        _fault(calm_s, "unclog"),
        _fault(calm_s, "resume", peers=ALL),
        _fault(calm_s, "slow", peers=ALL, factor=1.0),
        _fault(calm_s, "restart", peers=back),
        *(Fault(calm_s, "kill", fault.values) for fault in gone[:1]),
    ]
    return Script(tuple(sorted(faults, key=lambda fault: fault.at_s)), "random")


def _outward(seed: int, names: list[str]) -> list[Fault]:
    """Sometimes up to a third of all can only dial out, all the time.

    Drawn by itself, so that the incidents of a seed are the same with it or without;
    never the founder, by whom the others come in.
    """
    chance = random.Random(f"{seed} outward")
    most = len(names) // 3
    if most < 2 or chance.random() >= OUTWARD_SHARE:
        return []
    peers = chance.sample(names[1:], chance.randint(2, most))
    return [_fault(0.0, "outward", peers=tuple(sorted(peers)))]


def _gone(
    chance: random.Random, names: list[str], started_s: float, calm_s: float
) -> list[Fault]:
    """Sometimes, and where others are left, one dies for good."""
    if len(names) < 3 or calm_s < started_s or chance.random() >= GONE_SHARE:
        return []
    peers = (chance.choice(names),)
    at = chance.uniform(started_s, calm_s)
    found = [_fault(at, "kill", peers=peers)]
    if peers != (names[0],) and chance.random() < RECOVERED_SHARE:
        found.append(_fault(chance.uniform(at, calm_s), "recover", peers=peers))
    return found
