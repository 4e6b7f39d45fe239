"""A short part of the run over mutated frames, and that it would notice something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import frames
from tests.fuzz.targets import Credentials

ROOT = Path(__file__).resolve().parents[2]

COUNT, LONG_COUNT = 6_000, 60_000

MOST_GROWTH_BYTES = 64 << 20
"""A peer with a full roster of the small world and its facts twice has some MiB; what
grows with the number of frames reaches this soon, and the full run does not."""


@pytest.mark.parametrize(
    "count", [COUNT, pytest.param(LONG_COUNT, marks=pytest.mark.soak)]
)
def test_thousands_of_mutated_frames_are_refused_or_understood(count: int) -> None:
    """In a process of its own, whose memory nobody else has grown before."""
    seed = "0" if os.environ.get("CI") else str(os.getpid())
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.frames", f"--count={count}", "--seed", seed],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["frames"] == count and found["findings"] == 0
    assert found["peak_memory_growth_bytes"] < MOST_GROWTH_BYTES
    assert found["targets"].keys() == frames.SHARES.keys()
    for name, target in found["targets"].items():
        assert target["frames"] == sum(target["outcomes"].values()) > 0
        assert target["outcomes"]["refused"] > 0, name
        assert len(target["outcomes"]) > 1, f"nothing gets into {name}"
    reached = {word for t in found["targets"].values() for word in t["outcomes"]}
    assert {"Hello newcomer-admitted", "trains", "StreamStart fetching"} <= reached
    # Of few frames hardly one is a manifest's last part, and whole.
    assert count < LONG_COUNT or "ManifestPart joined" in reached


def test_a_world_follows_from_its_seed_and_number() -> None:
    tallies = []
    for seed, number in ((1, 3), (1, 3), (1, 4), (2, 3)):
        tally = frames.Tally()
        frames.play(seed, number, 800, tally)
        tallies.append(tally)
    assert tallies[0] == tallies[1]
    assert tallies[0] != tallies[2] and tallies[0] != tallies[3]


def test_a_finding_ends_the_run_and_says_how_to_have_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    genuine, calls = Credentials.attempt, []

    def attempt(self: Credentials) -> str:
        outcome = genuine(self)
        calls.append(self.frames[0])
        # A frame of a certain shape: it must come again in the same world.
        if self.frames[0][-1:] in (b"\x00", b"\x01"):
            raise ZeroDivisionError("planted")
        return outcome

    monkeypatch.setattr(Credentials, "attempt", attempt)
    assert frames.main(["--count", "200000", "--seed", "3"]) == 1
    shown = capsys.readouterr().err
    culprit = calls[-1]
    assert "ZeroDivisionError: planted" in shown and culprit.hex() in shown
    again = shown.split("python -m tests.fuzz.frames ")[1].split()
    calls.clear()
    assert frames.main(again) == 1
    assert calls[-1] == culprit
