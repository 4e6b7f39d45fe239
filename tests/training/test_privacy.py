"""Differential privacy of a peer's changes: the clip, the noise, and the accounting."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError, PrivacyBudgetError
from p2pfusion.store import Spent
from p2pfusion.training.data import DataOptions
from p2pfusion.training.loop import Schedule
from p2pfusion.training.models import find_model
from p2pfusion.training.privacy import (
    Privacy,
    PrivateChanges,
    epsilon,
    normal,
    repeatable,
)
from p2pfusion.training.setup import Setup
from p2pfusion.training.trainer import Trainer


def slow_delta(eps: float, multiplier: float) -> float:
    """Balle and Wang, ICML 2018, Theorem 8, of a Gaussian of sensitivity 1."""

    def phi(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    half, ahead = 1 / (2 * multiplier), eps * multiplier
    return phi(half - ahead) - math.exp(eps) * phi(-half - ahead)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.15, 30), st.sampled_from([1e-3, 1e-5, 1e-8]))
def test_epsilon_is_a_tight_upper_bound(multiplier: float, delta: float) -> None:
    found = epsilon(multiplier**-2, delta)
    assert slow_delta(found, multiplier) <= delta
    lower = max(0.0, found - 0.03)
    assert slow_delta(lower, multiplier) >= delta or not lower


def test_where_little_noise_is_left_it_is_an_upper_bound_still() -> None:
    found = epsilon(0.05**-2, 1e-5)
    assert 250 < found < 350
    assert epsilon(0.0, 1e-5) == 0.0


@pytest.mark.parametrize("chance", [None, 3])
def test_noise_is_normal(chance: int | None) -> None:
    privacy = Privacy(1.0)
    if chance is not None:
        privacy = repeatable(privacy, [chance])
    count = 400_000
    found = normal(count, privacy.chance)
    assert abs(found.mean()) < 6 / count**0.5
    assert abs(found.var() - 1) < 6 * (2 / count) ** 0.5
    for at in (-2.0, -1.0, 0.0, 1.0, 2.0):
        share = 0.5 * math.erfc(-at / math.sqrt(2))
        deviation = (share * (1 - share) / count) ** 0.5
        assert abs((found < at).mean() - share) < 6 * deviation
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 6 / count**0.5


def test_no_two_rounds_have_the_same_noise_but_those_of_a_seed() -> None:
    assert not np.array_equal(*(normal(8, Privacy(1.0).chance) for _ in range(2)))
    seeded = [normal(8, repeatable(Privacy(1.0), [1, 2]).chance) for _ in range(2)]
    np.testing.assert_array_equal(*seeded)


@given(
    st.floats(0.01, 100),
    st.floats(0.01, 10),
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
)
@settings(deadline=None, max_examples=30)
def test_a_change_is_clipped_as_a_whole_and_noised(
    length: float, clip: float, sizes: list[int]
) -> None:
    random = np.random.default_rng(1)
    before = [random.normal(size=size).astype(np.float32) for size in sizes]
    change = [random.normal(size=size) for size in sizes]
    norm = math.sqrt(sum(float((each**2).sum()) for each in change))
    change = [each * length / norm for each in change]
    arrays = [(b + c).astype(np.float32) for b, c in zip(before, change, strict=True)]
    privacy = repeatable(Privacy(0.5, clip), [4])
    PrivateChanges(privacy).hide(before, arrays)
    again = repeatable(privacy, [4])
    for old, new, each in zip(before, arrays, change, strict=True):
        noise = 0.5 * clip * normal(old.size, again.chance)
        expected = old + each * min(1.0, clip / length) + noise
        np.testing.assert_allclose(new, expected, rtol=1e-4, atol=1e-4 * max(1, clip))


def test_noise_is_counted_before_it_is_drawn(tmp_path: Path) -> None:
    """A crash can only count noise that nobody has seen."""
    path = tmp_path / "privacy.json"

    def crash(count: int) -> bytes:
        assert Spent.read(path).rounds == 1
        raise KeyboardInterrupt

    private = PrivateChanges(Privacy(2.0, spent=path, chance=crash))
    zeros = [np.zeros(3, np.float32)]
    with pytest.raises(KeyboardInterrupt):
        private.hide(zeros, [np.ones(3, np.float32)])
    assert Spent.read(path).rounds == 1


def test_a_budget_is_never_exceeded_and_no_restart_resets_it(tmp_path: Path) -> None:
    path = tmp_path / "privacy.json"
    privacy = Privacy(4.0, budget=6.0, spent=path)
    zeros, rounds = [np.zeros(3, np.float32)], 0
    with pytest.raises(PrivacyBudgetError, match="spent"):
        while True:
            # Every round by another process.
            PrivateChanges(privacy).hide(zeros, [np.ones(3, np.float32)])
            rounds += 1
    spent = Spent.read(path)
    assert spent.rounds == rounds > 3
    assert spent.epsilon <= 6.0 < spent.next_epsilon
    assert spent.epsilon == pytest.approx(epsilon(rounds / 4, 1e-5))
    with pytest.raises(PrivacyBudgetError):
        PrivateChanges(privacy).check()
    PrivateChanges(replace(privacy, budget=9.0)).check()
    assert Spent.read(path).rounds == rounds


# --- In a trainer --------------------------------------------------------------------


def trainer(privacy: Privacy | None, **changes: object) -> Trainer:
    setup = Setup(
        model="mlp",
        layout=find_model("mlp").layout({}),
        seed=0,
        schedule=Schedule(batch=32, epochs=1, steps=2),
        data=DataOptions.from_data({"kind": "digits"}),
        privacy=privacy,
        **changes,  # type: ignore[arg-type]
    )
    return Trainer(setup)


def one_round(made: Trainer, number: int = 0) -> list[np.ndarray]:
    from p2pfusion.split.segment import Split

    layout = find_model("mlp").layout({})
    split = Split.full(layout)
    found = made.train(
        round_index=number,
        split=split,
        learning_rate=0.1,
        read=lambda segment: np.full(segment.shape, 0.01, np.float32),
    )
    return found.arrays


def test_what_a_trainer_gives_away_is_the_noised_change() -> None:
    quiet = repeatable(Privacy(1e-3, clip=0.01), [0])
    plain = one_round(trainer(None, changes=True))
    hidden = one_round(trainer(quiet, changes=True))
    norm = math.sqrt(sum(float((each**2).sum()) for each in plain))
    assert norm > 0.01
    for change, told in zip(plain, hidden, strict=True):
        np.testing.assert_allclose(told, change * 0.01 / norm, atol=1e-4)


def test_momentum_is_no_change_of_this_peers_data(tmp_path: Path) -> None:
    """It is added after the noise: clipped with it, it would not be what others add."""
    privacy = repeatable(Privacy(1e-3, clip=1e-4), [0])
    made = trainer(privacy, outer_momentum=0.5, past=tmp_path / "past")
    one_round(made)
    made.rest()
    second = one_round(made, 1)
    # Both rounds began with the same values, so the momentum is zero.
    change = [each - 0.01 for each in second]
    assert math.sqrt(sum(float((each**2).sum()) for each in change)) < 2e-4


def test_a_trainer_out_of_budget_does_not_train() -> None:
    made = trainer(Privacy(1.0, budget=0.5))
    with pytest.raises(PrivacyBudgetError):
        one_round(made)
    spent = made.spent
    assert spent is not None and spent.rounds == 0


def test_a_method_that_announces_is_refused() -> None:
    with pytest.raises(ConfigError, match="announce"):
        trainer(Privacy(1.0), summed=True)
