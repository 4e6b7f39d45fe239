"""Whole swarms in virtual time, with stores of their own, in which two reducers lie."""

from __future__ import annotations

import random

import numpy as np
import pytest

from p2pfusion.daemon.payloads import Payloads
from p2pfusion.daemon.round_numbers import RoundNumbers
from p2pfusion.daemon.sinks import Floats
from p2pfusion.protocol.events import StreamKey
from p2pfusion.protocol.stream import stream_segments
from p2pfusion.simulation.attacks import ATTACKS
from p2pfusion.simulation.checkers import Violation
from p2pfusion.simulation.trained import simulate_training

PEERS, LIARS, FIRST_LIE = 10, 2, 1

SPECIFICATION: dict[str, object] = {
    "model": "mlp",
    "data": {"kind": "digits"},
    "partition": {"rule": "dirichlet", "alpha": 0.3},
    "peers": PEERS,
    "split_fraction": "0.5",
    "fusion": "trimmed",
    "second_opinions": True,
}


def lying(liars: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Some hand out ten times the opposite of every change that they have fused."""
    honest, turn = Payloads._fused, ATTACKS["reducer"].fused
    assert turn is not None

    def fused(
        self: Payloads, numbers: RoundNumbers, stream: StreamKey
    ) -> tuple[Floats, np.ndarray]:
        values, absent = honest(self, numbers, stream)
        if self.me not in liars or stream.round_index < FIRST_LIE:
            return values, absent
        old = self.store.read_flat(stream_segments(numbers.plan, stream))
        return turn(old, values), absent

    monkeypatch.setattr(Payloads, "_fused", fused)


def is_about(violation: Violation, liars: set[str]) -> bool:
    """Whether it says that somebody goes on without a liar: so it should."""
    quarantined = violation.check == "wrongly convicted"
    return quarantined and any(f"without {liar}:" in violation.text for liar in liars)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 20))]
)
def test_lying_reducers_come_into_quarantine_everywhere_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    names = [f"p{number}" for number in range(PEERS)]
    liars = set(random.Random(f"{seed} liars").sample(names, LIARS))
    lying(liars, monkeypatch)
    told = {**SPECIFICATION, "seed": seed, "rounds": 20}
    outcome, _ = simulate_training(told, faults="none")
    assert [v for v in outcome.violations if not is_about(v, liars)] == []
    found = {
        (violation.peer, liar)
        for violation in outcome.violations
        for liar in liars
        if f"without {liar}:" in violation.text
    }
    honest = set(names) - liars
    assert {pair for pair in found if pair[0] in honest} == {
        (peer, liar) for peer in honest for liar in liars
    }
