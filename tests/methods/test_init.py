"""Building a method from a manifest's name and arguments."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from p2pfusion.errors import ConfigError
from p2pfusion.methods import METHODS, build_method
from p2pfusion.methods.msfusion import MSfusion

PLUG_IN = """
from p2pfusion.split.segment import Split

class Everything:
    def __init__(self, flavour):
        self.flavour = flavour

    def split(self, context, round_index, rank):
        return Split.full(context.layout)
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third-party distribution on the path, as pip leaves one behind."""
    (tmp_path / "everything_plug_in.py").write_text(PLUG_IN)
    (tmp_path / "broken_plug_in.py").write_text("raise RuntimeError('no luck')")
    facts = tmp_path / "everything-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: everything\n")
    (facts / "entry_points.txt").write_text(
        "[p2pfusion.methods]\n"
        "everything = everything_plug_in:Everything\n"
        "broken = broken_plug_in:Broken\n"
        "fedavg = broken_plug_in:Broken\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "everything" in {
        point.name for point in metadata.entry_points(group="p2pfusion.methods")
    }


@pytest.mark.parametrize("name", METHODS)
def test_every_method_builds_without_arguments(name: str) -> None:
    assert build_method(name, {}) == METHODS[name]()


def test_arguments_reach_the_method() -> None:
    found = build_method("msfusion", {"shift": "skewed", "dwell": 4})
    assert found == MSfusion(shift="skewed", dwell=4)


def test_a_misspelt_method_is_corrected() -> None:
    with pytest.raises(ConfigError, match="no method 'msfuson'") as caught:
        build_method("msfuson", {})
    assert caught.value.hint == "did you mean 'msfusion'?"


def test_a_hopeless_name_gets_the_list() -> None:
    with pytest.raises(ConfigError) as caught:
        build_method("quux", {})
    assert all(name in caught.value.hint for name in METHODS)


def test_a_misspelt_argument_is_corrected() -> None:
    with pytest.raises(ConfigError, match=r"'msfusion'.*'shfit'") as caught:
        build_method("msfusion", {"shfit": "tied"})
    assert caught.value.hint == "did you mean 'shift'?"


def test_a_method_without_arguments_says_so() -> None:
    with pytest.raises(ConfigError) as caught:
        build_method("fedavg", {"rate": 1})
    assert caught.value.hint == "it takes none"


def test_a_bad_value_names_method_and_argument() -> None:
    with pytest.raises(ConfigError, match="'msfusion': dwell") as caught:
        build_method("msfusion", {"dwell": -1})
    assert caught.value.exit_code == 8


@pytest.mark.usefixtures("installed")
def test_an_installed_method_is_found() -> None:
    assert build_method("everything", {"flavour": "salt"}).flavour == "salt"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("installed")
def test_a_missing_argument_of_an_installed_method_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'everything'.*flavour"):
        build_method("everything", {})


@pytest.mark.usefixtures("installed")
def test_a_broken_installed_method_is_reported() -> None:
    with pytest.raises(ConfigError, match="'broken' cannot be loaded: no luck"):
        build_method("broken", {})


@pytest.mark.usefixtures("installed")
def test_nothing_installed_replaces_a_method_of_the_table() -> None:
    assert build_method("fedavg", {}) == METHODS["fedavg"]()
