"""Completion: what shells are given, and what they are answered, in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfusion.cli.completion import SHELLS, VARIABLE
from p2pfusion.cli.main import COMMANDS, main
from tests.cli.samples import PEERS
from tests.cli.stub import answering

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "p2pfusion.cli.main"]


def answered(shell: str, typed: str, home: Path) -> list[str]:
    """The lines that a shell's script is given for a line that is being typed."""
    words = typed.split(" ")
    environment = {
        **os.environ,
        "P2PFUSION_HOME": str(home),
        VARIABLE: f"{shell}_complete",
        "COMP_WORDS": typed,
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words) - 1),
    }
    done = subprocess.run(
        PROGRAM, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_calls_this_program(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert VARIABLE in script and f"{shell}_complete" in script


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_are_completed_in_every_shell(shell: str, tmp_path: Path) -> None:
    lines = answered(shell, "p2pfusion sta", tmp_path)
    words = {word for line in lines for word in line.replace(",", "\t").split("\t")}
    assert {"start", "status"} <= words
    assert not words & {"stop", "peers"}


def test_every_command_and_option_can_be_completed(tmp_path: Path) -> None:
    assert answered("bash", "p2pfusion ", tmp_path) == [f"plain,{c}" for c in COMMANDS]
    shown = answered("bash", "p2pfusion round show --s", tmp_path)
    assert shown == ["plain,--schema"]


def test_peers_are_completed_by_name_from_the_daemon(tmp_path: Path) -> None:
    assert answered("bash", "p2pfusion ping l", tmp_path) == []
    with answering(tmp_path, {"peers": PEERS}):
        assert answered("bash", "p2pfusion ping l", tmp_path) == ["plain,lab-c"]
        assert answered("bash", "p2pfusion peer show x", tmp_path) == []


def test_an_unknown_shell_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in capsys.readouterr().err


def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash on this machine")
    program = tmp_path / "p2pfusion"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "cli.py"} "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(p2pfusion completion bash)"\n'
        "COMP_WORDS=(p2pfusion invite cr) COMP_CWORD=2\n"
        "_p2pfusion_completion p2pfusion\n"
        'echo "${COMPREPLY[@]}"\n'
        "complete -p p2pfusion\n"
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "-c", script],
        env={**os.environ, "PATH": path, "P2PFUSION_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=True,
    )
    completed, registered = done.stdout.splitlines()
    assert completed == "create"
    assert "_p2pfusion_completion" in registered
