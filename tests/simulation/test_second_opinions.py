"""Whole swarms in virtual time, with stores of their own, in which two reducers lie."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfusion.daemon.payloads import Payloads
from p2pfusion.daemon.sinks import Floats
from p2pfusion.protocol.events import StreamKey
from p2pfusion.protocol.stream import stream_segments
from p2pfusion.simulation.attacks import ATTACKS
from p2pfusion.simulation.checkers import Violation
from p2pfusion.simulation.trained import simulate_training
from tests.simulation.liars import SPECIFICATION, drawn, without

FIRST_LIE = 1


def lying(liars: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Some hand out ten times the opposite of every change that they have fused."""
    honest, turn = Payloads.fused, ATTACKS["reducer"].fused
    assert turn is not None

    def fused(self: Payloads, stream: StreamKey) -> tuple[Floats, np.ndarray]:
        values, absent = honest(self, stream)
        if self.me not in liars or stream.round_index < FIRST_LIE:
            return values, absent
        plan = self._rounds[stream.round_index].plan
        old = self.store.read_flat(stream_segments(plan, stream))
        return turn(old, values), absent

    monkeypatch.setattr(Payloads, "fused", fused)


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
    liars, honest = drawn(seed)
    lying(liars, monkeypatch)
    told = {**SPECIFICATION, "second_opinions": True, "seed": seed}
    outcome, _ = simulate_training(told, faults="none")
    assert [v for v in outcome.violations if not is_about(v, liars)] == []
    assert without(outcome, honest) == dict.fromkeys(honest, liars)
