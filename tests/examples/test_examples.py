"""Every example runs, from a checkout, at a small size, and prints something."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def text_files(directory: Path) -> list[str]:
    """Six documents, and two rounds."""
    (directory / "texts").mkdir()
    for number in range(6):
        words = (ROOT / "docs" / "durability.md").read_text()[: 4_000 + number]
        (directory / "texts" / f"{number}.txt").write_text(words)
    return ["texts", "2"]


def image_files(directory: Path) -> list[str]:
    """Bright and dark images of several sizes, 8 pixels of them, and two rounds."""
    image = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(0)
    for name, light in (("bright", 200), ("dark", 20)):
        (directory / "pictures" / name).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(light, light + 50, (12 + number, 20, 3), np.uint8)
            image.fromarray(pixels).save(
                directory / "pictures" / name / f"{number}.png"
            )
    return ["pictures", "8", "2"]


SIZES: dict[str, Callable[[Path], list[str]]] = {
    "finetune_layers.py": lambda directory: ["1"],
    "gpt2_text.py": text_files,
    "image_folder.py": image_files,
    "own_cnn.py": lambda directory: ["2"],
    "two_machines.py": lambda directory: ["2"],
}
NEEDS = {"gpt2_text.py": "transformers"}
"""Which library an example is about, where it is one that not everybody has; what it
tells on standard error is its own affair."""


def test_every_example_that_can_be_small_is_there() -> None:
    assert EXAMPLES and set(SIZES) <= {path.name for path in EXAMPLES}


def test_a_network_of_ones_own_takes_forty_lines() -> None:
    assert len((ROOT / "examples" / "own_cnn.py").read_text().splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_example_runs(path: Path, tmp_path: Path) -> None:
    library = NEEDS.get(path.name)
    if library is not None and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    arguments = SIZES.get(path.name, lambda directory: [])(tmp_path)
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert library is not None or not done.stderr
    assert done.stdout.count("\n") > 2
