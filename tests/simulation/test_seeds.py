"""Many random swarms, and the command that runs many more."""

from __future__ import annotations

import pytest

from p2pfusion.simulation import seeds
from p2pfusion.simulation.faults import Fault, Script

SEEDS, GROUPS = 100, 10
QUICK = 4
"""So many of the groups are in ``make test``; the others are soak tests."""

EACH = [
    pytest.param(group, marks=[] if group < QUICK else pytest.mark.soak)
    for group in range(GROUPS)
]


@pytest.mark.parametrize("group", EACH)
def test_a_hundred_random_swarms_keep_every_promise(group: int) -> None:
    for seed in range(group, SEEDS, GROUPS):
        told = seeds.run_seed(seed)
        assert not told.violations, "\n".join([told.command, *told.violations])


def test_shapes_follow_from_the_seed_and_are_of_many_kinds() -> None:
    shapes = [seeds.random_setting(seed) for seed in range(200)]
    assert shapes == [seeds.random_setting(seed) for seed in range(200)]
    sizes = {shape.peers for shape in shapes}
    assert min(sizes) == seeds.FEWEST and max(sizes) >= seeds.MOST - 2
    assert {shape.rounds for shape in shapes} >= set(range(*seeds.ROUNDS))


def test_processes_give_the_same_in_the_same_order() -> None:
    # Small ones, and more of them than a process is given at once.
    settings = {seed: seeds.random_setting(seed) for seed in range(SEEDS)}
    small = [seed for seed, setting in settings.items() if setting.peers == 3][:6]
    alone = list(seeds.run_seeds(small, 1))
    assert len(alone) == 6
    assert list(seeds.run_seeds(small, 2)) == alone


def test_a_seed_that_fails_is_told_with_the_command_that_shows_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert seeds.main(["--seeds", "2", "--processes", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 seeds, 0 failed, ") and "VIOLATED" not in out

    def for_good(*_: object) -> Script:
        return Script((Fault(0.7, "slow", {"peers": "all", "factor": 1e6}),), "random")

    monkeypatch.setattr("p2pfusion.simulation.run.random_script", for_good)
    assert seeds.main(["--first", "7", "--seeds", "1", "--processes", "1"]) == 1
    out = capsys.readouterr().out
    assert "VIOLATED  " in out and "stall" in out
    assert f"Again     {seeds.random_setting(7).command}\n" in out
