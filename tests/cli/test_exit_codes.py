"""The page of exit codes and the errors of the package say the same."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from p2pfusion import errors
from p2pfusion.cli.output import Failure

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "exit-codes.md").read_text()
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.P2PFusionError)
]
OTHERS: list[BaseException] = [
    click.UsageError("x"),
    KeyboardInterrupt(),
    OSError(2, "gone"),
]
"""What is no error of the package and yet told to the user."""


def sections() -> dict[int, str]:
    """The text of each section that is about a code."""
    found = re.split(r"^## (\d+): .*$", PAGE, flags=re.MULTILINE)
    return dict(zip(map(int, found[1::2]), found[2::2], strict=True))


def names(section: str) -> list[str]:
    """The names that a section says its code has."""
    found = re.search(r"^Names: (.+?)\.$", section, re.MULTILINE)
    return re.findall(r"`([a-z-]+)`", found[1]) if found else []


def told() -> set[tuple[int, str]]:
    """Every code and name that a command can end with, but for success."""
    failures = [Failure.of(error) for error in OTHERS]
    found = {(each.code, each.name) for each in failures if each is not None}
    return found | {(kind.exit_code, kind.name) for kind in KINDS}


def test_the_page_names_every_code_and_every_name_in_its_section() -> None:
    page = sections()
    described = {(code, name) for code in page for name in names(page[code])}
    assert described == told()
    assert list(page) == sorted({0} | {code for code, _ in told()})


@pytest.mark.parametrize("code", list(sections()))
def test_every_section_says_more_than_a_name(code: int) -> None:
    text = sections()[code]
    words = text.split("Names:")[-1].split()
    assert len(words) > 20


def test_the_table_in_the_errors_docstring_has_the_same_codes() -> None:
    assert errors.__doc__ is not None
    for kind in KINDS:
        line = re.search(rf"{kind.__name__}\b(.*)", errors.__doc__)
        assert line is not None
        stated = re.search(r"\(exit (\d+)\)", line[1])
        if stated is not None:
            assert int(stated[1]) == kind.exit_code, kind
