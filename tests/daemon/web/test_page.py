"""The page's files: complete, from here alone, and none makes markup of text."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from p2pfusion.daemon.web.server import KINDS

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "p2pfusion" / "daemon" / "web" / "page"
FILES = sorted(PAGE.iterdir())
SCRIPTS = {path.name: path.read_text() for path in FILES if path.suffix == ".js"}
MARKUP = (PAGE / "index.html").read_text()

MAKES_MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment"
    r"|parseFromString|srcdoc|\beval\b|new Function|javascript:|setHTML"
)
ELSEWHERE = re.compile(r"(?:https?:)?//[\w.-]+\.\w+")
NAMESPACE = "http://www.w3.org/2000/svg"


def test_every_file_has_a_kind_that_is_served() -> None:
    assert {path.suffix for path in FILES} == set(KINDS)


def test_texts_of_others_are_never_markup() -> None:
    for name, text in SCRIPTS.items():
        assert not MAKES_MARKUP.search(text), name
    assert MAKES_MARKUP.search("place.innerHTML = name")
    # What a handler in the markup would be, the policy forbids: there is none.
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=|<style", MARKUP)


def test_nothing_is_fetched_from_elsewhere() -> None:
    for path in FILES:
        text = path.read_text().replace(NAMESPACE, "")
        assert not ELSEWHERE.search(text), path.name
    assert ELSEWHERE.search('src="//fonts.example/x"')


def test_every_element_that_a_script_asks_for_is_there() -> None:
    ids = set(re.findall(r'\bid="([\w-]+)"', MARKUP))
    asked = {
        name for t in SCRIPTS.values() for name in re.findall(r'\bby\("(.+?)"\)', t)
    }
    assert asked and asked <= ids
    labels = set(re.findall(r'aria-(?:labelledby|describedby)="([\w-]+)"', MARKUP))
    assert labels <= ids


def test_every_script_is_imported() -> None:
    imported = {
        name for t in SCRIPTS.values() for name in re.findall(r'from "\./(.+?)"', t)
    }
    assert imported | {"main.js"} == set(SCRIPTS)


def test_the_wheel_has_the_page(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(
        ROOT / "p2pfusion",
        source / "p2pfusion",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools.build_meta import build_wheel as b; b('..')"
    subprocess.run(
        [sys.executable, "-c", build], cwd=source, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {Path(name).name for name in archive.namelist() if "/page/" in name}
    assert packed == {path.name for path in FILES}
