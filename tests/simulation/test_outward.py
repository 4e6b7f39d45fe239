"""Swarms with members that can only dial out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfusion.simulation.run import Outcome, Setting, simulate
from p2pfusion.simulation.world import World

ROUNDS = 8
HIDDEN = ("p3", "p4")
OUTWARD = """
[[fault]]
at = 0
kind = "outward"
peers = ["p3", "p4"]
"""
KILLED = """
[[fault]]
at = 4.5
kind = "kill"
peers = ["{relay}"]
"""
RESTARTED = """
[[fault]]
at = 4.5
kind = "mass-restart"
down_s = 1
"""

Run = Callable[[str], tuple[World, Outcome]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a script, which must break no promise."""

    def done(script: str) -> tuple[World, Outcome]:
        file, seen = tmp_path / "faults.toml", list[World]()
        file.write_text(script)
        setting = Setting(peers=5, rounds=ROUNDS, faults=str(file))
        outcome = simulate(setting, on_world=seen.append)
        assert outcome.violations == outcome.gaps == []
        return seen[0], outcome

    return done


def relays(world: World) -> list[str]:
    """Whom each of the two has chosen to reach the other."""
    found = []
    for name, other in (HIDDEN, HIDDEN[::-1]):
        life = world.machines[name].life
        assert life is not None and life.heard[other] > 0
        found.append(life.relays[other])
    return found


def test_all_train_all_rounds_and_both_have_chosen_the_same_relay(run: Run) -> None:
    world, outcome = run(OUTWARD)
    assert outcome.rounds_completed_min == ROUNDS
    first, second = relays(world)
    assert first == second and first not in HIDDEN


def test_when_the_relay_dies_in_the_middle_another_takes_over(run: Run) -> None:
    before, _ = run(OUTWARD)
    relay = relays(before)[0]
    world, outcome = run(OUTWARD + KILLED.format(relay=relay))
    assert outcome.rounds_completed_min == ROUNDS
    assert relay not in relays(world)


def test_all_find_each_other_after_all_have_started_again(run: Run) -> None:
    _, outcome = run(OUTWARD + RESTARTED)
    assert outcome.rounds_completed_min == ROUNDS
