"""The tutorial from its first block to its last, as two people would go through it.

Its first block installs; here the program of this checkout is taken.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from tests.end_to_end.pages import TICKET, Machine, Page
from tests.end_to_end.programs import ROOT

RESOURCES_EXIT = 12
"""Of an export: some ranges could not be had; it says to try again."""

pytestmark = pytest.mark.slow

PATH = ROOT / "docs" / "tutorial.md"
TUTORIAL = Page.read(PATH)


def test_what_it_installs_is_there() -> None:
    clone, make, activate = TUTORIAL.blocks[0]
    assert clone.startswith("git clone <this repository>")
    done = subprocess.run(
        [*make.split(), "--dry-run", "--always-make"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done
    where = activate.split()[-1].removesuffix("/bin/activate")
    assert f" -m venv {where}\n" in done.stdout


def test_two_people_follow_it(machines: Callable[[str], Machine]) -> None:
    """Who types which block, in order; each is named where it stands in the page."""
    anna, ben = machines("anna"), machines("ben")
    for machine in (anna, ben):
        for name, text in TUTORIAL.files.items():
            machine.write(name, text)
    found, join, model, own, own_anna, own_ben, *rest = TUTORIAL.blocks[1:]

    _typed(anna, found, ticket_for=ben)
    assert "Swarm   digits" in _typed(ben, join)[-1]
    evaluated = _typed(ben, model)[2]
    assert float(evaluated.split()[1]) > 95
    _typed(anna, model[-1:])

    for machine in (anna, ben):
        _typed(machine, own)
    _typed(anna, own_anna, ticket_for=ben)
    _typed(ben, own_ben)

    status, kill, silent, back, rounds, export, end = rest
    assert "Swarm   bars" in _typed(ben, status)[0]
    _typed(ben, kill)
    while "peer-silent: ben" not in _typed(anna, silent)[1]:
        pass  # it is noticed within seconds
    _typed(ben, back)
    assert "MISSING" in _typed(anna, rounds)[0]
    while ben.run(export[0]).code == RESOURCES_EXIT:
        pass  # it is back, and has not caught up
    told = _typed(ben, export[1:])
    assert float(told[0].split()[1]) > 90
    _typed(anna, end)


def _typed(
    machine: Machine, block: tuple[str, ...], ticket_for: Machine | None = None
) -> list[str]:
    """Every line of a block must work; what each printed."""
    printed = [machine.succeeds(line) for line in block]
    if ticket_for is not None:
        shown = {TICKET.search(os.linesep.join(b)) for b in TUTORIAL.blocks} - {None}
        ticket = printed[-1].strip()
        ticket_for.copied |= {found[0]: ticket for found in shown if found}
    return printed
