"""What a simulated machine remembers, and finds out, where reducers are checked.

Without real numbers all say the same, and nobody is ever caught.
"""

from __future__ import annotations

from p2pfusion.protocol import events as e
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.simulation.machine import Life
from p2pfusion.split.grid import Mask
from p2pfusion.split.plan import ExchangePlan


def note_lacking(life: Life, plan: ExchangePlan, manifest: Manifest) -> None:
    """A round begins: what of its old values can be kept for later, as a backup."""
    if manifest.weighs:
        for number in [n for n in life.lacked if n not in life.plans]:
            del life.lacked[number]
        life.lacked[plan.round_index] = life.holdings.older(plan)


def caught(life: Life) -> list[e.Event]:
    """A sum was closed, or second opinions were compared: who was caught."""
    if life.numbers is None:
        return []
    found = list[e.Event](life.numbers.caught)
    life.numbers.caught.clear()
    return found


def moved(life: Life, round_index: int) -> e.Moved:
    """By how much a sum has changed what was here; all the same without numbers."""
    return e.Moved(round_index, 1.0 if life.numbers is None else life.numbers.moved)


def changeable(life: Life, key: tuple[int, str], present: Mask | None) -> Mask | None:
    """Of fused ranges those to which changes could be added."""
    number, instead_of = key
    plan = life.plans[number]
    if number == max(life.plans):
        own = life.reductions[key].own_ranges(plan, life.name, instead_of)
        return life.holdings.changeable(plan, instead_of, present, own)
    lacked = life.lacked.get(number)
    return life.holdings.remembered(plan, instead_of, present, lacked)
