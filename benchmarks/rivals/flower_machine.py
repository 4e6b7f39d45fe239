"""Flower, SuperLink and SuperNodes: what runs on one machine, by its rank.

    python flower_machine.py DIRECTORY RANK

A peer's machine runs a SuperNode; the server's runs the SuperLink, submits the app to
it, and ends when the app says that it is over.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from task import LOOK_S, Task

PORT = 41_000
HERE = Path(__file__).resolve().parent
PROGRAMS = Path(sys.executable).parent
CONNECTION = """[superlink]
default = "rivals"

[superlink.rivals]
address = "{address}"
insecure = true
"""
TRIES_S = 60.0


def supernode(task: Task, server: str) -> None:
    """Becomes the SuperNode."""
    program = str(PROGRAMS / "flower-supernode")
    words = ["--superlink", server, "--node-config", f"rank={task.rank}"]
    os.execv(program, [program, "--insecure", *words])


def superlink(task: Task, server: str) -> None:
    """Runs the SuperLink, and the app on it."""
    host, _, port = server.partition(":")
    program = str(PROGRAMS / "flower-superlink")
    # What the app needs is there already; nothing is to be looked for in a registry.
    words = ["--insecure", "--disable-runtime-dependency-installation"]
    link = subprocess.Popen([program, *words, "--host", host, "--port", port])
    settings = Path(os.environ["FLWR_HOME"])
    settings.mkdir(exist_ok=True)
    (settings / "config.toml").write_text(CONNECTION.format(address=server))
    command = [str(PROGRAMS / "flwr"), "run", str(HERE / "flower_app"), "rivals"]
    command += ["--run-config", f'directory="{task.directory}"']
    end = time.monotonic() + TRIES_S
    while subprocess.run(command).returncode:
        if time.monotonic() > end or link.poll() is not None:
            sys.exit("the SuperLink takes no app")
    while not (task.directory / "over").exists():
        if link.poll() is not None:
            sys.exit("the SuperLink has ended")
        time.sleep(LOOK_S)
    link.terminate()
    link.wait()


def main() -> None:
    """One or the other."""
    directory, rank = Path(sys.argv[1]), int(sys.argv[2])
    # What it starts finds the task's module, and no settings of the user's.
    os.environ["PYTHONPATH"] = str(HERE)
    os.environ["PATH"] = os.pathsep.join([str(PROGRAMS), os.environ["PATH"]])
    os.environ["FLWR_HOME"] = str(directory / f"flower-{rank}")
    task = Task(directory, rank)
    server = f"{task.settings.addresses[-1]}:{PORT}"
    if rank == task.settings.peers:
        superlink(task, server)
    else:
        supernode(task, server)


if __name__ == "__main__":
    main()
