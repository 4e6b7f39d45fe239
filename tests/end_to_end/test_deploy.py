"""What deploy/ starts, with processes of one machine for containers and nodes."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.programs import (
    MARK,
    PATIENCE_S,
    ROOT,
    Program,
    end_marked,
    profile,
)

pytestmark = pytest.mark.slow

WAIT = ("--timeout", "240")


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[str]:
    found = f"{os.getpid()}-{tmp_path.name}"
    with ExitStack() as stack:
        stack.callback(end_marked, found)
        yield found


@pytest.mark.soak
def test_the_commands_of_the_compose_file_make_a_swarm_of_four(
    mark: str, tmp_path: Path
) -> None:
    folder = ROOT / "deploy" / "container"
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    programs: dict[str, Program] = {}
    founder = "nowhere"
    for name, service in compose["services"].items():
        words = shlex.split(service["command"])
        moved = {"peer-0:7788": founder, "0.0.0.0:9464": "0"}
        words = [moved.get(word, word) for word in words]
        words[1] = f"{folder}{words[1]}"
        program = programs[name] = Program(tmp_path / name, mark)
        here = ("--listen", "127.0.0.1:0", "--detach", "--json")
        done = program.run(*words, *here)
        assert done.code == 0, done
        founder = str(done.data["address"]) if name == "peer-0" else founder
    for program in programs.values():
        done = program.run("wait", "--for", "round=1", *WAIT)
        assert done.code == 0, done
    status = programs["peer-0"].run("status", "--json").data
    assert status["roster"]["members"] == 4  # type: ignore[index]


@pytest.mark.soak
def test_two_tasks_of_a_job_train_and_leave_the_model(
    mark: str, tmp_path: Path
) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash on this machine")
    data = 'partition = { rule = "iid", share = "SHARE/2" }\nlimit = 200'
    swarm = (
        'name = "job"\nmodel = "mlp"\nmodel_arguments = { hidden = [32] }\n'
        "rounds = 2\nmin_peers = 2\nlearning_rate = 0.1"
    )
    environment = {
        **os.environ,
        **{MARK: mark, "RUN": str(tmp_path), "SLURM_NTASKS": "2"},
        **{"LISTEN": "127.0.0.1", "PORT": "0"},
        "P2PFUSION": f"{sys.executable} {ROOT / 'cli.py'}",
        "PROFILE": str(profile(tmp_path / "peer.toml", {"data": data})),
        "SWARM": str(profile(tmp_path / "swarm.toml", {"swarm": swarm})),
    }
    tasks = [
        subprocess.Popen(
            [bash, str(ROOT / "deploy" / "slurm" / "peer.sh")],
            env={**environment, "SLURM_PROCID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    for task in tasks:
        out, _ = task.communicate(timeout=PATIENCE_S)
        assert task.returncode == 0, out
    assert (tmp_path / "model.safetensors").stat().st_size > 0
    assert (tmp_path / "ticket").stat().st_mode & 0o077 == 0
    for number in range(2):
        found = Program(tmp_path / f"peer-{number}", mark).run("status")
        assert found.code == 3, "nothing is left of the job"
