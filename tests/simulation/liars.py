"""Swarms in which some lie: who they are, and who goes on without whom in the end."""

from __future__ import annotations

import random

from p2pfusion.simulation.run import Outcome

PEERS, LIARS, ROUNDS = 10, 2, 20

SPECIFICATION: dict[str, object] = {
    "model": "mlp",
    "data": {"kind": "digits"},
    "partition": {"rule": "dirichlet", "alpha": 0.3},
    "peers": PEERS,
    "split_fraction": "0.5",
    "fusion": "trimmed",
    "rounds": ROUNDS,
}

NAMES = [f"p{number}" for number in range(PEERS)]


def drawn(seed: int) -> tuple[set[str], set[str]]:
    """Who lies, and who does not."""
    liars = set(random.Random(f"{seed} liars").sample(NAMES, LIARS))
    return liars, set(NAMES) - liars


def without(outcome: Outcome, honest: set[str]) -> dict[str, set[str]]:
    """Of each honest peer whom it goes on without."""
    return {
        peer: {
            violation.text.split("without ")[1].split(":")[0]
            for violation in outcome.violations
            if violation.check == "wrongly convicted" and violation.peer == peer
        }
        for peer in honest
    }
