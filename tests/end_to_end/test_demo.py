"""The demo as users run it: what it reaches, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.programs import PATIENCE_S, Program, end_marked, marked

pytestmark = pytest.mark.slow


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """A demo whose temporary files and processes can be told from all others."""
    mark = f"{os.getpid()}-{tmp_path.name}"
    made = Program(tmp_path / "home", mark)
    # A short path: the daemons' local sockets lie below it.
    with tempfile.TemporaryDirectory(prefix="t-") as temporary:
        made.environment["TMPDIR"] = temporary
        try:
            yield made
        finally:
            end_marked(mark)


def assert_nothing_left(program: Program, patience_s: float = 0.0) -> None:
    mark = program.environment["P2PFUSION_TEST_MARK"]
    left = psutil.wait_procs(marked(mark), timeout=patience_s)[1]
    assert not left
    assert list(Path(program.environment["TMPDIR"]).iterdir()) == []


@pytest.mark.alone
def test_the_demo_learns_from_other_peoples_data(
    program: Program, tmp_path: Path
) -> None:
    started_s = time.monotonic()
    done = program.run("demo", "--json", "--keep", str(tmp_path / "kept"))
    assert (done.code, done.err) == (0, "")
    data = done.data
    assert data["accuracy"] >= 0.93  # type: ignore[operator]
    assert data["chance_accuracy"] < 0.2  # type: ignore[operator]
    assert data["held_out"] is True
    assert (data["peers"], data["rounds"], data["killed"]) == (4, 40, 0)
    assert 0 < data["bytes_sent"] < data["bytes_full_exchange"]  # type: ignore[operator]
    sub, full = data["sub_model_parameters"], data["full_model_parameters"]
    assert 0.25 < sub / full < 0.5  # type: ignore[operator]
    assert data["seconds"] <= time.monotonic() - started_s < 90  # type: ignore[operator]
    checkpoint = Path(str(data["checkpoint"]))
    assert checkpoint.parent == tmp_path / "kept"
    assert_nothing_left(program)
    again = program.run("evaluate", str(checkpoint), "--data", "digits", "--json")
    assert again.data["accuracy"] == data["accuracy"]


def test_a_killed_peer_comes_back_and_the_demo_ends(
    program: Program, tmp_path: Path
) -> None:
    done = program.run("demo", "--kill", "1", "--keep", str(tmp_path), "--rounds", "9")
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert any(line.startswith("Killed peer-3; starting again") for line in lines)
    assert any(line.startswith("Accuracy") for line in lines)
    rounds = [line for line in lines if line.startswith("Round ")]
    assert 0 < len(rounds) <= 9
    assert "\x1b" not in done.out
    assert_nothing_left(program)


@pytest.mark.soak
@pytest.mark.parametrize("method", ["lw-fedssl", "prog-fedssl"])
def test_layers_are_trained_without_labels_and_a_killed_peer_catches_up(
    program: Program, tmp_path: Path, method: str
) -> None:
    arguments = ["--method", method, "--peers", "3", "--rounds", "4", "--kill", "1"]
    done = program.run("demo", "--json", "--keep", str(tmp_path), *arguments)
    assert (done.code, done.err) == (0, "")
    data = done.data
    assert (data["model"], data["killed"]) == ("vit", 1)
    assert data["random_encoder_accuracy"] > 0.3  # type: ignore[operator]
    assert data["accuracy"] > 0.3  # type: ignore[operator]
    sub, full = data["sub_model_parameters"], data["full_model_parameters"]
    assert (sub == full) == (method == "prog-fedssl")
    assert data["bytes_sent"] < data["bytes_full_exchange"]  # type: ignore[operator]
    assert_nothing_left(program)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("method", "model", "strong", "part"),
    [("layer-finetune", "vit", 0, 0.496), ("co-s2p", "vit-units", 1, 0.236)],
)
def test_a_pretrained_model_is_trained_on_though_a_peer_is_killed(
    program: Program, tmp_path: Path, method: str, model: str, strong: int, part: float
) -> None:
    arguments = ["--method", method, "--kill", "1", "--rounds", "9"]
    done = program.run("demo", "--json", "--keep", str(tmp_path), *arguments)
    assert (done.code, done.err) == (0, "")
    data = done.data
    assert (data["model"], data["killed"]) == (model, 1)
    assert data["strong_peers"] == strong
    assert Path(str(data["pretrained"])).exists()
    # Nine rounds of co-s2p are too few to gain anything for sure.
    gained = data["accuracy"] - data["pretrained_accuracy"]  # type: ignore[operator]
    assert gained > (-0.2 if strong else 0.0)
    sub, full = data["sub_model_parameters"], data["full_model_parameters"]
    assert sub / full == pytest.approx(part, abs=0.001)  # type: ignore[operator]
    assert_nothing_left(program)


@pytest.mark.parametrize(
    ("after", "number"),
    [
        pytest.param("Starting 4 daemons", signal.SIGINT, marks=pytest.mark.soak),
        ("Round ", signal.SIGTERM),
    ],
)
def test_an_interrupt_leaves_no_process_and_no_file(
    program: Program, tmp_path: Path, after: str, number: signal.Signals
) -> None:
    demo = program.open("demo", "--rounds", "2000", "--keep", str(tmp_path / "kept"))
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith(after):
            break
    demo.send_signal(number)
    _, err = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 130
    assert err.strip() == "p2pfusion: interrupted"
    # A trainer in the middle of a step notices a moment later that it is alone.
    assert_nothing_left(program, patience_s=10)


@pytest.mark.soak
def test_a_second_interrupt_does_not_stop_the_clearing_up(
    program: Program, tmp_path: Path
) -> None:
    demo = program.open("demo", "--rounds", "2000", "--keep", str(tmp_path / "kept"))
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("Round "):
            break
    demo.send_signal(signal.SIGINT)
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 130
    assert_nothing_left(program, patience_s=10)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--data", "nope"], 8, "nope"),
        (["--model", "nope"], 8, "nope"),
        (["--split-fraction", "0.001"], 8, "too small"),
        (["--data", "nowhere.npz"], 8, "nowhere.npz"),
    ],
)
def test_bad_options_end_before_any_daemon_starts(
    program: Program, tmp_path: Path, arguments: list[str], code: int, told: str
) -> None:
    done = program.run("demo", "--keep", str(tmp_path / "kept"), *arguments)
    assert (done.code, done.out) == (code, "")
    assert told in done.err and done.err.count("\n") == 1
    assert_nothing_left(program)
