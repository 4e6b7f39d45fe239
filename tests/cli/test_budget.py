"""``split show --memory``: what fits, in words and as JSON."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from p2pfusion.cli.budget import memory_text
from p2pfusion.cli.main import main
from tests.end_to_end.programs import Program

PARTS = ("process", "parameters", "states", "activations")
WIDE = ("--model", "mlp", "--model-arguments", '{"hidden": [2048, 2048]}')


def test_what_fits_and_why_not_more(tmp_path: Path) -> None:
    program = Program(tmp_path / "home")
    wanted = [*WIDE, "--memory", "340MiB", "--batch", "16", "--json"]
    before = set(Path.cwd().iterdir())
    done = program.run("split", "show", *wanted)
    assert done.code == 0, done.err
    assert set(Path.cwd().iterdir()) == before, "who only asks leaves nothing behind"
    found, peers = done.data["memory"], done.data["peers"]
    assert isinstance(found, dict) and isinstance(peers, list)
    following = found["next"]
    assert isinstance(following, dict)
    for each in (found, following):
        assert set(each["parts"]) == {f"{part}_bytes" for part in PARTS}
        assert each["peak_bytes"] == sum(each["parts"].values())
    assert found["memory_bytes"] == 340 << 20
    assert found["peak_bytes"] <= 340 << 20 < following["peak_bytes"]
    fraction = Fraction(found["split_fraction"])
    assert 0 < fraction < Fraction(following["split_fraction"]) <= 1
    assert {peer["split_fraction"] for peer in peers} == {float(fraction)}


def row(fraction: str, parts: dict[str, int] | None) -> dict[str, object]:
    return {
        "split_fraction": fraction,
        "parts": parts,
        "peak_bytes": None if parts is None else sum(parts.values()),
    }


TAKES = dict.fromkeys((f"{part}_bytes" for part in PARTS), 100_000_000)


@pytest.mark.parametrize(
    ("memory", "following", "told"),
    [
        (
            500_000_000,
            row("3/4", {**TAKES, "activations_bytes": 300_000_000}),
            ("500 MB suffices for 1/2 of the model", "3/4 would take 600 MB, 100 MB"),
        ),
        (500_000_000, row("3/4", None), ("3/4 does not fit: its parameters",)),
        (500_000_000, None, ("suffices for 1/2",)),
        (300_000_000, None, ("300 MB does not suffice even for 1/2",)),
    ],
)
def test_the_words(memory: int, following: object, told: tuple[str, ...]) -> None:
    text = memory_text(
        {**row("1/2", TAKES), "memory_bytes": memory, "next": following}, 100
    )
    assert all(each in text for each in told), text
    assert all(part in text for part in PARTS)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--memory", "much"], "is not a size"),
        (["--batch", "8"], "works with --memory"),
        (["--data", "digits"], "works with --memory"),
    ],
)
def test_options_that_mean_nothing(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", "show", "--model", "mlp", *arguments]) == 2
    assert told in capsys.readouterr().err
