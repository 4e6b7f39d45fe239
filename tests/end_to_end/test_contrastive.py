"""The contrastive objective from the command line and from a profile to the trainer."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfusion.daemon.presets import PRESETS
from tests.end_to_end.programs import Program
from tests.end_to_end.swarm import QUICK, Daemon, Swarm, share

pytestmark = pytest.mark.slow

ROUNDS = 4
ARGUMENTS = '{"hidden": [32, 32], "projection": 16}'
SIM = (
    *("sim", "--train", "--json", "--rounds", str(ROUNDS), "--limit", "400"),
    *("--split-fraction", "0.5", "--model-arguments", ARGUMENTS),
)


def test_a_simulated_contrast_is_another_curve_at_the_right_cost(
    tmp_path: Path,
) -> None:
    program = Program(tmp_path)
    task, found = (
        program.run(*SIM, "--objective", name).data for name in ("task", "contrastive")
    )
    assert task["objective"] == "task" and found["objective"] == "contrastive"
    assert found["curve"][0] == task["curve"][0]  # type: ignore[index]
    assert found["curve"][1:] != task["curve"][1:]  # type: ignore[index]
    # Multiply-adds of half of both widths; nothing runs beside the first round.
    hidden, head, projection = 64 * 16 + 16 * 16, 16 * 10, 16 * 16
    plain = 3 * (hidden + head)
    contrasted = plain + 3 * projection + 2 * (hidden + projection)
    ratio = (plain + (ROUNDS - 1) * contrasted) / (ROUNDS * plain)
    cost = "train_flops_per_peer_round"
    assert found[cost] == pytest.approx(float(str(task[cost])) * ratio)
    again = program.run(*SIM, "--objective", "contrastive").data
    assert again["curve"] == found["curve"]


def test_the_preset_trains(tmp_path: Path) -> None:
    done = Program(tmp_path).run(*SIM, "--preset", "paper")
    assert done.code == 0, done.err
    arguments = PRESETS["paper"]["method_arguments"]
    assert done.data["objective"] == "contrastive"
    assert done.data["method_arguments"] == arguments


def losses(daemon: Daemon) -> list[float]:
    """Of the rounds in their order."""
    found = sorted(daemon.rounds(), key=lambda r: int(str(r["number"])))
    return [float(str(r["loss"])) for r in found]


@pytest.mark.soak
def test_the_objective_of_a_swarm_is_what_its_daemons_train(swarm: Swarm) -> None:
    """Two swarms of one peer and one seed: their losses part in the second round."""
    settings = {
        **QUICK,
        "model_arguments": {"hidden": [32, 32], "projection": 16},
        "min_peers": 1,
    }
    options = {"objective": "contrastive", "objective_arguments": {"weight": 2.0}}
    data = share(0, 4)
    plain = swarm.add(data=data, swarm=settings)
    contrasting = swarm.add(data=data, swarm={**settings, **options})
    for daemon in (plain, contrasting):
        daemon.start()
    for daemon in (plain, contrasting):
        daemon.wait("done")
    first, second, third = zip(losses(plain), losses(contrasting), strict=True)
    assert first[0] == first[1]
    assert second[0] < second[1]
    assert third[0] != third[1]


@pytest.mark.soak
def test_a_swarm_by_preset_trains_and_a_wrong_one_is_not_founded(swarm: Swarm) -> None:
    settings = {**QUICK, "preset": "paper"}
    made = swarm.add(data=share(0, 2), swarm={**settings, "min_peers": 2})
    other = swarm.add(data=share(1, 2))
    made.start()
    other.start("--join", made.ticket())
    for daemon in (made, other):
        daemon.wait("done")
    assert [r["missing"] for r in made.rounds()] == [[]] * 3
    wrong = {"preset": "paper", "outer_momentum": 0.5}
    bare = {"objective": "contrastive"}
    for changed, told in ((wrong, "outer_momentum"), (bare, "with a projection")):
        refused = swarm.add(data=share(0, 2), swarm={**QUICK, **changed})
        refused.launch()
        code, words = refused.ended()
        assert code == 8 and told in words, words
