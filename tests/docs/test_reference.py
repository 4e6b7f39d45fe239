"""docs/reference/ is what the code says today."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from p2pfusion.cli.main import COMMANDS, SUBCOMMANDS
from p2pfusion.protocol.manifest import Manifest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def generator() -> ModuleType:
    """The script that writes the pages, as a module."""
    found = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


GENERATE = generator()
PAGES: dict[str, str] = GENERATE.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    written = (DOCS / "reference" / name).read_text()
    assert written == PAGES[name], "out of date: run `make reference`"


def test_there_is_no_other_page() -> None:
    assert {path.name for path in (DOCS / "reference").iterdir()} == PAGES.keys()


def test_every_command_has_a_section_with_an_example() -> None:
    page = PAGES["commands.md"]
    for name in COMMANDS:
        for word in SUBCOMMANDS.get(name, ("",)):
            path = f"{name} {word}".strip()
            _, _, section = page.partition(f"\n## p2pfusion {path}\n")
            assert f"Example: `p2pfusion {path}" in section.partition("\n## ")[0], path


def test_every_key_and_every_option_has_a_meaning() -> None:
    rows = re.findall(r"^\| .*\|$", "".join(PAGES.values()), re.MULTILINE)
    cells = [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows]
    assert len(cells) > 200
    assert not [row for row in cells if not row[-1].strip()]


def test_the_words_below_a_field_are_found() -> None:
    words = GENERATE.field_docstrings(Manifest)
    assert words["rounds"] == "The swarm is done after this many."
    assert "``top-k``, in which changes" in words["wire_dtype"]
