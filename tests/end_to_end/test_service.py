"""A daemon as a service: told to a manager, scraped by Prometheus, logged as JSON."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.programs import (
    PATIENCE_S,
    PROGRAM,
    Program,
    end_marked,
    profile,
)

pytestmark = pytest.mark.slow

SWARM = """
name = "alone"
model = "mlp"
model_arguments = { hidden = [32] }
rounds = 100000
min_peers = 1
learning_rate = 0.1
"""
NOTIFY_S = 2
"""The watchdog of the test's manager: it kills nobody, it only listens."""


@dataclass
class Served:
    """A daemon that runs as a service."""

    program: Program
    process: subprocess.Popen[str]
    manager: socket.socket
    ready: str

    def told(self, wanted: str) -> str:
        """The next message to the manager with such a line, after others perhaps."""
        while True:
            message = self.manager.recv(65_536).decode()
            if any(line.startswith(wanted) for line in message.split("\n")):
                return message


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("served")
    mark = f"{os.getpid()}-{path.name}"
    sections = {
        "peer": 'log_format = "json"',
        "data": "limit = 200",
        "swarm": SWARM,
    }
    founder = str(profile(path / "a.toml", sections))
    program = Program(path / "a", mark)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ExitStack() as stack:
        stack.callback(end_marked, mark)
        stack.enter_context(closing(manager))
        manager.bind(str(path / "notify"))
        manager.settimeout(PATIENCE_S)
        errors = stack.enter_context(open(path / "stderr", "w"))
        process = subprocess.Popen(
            [*PROGRAM, "start", founder, "--metrics", "0"],
            env={
                **program.environment,
                "NOTIFY_SOCKET": str(path / "notify"),
                "WATCHDOG_USEC": str(NOTIFY_S * 1_000_000),
            },
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        stack.enter_context(process)
        assert process.stdout is not None
        yield Served(program, process, manager, process.stdout.readline())


def test_the_manager_hears_ready_and_then_signs_of_life(served: Served) -> None:
    assert served.ready.startswith("READY  pid ")
    assert served.told("READY=1") == "READY=1"
    assert served.told("WATCHDOG=1").startswith("WATCHDOG=1\nSTATUS=")
    done = served.program.run("wait", "--for", "round=1", "--timeout", "240")
    assert done.code == 0, done
    assert served.told("STATUS=round ").startswith("WATCHDOG=1\n")


def test_the_trainer_knows_nothing_of_the_manager(served: Served) -> None:
    (trainer,) = psutil.Process(served.process.pid).children()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & trainer.environ().keys()


def test_prometheus_reads_what_status_says(served: Served) -> None:
    url = served.ready.split()[-1]
    assert url.startswith("http://127.0.0.1:")
    before = served.program.run("status", "--json").data
    with urllib.request.urlopen(url) as answer:
        found = {
            sample.name: sample.value
            for family in text_string_to_metric_families(answer.read().decode())
            for sample in family.samples
            if not sample.labels
        }
    after = served.program.run("status", "--json").data
    assert found["p2pfusion_swarm_rounds"] == 100_000
    low, high = (data["round"]["number"] for data in (before, after))  # type: ignore[index]
    assert low <= found["p2pfusion_round"] <= high


def test_the_log_is_lines_of_json_in_both_places(served: Served) -> None:
    for path in (served.program.home / "daemon.log", served.program.home / "../stderr"):
        lines = [json.loads(line) for line in path.read_text().splitlines()[:-1]]
        kinds = [line["event"]["kind"] for line in lines if "event" in line]
        assert kinds[0] == "daemon-started" and "round-sealed" in kinds, path


def test_it_says_that_it_stops(served: Served) -> None:
    served.process.send_signal(signal.SIGTERM)
    served.told("STOPPING=1")
    assert served.process.wait(PATIENCE_S) == 0
    assert served.program.run("start", "--metrics", "nowhere").code == 8
