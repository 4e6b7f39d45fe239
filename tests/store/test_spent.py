"""What noise has told, on disk: kept, read back, never silently begun anew."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from p2pfusion.errors import VerificationError
from p2pfusion.store import Spent


def test_it_is_read_back_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "privacy.json"
    assert Spent.read(path) == Spent()
    for rounds in (1, 2):
        spent = Spent(rounds, 0.25 * rounds, 1e-5, 1.5 * rounds, 1.5 * rounds + 1)
        spent.write(path)
        assert Spent.read(path) == spent
    assert [file.name for file in tmp_path.iterdir()] == ["privacy.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}x",
        json.dumps({"rounds": "many"}),
        json.dumps({**asdict(Spent()), "epsilon": -1.0}),
        json.dumps({**asdict(Spent()), "more": 1}),
        '{"rounds": 1, "inverse_squares": NaN}',
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "privacy.json"
    path.write_text(text)
    with pytest.raises(VerificationError, match=r"privacy\.json"):
        Spent.read(path)
