"""Swarms of real daemons: what they compute, and what they send.

The model that a swarm ends with is compared with the experiment runner, which has no
network, and with a plain torch loop, which has no plan either.
"""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from p2pfusion.daemon.presets import suited
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.transfer import STALLED_RETRY_S, window_bytes
from tests.end_to_end.swarm import (
    DIRICHLET,
    PATIENCE_S,
    QUICK,
    Daemon,
    Swarm,
    exported,
    planned,
    swarms,
)

pytestmark = pytest.mark.slow

PEERS = 4
ROUNDS = 3
FLOAT_BYTES = 4
ANSWER_S = 20.0
"""Less than ten thousand epochs take anywhere, and more than a busy machine needs."""
MOST_SUB_MODELS = 4.2
"""Sent plus received by one peer in one round, of whatever swarm."""


@pytest.fixture(scope="module")
def finished() -> Iterator[list[Daemon]]:
    """Four daemons that have trained half of the model each, three times."""
    with swarms() as made:
        daemons = made.start(PEERS, method="msfusion", rounds=ROUNDS, validation=0.0)
        for daemon in daemons:
            daemon.wait("done")
        yield daemons


# --- What is sent --------------------------------------------------------------------


def assert_bytes_as_planned(daemons: list[Daemon]) -> None:
    """Every value arrives once. It also leaves once, but in a round so long that
    somebody may have asked again for what was on its way."""
    rows = [daemon.rounds() for daemon in daemons]
    for number, (plan, splits) in enumerate(planned(daemons[0])):
        here = [of_daemon[number] for of_daemon in rows]
        is_quick = max(float(str(row["seconds"])) for row in here) < STALLED_RETRY_S
        for row, (peer, split) in zip(here, sorted(splits.items()), strict=True):
            sent, received = row["payload_sent_bytes"], row["payload_received_bytes"]
            assert isinstance(sent, int) and isinstance(received, int)
            planned_bytes = plan.elements_sent(peer) * FLOAT_BYTES
            assert sent == planned_bytes if is_quick else sent >= planned_bytes
            assert received == plan.elements_received(peer) * FLOAT_BYTES
            own = split.size(plan.layout) * FLOAT_BYTES
            assert 0 < planned_bytes + received <= MOST_SUB_MODELS * own


def test_the_values_on_the_wire_are_those_of_the_plan(finished: list[Daemon]) -> None:
    assert_bytes_as_planned(finished)


@pytest.mark.soak
def test_a_larger_swarm_sends_no_more_per_peer(swarm: Swarm) -> None:
    daemons = swarm.start(8, method="msfusion", rounds=2, local_steps=2)
    for daemon in daemons:
        daemon.wait("done")
    assert_bytes_as_planned(daemons)


@pytest.mark.soak
def test_streams_longer_than_their_credit_arrive_to_the_byte(
    swarm: Swarm, tmp_path: Path
) -> None:
    large: dict[str, object] = {"model_arguments": {"hidden": [2048, 2048]}}
    daemons = swarm.start(
        2,
        method="fedavg",
        rounds=2,
        local_steps=1,
        peer={"split_fraction": 1.0},
        **large,
    )
    for daemon in daemons:
        daemon.wait("done")
    plan, _ = next(planned(daemons[0]))
    assert plan.elements_sent(daemons[0].peer) * FLOAT_BYTES > window_bytes("fused")
    assert_bytes_as_planned(daemons)
    models = [exported(d, tmp_path / f"{i}.st") for i, d in enumerate(daemons)]
    for name, values in models[0].items():
        np.testing.assert_array_equal(values, models[1][name])


# --- What is computed ----------------------------------------------------------------


def by_the_runner(directory: Path, **told: object) -> dict[str, np.ndarray]:
    """The model that comes of the same swarm without a network."""
    from p2pfusion.simulation.design import Experiment
    from p2pfusion.simulation.experiment import Course

    settings = {k: v for k, v in QUICK.items() if not k.startswith(("name", "dead"))}
    fields = {
        **settings,
        "peers": PEERS,
        "split_fraction": "1/2",
        "data": {"kind": "digits"},
        "partition": DIRICHLET,
        "method": "msfusion",
        **told,
    }
    course = Course.create(Experiment.of(suited(fields)), directory)
    course.run(lambda message: None)
    (runner,) = course.swarms
    return runner.values()


def test_the_swarm_computes_what_the_experiment_runner_computes(
    finished: list[Daemon], tmp_path: Path
) -> None:
    found = exported(finished[1], tmp_path / "model.safetensors")
    for name, true in by_the_runner(tmp_path, rounds=ROUNDS).items():
        np.testing.assert_allclose(found[name], true, rtol=1e-5, atol=1e-7)


@pytest.mark.soak
def test_with_late_averages_and_blocks_that_move_it_does_so_too(
    swarm: Swarm, tmp_path: Path
) -> None:
    told = {"rounds": 7, "delay": 1, "method_arguments": {"dwell": 3}}
    daemons = swarm.start(PEERS, method="msfusion", **told)
    for daemon in daemons:
        daemon.wait("done")
    found = exported(daemons[1], tmp_path / "model.safetensors")
    for name, true in by_the_runner(tmp_path, **told).items():
        np.testing.assert_allclose(found[name], true, rtol=1e-4, atol=1e-6)


def test_every_peer_assembles_the_same_model(
    finished: list[Daemon], tmp_path: Path
) -> None:
    models = [exported(d, tmp_path / f"{i}.st") for i, d in enumerate(finished[::3])]
    assert models[0].keys() == models[1].keys()
    for name, values in models[0].items():
        np.testing.assert_array_equal(values, models[1][name])


def plain_federated_averaging(manifest: Manifest, peers: int) -> list[np.ndarray]:
    """FedAvg on an MLP in plain torch: no split, no plan, no store, no descent.

    With a delay a peer goes on from what it gave, and gives the average of before with
    what its training has changed.
    """
    import torch
    from torch import nn

    from p2pfusion.store import initial_values
    from p2pfusion.training.data import DataOptions, load, own_records
    from p2pfusion.training.loop import batch_generator

    torch.set_num_threads(1)
    layout, seed = manifest.layout, manifest.seed
    model = [
        torch.tensor(initial_values(layout, seed, index, 0, parameter.shape[0]))
        for index, parameter in enumerate(layout.parameters)
    ]
    shares = []
    for number in range(peers):
        partition = {**DIRICHLET, "share": f"{number}/{peers}"}
        options = DataOptions.from_data({"kind": "digits", "partition": partition})
        records = load(options, "train")
        assert records is not None
        own, _ = own_records(records, options, seed)
        shares.append(own.batch(torch.arange(len(own)), torch.device("cpu")))
    given = [[values.double() for values in model]] * peers
    for number in range(manifest.rounds):
        trained = []
        for rank, (images, labels) in enumerate(shares):
            module = nn.Sequential(
                nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32),
                nn.ReLU(), nn.Linear(32, 10),
            )  # fmt: skip
            begun = given[rank] if manifest.delay else model
            with torch.no_grad():
                for parameter, values in zip(module.parameters(), begun, strict=True):
                    parameter.copy_(values)
            rate = manifest.learning_rate_at(number)
            optimiser = torch.optim.SGD(module.parameters(), rate, momentum=0.9)
            counts = labels.bincount(minlength=10) + 1
            prior = (counts / counts.sum()).log()
            order = torch.randperm(
                len(labels), generator=batch_generator(seed, number, rank)
            )
            for chosen in order.split(manifest.batch):
                optimiser.zero_grad()
                logits = module(images[chosen]) + prior
                nn.functional.cross_entropy(logits, labels[chosen]).backward()
                nn.utils.clip_grad_norm_(module.parameters(), manifest.clip)
                optimiser.step()
            triples = zip(model, module.parameters(), begun, strict=True)
            trained.append([x + (z.detach().double() - y) for x, z, y in triples])
        given = trained
        model = [
            torch.stack(list(same)).mean(0).float()
            for same in zip(*trained, strict=True)
        ]
    return [values.numpy() for values in model]


@pytest.mark.parametrize(
    ("method", "delay"),
    [("fedavg", 0), ("fedavg", 1), pytest.param("msfusion", 0, marks=pytest.mark.soak)],
)
def test_with_whole_models_the_swarm_is_federated_averaging(
    swarm: Swarm, tmp_path: Path, method: str, delay: int
) -> None:
    """Or CoCoD-SGD, where averages come a round late."""
    whole = {"split_fraction": 1.0}
    none = {"outer_momentum": 0.0, "delay": delay}
    daemons = swarm.start(3, method=method, rounds=ROUNDS, peer=whole, **none)
    for daemon in daemons:
        daemon.wait("done")
    packed = str(daemons[0].ask("plan")["manifest"])
    manifest = Manifest.from_bytes(base64.b64decode(packed))
    expected = plain_federated_averaging(manifest, 3)
    found = exported(daemons[2], tmp_path / "model.safetensors")
    for parameter, true in zip(manifest.layout.parameters, expected, strict=True):
        np.testing.assert_allclose(found[parameter.name], true, rtol=1e-5, atol=1e-6)


# --- Two processes per peer ----------------------------------------------------------


def libraries(pid: int) -> str:
    """What a process has mapped."""
    return Path(f"/proc/{pid}/maps").read_text()


def test_the_daemon_has_no_torch_and_its_trainer_has(finished: list[Daemon]) -> None:
    for daemon in finished:
        assert "libtorch" not in libraries(daemon.pid)
        assert "libtorch" in libraries(daemon.trainer.pid)


def test_everything_that_a_daemon_imports_leaves_torch_alone() -> None:
    program = "import sys, p2pfusion.daemon.assemble, p2pfusion.cli.main; "
    program += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_daemon_answers_while_its_trainer_works(swarm: Swarm) -> None:
    (daemon,) = swarm.start(1, local_epochs=10_000, rounds=2)
    daemon.wait("round=0")
    trainer = daemon.trainer
    while "step" not in str(daemon.ask("status")["round"]):
        assert trainer.is_running()
    answers = [daemon.client.call("status", timeout_s=ANSWER_S) for _ in range(50)]
    for status in answers:
        assert isinstance(status, dict)
        assert status["self"]["trainer"] == "training"
        (waiting,) = status["round"]["waiting_for"]
        assert waiting["peer"] == "p0" and "of" in waiting["reason"]
    daemon.kill()
    assert psutil.wait_procs([trainer], timeout=PATIENCE_S)[1] == []


def test_a_stopped_daemon_takes_its_trainer_with_it(swarm: Swarm) -> None:
    daemon = swarm.add(data={"kind": "digits"})
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 0)):
        daemon.start()
        trainer = daemon.trainer
        assert daemon.process is not None
        daemon.process.send_signal(number)
        assert daemon.ended()[0] == code
        assert psutil.wait_procs([trainer], timeout=PATIENCE_S)[1] == []
        assert not (daemon.home / "control.sock").exists()
