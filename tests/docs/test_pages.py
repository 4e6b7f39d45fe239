"""Pages for people: links lead somewhere, commands exist, pictures can be made."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from p2pfusion.cli.main import COMMANDS, SUBCOMMANDS, main
from tests.end_to_end.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
CONCEPTS = ROOT / "docs" / "concepts.md"
OTHER_WORDS = {"transport", "data/v1", "closer"}
"""Names of keys and of hashes begin with the program's name, too."""

NAMED = re.compile(
    r"(?:^|`|\$\()p2pfusion (?:--home \S+ )?([a-z]\S*)(?: ([a-z]+))?", re.M
)


def anchor(heading: str) -> str:
    """What a link to a heading says."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^) ]+)\)", text):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        name, _, place = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if place:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            assert place in map(anchor, headings), link


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_that_is_named_exists(page: Path) -> None:
    for name, word in NAMED.findall(page.read_text()):
        if name.partition("`")[0] in OTHER_WORDS:
            continue
        assert name.rstrip("`,.;:)") in COMMANDS, name
        if name in SUBCOMMANDS and word:
            assert word in SUBCOMMANDS[name], (name, word)


def test_the_pictures_of_the_concepts_are_made_as_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    page = Page.read(CONCEPTS)
    shown = set(re.findall(r"\(figures/(\S+)\)", CONCEPTS.read_text()))
    for block in page.blocks:
        for line in block:
            assert main(shlex.split(line)[1:]) == 0
    assert {path.name for path in tmp_path.iterdir()} == shown
    for name in shown:
        committed = ROOT / "docs" / "figures" / name
        assert committed.read_bytes()[:8] == (tmp_path / name).read_bytes()[:8]
