"""Slow lines: each byte of the plan goes over them once, however long that takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfusion.protocol.course import Standing
from p2pfusion.simulation.network import Conditions
from p2pfusion.simulation.run import Setting, populate
from p2pfusion.simulation.world import World
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.plan import ExchangePlan, Hop

FLOAT_BYTES = 4
PEERS, ROUNDS = 3, 3
LONG_S = 20_000.0


def wide(width: int) -> Layout:
    """A perceptron whose streams have some MiB each."""
    uniform = Initial("uniform", 0.1)
    first, second = Dimension(width, "h1"), Dimension(width, "h2")
    return Layout(
        (Axis("h1", width), Axis("h2", width)),
        (
            ParameterSpec("w1", (first, Dimension(64)), uniform),
            ParameterSpec("w2", (second, first), uniform),
        ),
    )


def planned_bytes(world: World, plans: dict[int, ExchangePlan]) -> int:
    """What all send each other in all rounds, by the plans."""
    hops = (Hop.CONTRIBUTION, Hop.FUSED, Hop.HOME)
    names = list(world.machines)
    elements = (
        plan.elements(hop.value, source, target, "")
        for number, plan in plans.items()
        if number < ROUNDS
        for hop in hops
        for source in names
        for target in names
        if source != target
    )
    return FLOAT_BYTES * sum(elements)


def run(width: int, conditions: Conditions) -> tuple[int, int]:
    """Bytes sent, and planned, of a whole swarm."""
    layout = wide(width)
    setting = Setting(PEERS, ROUNDS, faults="none", layout=layout, training_s=10.0)
    manifest = replace(setting.manifest(), deadline_max_s=LONG_S, deadline_min_s=20.0)
    world = World(manifest, conditions=conditions)
    plans: dict[int, ExchangePlan] = {}
    populate(world, setting)
    while world.now < LONG_S:
        world.run(world.now + 1.0)
        for life in world.alive():
            plans |= life.plans
        standings = [life.peer.standing for life in world.alive()]
        if standings == [Standing.DONE] * PEERS:
            break
    assert not world.checks.violations
    machines = world.machines.values()
    assert [machine.sealed for machine in machines] == [ROUNDS] * PEERS
    sent = sum(machine.sent_bytes[t] for machine in machines for t in range(ROUNDS))
    return sent, planned_bytes(world, plans)


@pytest.mark.parametrize("bytes_per_s", [20e3, 50e3, 100e3])
def test_a_slow_line_carries_the_plan_and_little_else(bytes_per_s: float) -> None:
    sent, planned = run(1_600, Conditions(bytes_per_s=bytes_per_s))
    assert planned > 25 << 20
    assert planned <= sent <= 1.05 * planned


def test_a_fast_line_carries_the_plan_exactly() -> None:
    sent, planned = run(1_600, Conditions())
    assert sent == planned


def test_what_a_slow_line_loses_is_sent_once_more() -> None:
    conditions = Conditions(bytes_per_s=20e3, loss=0.1)
    sent, planned = run(1_600, conditions)
    assert planned < sent < 1.5 * planned
