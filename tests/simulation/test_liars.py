"""Whole swarms in virtual time, in which two offer lies, and each judges by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfusion.daemon.payloads import Payloads
from p2pfusion.simulation.attacks import Hostile
from p2pfusion.simulation.trained import simulate_training
from p2pfusion.split.segment import Split
from tests.simulation.liars import NAMES, SPECIFICATION, drawn, without


def lying(
    attack: str, liars: set[str], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What some have trained is changed between their trainer and the offer."""
    honest, made = Payloads.offered, list[Hostile]()

    def offered(
        self: Payloads,
        round_index: int,
        path: Path,
        split: Split,
        since: Path | None = None,
    ) -> None:
        if self.me in liars:
            if not made:
                layout, peers = self.store.layout, sorted(liars)
                told = {"seed": seed, "layout": layout, "changes": True}
                made.append(Hostile(attack, peers, **told))  # type: ignore[arg-type]
            made[0].tamper(round_index, {self.me: (split, path)}, self.store.read)
        honest(self, round_index, path, split, since)

    monkeypatch.setattr(Payloads, "offered", offered)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 10))]
)
def test_who_repeats_itself_comes_into_quarantine_at_those_who_add_it_up(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Every second peer holds the same blocks as it, and in no round another."""
    liars, honest = drawn(seed)
    lying("stale", liars, seed, monkeypatch)
    outcome, _ = simulate_training({**SPECIFICATION, "seed": seed}, faults="none")
    found = without(outcome, honest)
    for blocks in (NAMES[0::2], NAMES[1::2]):
        for peer in found.keys() & set(blocks):
            assert found[peer] == liars & set(blocks)
