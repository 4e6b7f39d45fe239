"""A swarm that people come to and leave without a word: it goes on, learns, and names
whom it misses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.absences import wrong_names
from tests.end_to_end.churn import EPOCH, churn
from tests.end_to_end.swarm import swarms

MOST_TOLD = 30
LEAST_ACCURACY = 0.92
"""Undisturbed, such swarms reach 0.96; a tenth of the digits is guessed by chance."""


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.alone
def test_a_swarm_that_is_killed_frozen_and_joined_learns_and_names_the_missing(
    tmp_path: Path,
) -> None:
    with swarms() as swarm:
        outcome = churn(swarm, seed=0, folder=tmp_path)
    print(f"accuracy {outcome.accuracy:.3f}, {outcome.seconds:.1f} s in all")
    wrong = wrong_names(outcome.rounds, outcome.absences, rounds_per_epoch=EPOCH)
    assert not wrong, "\n".join([*outcome.told, *wrong[:MOST_TOLD]])
    assert outcome.accuracy >= LEAST_ACCURACY
