"""A real daemon that hides its data: what it contributes, counts, and stops at."""

from __future__ import annotations

import pytest

from p2pfusion.training.privacy import epsilon
from tests.end_to_end.swarm import QUICK, Daemon, Data, Swarm, gather, share

pytestmark = [pytest.mark.slow, pytest.mark.soak]

ROUNDS = 5
NOISE = 8.0
COUNTED = 2
"""As many rounds as the budget has room for."""


def spent_after(rounds: int) -> float:
    return epsilon(rounds * (2 / NOISE) ** 2, 1e-5)


def privacy_of(daemon: Daemon) -> Data:
    found = daemon.ask("status")["privacy"]
    assert isinstance(found, dict)
    return found


def test_a_peer_stops_contributing_at_its_budget_and_no_restart_resets_it(
    swarm: Swarm,
) -> None:
    budget = (spent_after(COUNTED) + spent_after(COUNTED + 1)) / 2
    # So small a clip that the others' training shows through the noise.
    privacy = {"noise": NOISE, "clip": 1e-4, "epsilon": budget}
    # Nobody is given up while the accountant is imported, however busy the machine is.
    patient = {"deadline_min_s": 100.0, "deadline_max_s": 200.0}
    founded = {"method": "fedavg", "rounds": ROUNDS, "min_peers": 3}
    settings = {**QUICK, **patient, **founded}
    made = [
        swarm.add(
            peer={"privacy": privacy} if number == 2 else {},
            data=share(number, 3),
            swarm=settings if number == 0 else None,
        )
        for number in range(3)
    ]
    gather(made)
    for daemon in made:
        daemon.wait("done")
    private, other = made[2], made[0]
    told = privacy_of(private)
    assert (told["rounds"], told["spent"]) == (COUNTED, True)
    assert told["epsilon"] == pytest.approx(spent_after(COUNTED))
    assert other.ask("status")["privacy"] is None
    health = private.ask("status")["health"]
    assert isinstance(health, list)
    (line,) = [each for each in health if each["code"] == "privacy"]
    assert line["level"] == "info" and "contributes nothing" in line["message"]
    missed = {
        row["number"] for row in other.rounds() if private.peer in str(row["missing"])
    }
    assert missed == set(range(COUNTED, ROUNDS))
    private.kill()
    private.start()
    private.wait("done")
    assert privacy_of(private) == told
