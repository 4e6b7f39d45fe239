"""Swarms with members that can only dial out."""

from __future__ import annotations

import pytest

from p2pfusion.simulation.faults import parse_script
from p2pfusion.simulation.run import Setting, simulate
from p2pfusion.simulation.world import World

HIDDEN = ("p2", "p3")


def script(*more: str) -> str:
    hidden = ", ".join(f'"{name}"' for name in HIDDEN)
    first = f'[[fault]]\nat = 0\nkind = "outward"\npeers = [{hidden}]\n'
    return "\n".join((first, *more))


@pytest.fixture
def seen() -> list[World]:
    return []


def run(tmp_path, text: str, seen: list[World], *, peers: int = 4, rounds: int = 8):  # type: ignore[no-untyped-def]
    file = tmp_path / "faults.toml"
    file.write_text(text)
    setting = Setting(peers=peers, rounds=rounds, faults=str(file))
    return simulate(setting, on_world=seen.append)


def test_all_rounds_are_trained_by_all(tmp_path, seen) -> None:  # type: ignore[no-untyped-def]
    outcome = run(tmp_path, script(), seen)
    assert outcome.violations == outcome.gaps == []
    assert outcome.rounds_completed_min == 8
    (world,) = seen
    for name, other in (HIDDEN, HIDDEN[::-1]):
        life = world.machines[name].life
        assert life.relays[other] in ("p0", "p1")
        assert life.heard[other] > 0
