"""The lock file fits the ranges, and the version stands in one place."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import p2pfusion

ROOT = Path(__file__).resolve().parents[2]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
LOCK = {
    name.lower().replace("_", "-"): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.M
    )
}
NOT_LOCKED = ("libraries",)
"""Extras whose packages the tests do without where they are not installed."""


def wanted() -> list[str]:
    """Every requirement that ``setup.cfg`` states, with its range."""
    extras = SETUP["options.extras_require"]
    texts = [SETUP["options"]["install_requires"]]
    texts += [text for name, text in extras.items() if name not in NOT_LOCKED]
    return [line for text in texts for line in text.splitlines() if line]


@pytest.mark.parametrize("line", wanted())
def test_the_locked_version_is_in_the_range(line: str) -> None:
    requirement = Requirement(line)
    assert requirement.specifier.contains(LOCK[requirement.name.lower()])


def test_the_lock_has_every_line_in_order_and_exact() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    stated = [line for line in lines if line and not line.startswith("#")]
    assert len(stated) == len(LOCK)
    assert stated == sorted(stated)


def test_the_version_stands_in_one_place() -> None:
    assert SETUP["metadata"]["version"] == "attr: p2pfusion.__version__"
    sources = [*(ROOT / "p2pfusion").rglob("*.py"), ROOT / "cli.py"]
    found = [s for s in sources if f'"{p2pfusion.__version__}"' in s.read_text()]
    assert found == [ROOT / "p2pfusion" / "__init__.py"]
