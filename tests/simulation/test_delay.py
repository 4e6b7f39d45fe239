"""Averages that come a round late, in simulated swarms with real numbers.

Every peer "trains" by adding to its values what only the round, the peer and the place
decide. Then the model that comes of it follows from sums alone: what it began with, and
every round the mean of what the peers have added. However late averages come, nothing
may be lost, and nothing count twice.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.protocol.manifest import Manifest
from p2pfusion.simulation.numbers import Floats, Numbers, Read, Trained
from p2pfusion.simulation.run import Setting, simulate, small_perceptron
from p2pfusion.simulation.trained import simulate_training
from p2pfusion.simulation.world import World
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from tests.simulation.unmasked import no_secret

PEERS, ROUNDS = 3, 6
METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "whole": ("fedavg", {}),
    "moving": ("msfusion", {"shift": "tied", "start": "dense", "dwell": 3}),
    "blocks": ("msfusion", {"start": "dense", "dwell": 2}),
}


def setting(kind: str, seed: int, *, delay: int = 1, **told: object) -> Setting:
    method, arguments = METHODS[kind]
    like = Manifest(
        name="small",
        model="mlp",
        layout=small_perceptron(),
        method=method,
        method_arguments=arguments,
        delay=delay,
    )
    values = {"peers": PEERS, "rounds": ROUNDS, "seed": seed, "like": like, **told}
    return Setting(**values)  # type: ignore[arg-type]


def added(layout: Layout, peer: str, round_index: int) -> list[Floats]:
    """What a peer's training adds to the whole model; quarters, so sums are exact."""
    random = np.random.default_rng([int(peer.removeprefix("p")), round_index])
    return [
        random.integers(-64, 64, parameter.shape).astype(np.float32) / 4
        for parameter in layout.parameters
    ]


def trained_models(chosen: Setting, root: Path) -> tuple[dict[str, list[Floats]], int]:
    """What every peer's store has at the end, and how many trainings went on."""
    manifest, worlds, ahead = chosen.manifest(), list[World](), 0
    layout = manifest.layout

    def equip(name: str) -> Numbers:
        def train(round_index: int, split: Split, read: Read) -> Trained:
            changes, arrays = added(layout, name, round_index), []
            for segment in split.segments(layout):
                rows = (np.fromiter(indices, np.int64) for indices in segment.sets)
                change = changes[segment.parameter][np.ix_(*rows)]
                arrays.append(read(segment) + change)
            return Trained(arrays, 10, 1.0, 1.0)

        directory = root / name
        directory.mkdir(parents=True, exist_ok=True)
        return Numbers(name, directory, manifest, train, no_secret)

    def watch(line: str) -> None:
        nonlocal ahead
        ahead += line.startswith("train ") and line.endswith(" on")

    outcome = simulate(chosen, equip=equip, on_world=worlds.append, watch=watch)
    assert outcome.violations == []
    full = Split.full(layout)
    models = {
        life.name: [life.numbers.store.read(s).copy() for s in full.segments(layout)]
        for life in worlds[0].alive()
        if life.numbers is not None
    }
    return models, ahead


@pytest.mark.parametrize("delay", [0, 1])
def test_nothing_is_lost_and_nothing_counts_twice(delay: int, tmp_path: Path) -> None:
    chosen = setting("whole", 4, delay=delay, split_fraction=Fraction(1), faults="none")
    models, ahead = trained_models(chosen, tmp_path)
    layout, peers = chosen.manifest().layout, sorted(models)
    assert len(peers) == PEERS and ahead == (delay and PEERS * (ROUNDS - 1))
    untrained, _ = trained_models(
        dataclasses.replace(chosen, rounds=1), tmp_path / "one"
    )
    begun = [
        model - np.mean([added(layout, peer, 0)[n] for peer in peers], axis=0)
        for n, model in enumerate(untrained[peers[0]])
    ]
    for n, start in enumerate(begun):
        wanted = start + sum(
            np.mean([added(layout, peer, number)[n] for peer in peers], axis=0)
            for number in range(ROUNDS)
        )
        for peer in peers:
            np.testing.assert_allclose(models[peer][n], wanted, atol=1e-3)


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize(
    "seed", [*(2, 4), *(pytest.param(n, marks=pytest.mark.soak) for n in range(5, 20))]
)
def test_a_swarm_keeps_its_promises_whatever_goes_wrong(
    kind: str, seed: int, tmp_path: Path
) -> None:
    chosen = setting(kind, seed, peers=3 + seed % 4, rounds=12)
    _, ahead = trained_models(chosen, tmp_path)
    assert ahead


def test_a_delay_hides_the_exchange_where_lines_are_slow() -> None:
    """Rounds last for the longer of training and exchange, not for both."""
    told = {"network": "wan", "training_s": 0.5, "faults": "none", "rounds": 20}
    seconds = [
        simulate(setting("whole", 3, delay=delay, **told)).virtual_seconds
        for delay in (0, 1)
    ]
    assert seconds[1] < seconds[0] - 19 * 0.08  # there and back, twice


@pytest.mark.parametrize("faults", ["none", "random"])
def test_a_swarm_learns_with_late_averages(faults: str) -> None:
    outcome, found = simulate_training(
        {
            **{"model": "mlp", "peers": 4, "rounds": 20, "split_fraction": "0.5"},
            **{"data": {"kind": "digits"}, "seed": 1, "delay": 1},
            **{"method_arguments": {"dwell": 4}, "outer_momentum": 0.6},
            "partition": {"rule": "dirichlet", "alpha": 0.5},
        },
        faults=faults,
    )
    assert outcome.violations == []
    assert found is not None and found.accuracy >= 0.8
