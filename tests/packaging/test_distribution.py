"""What is published: built twice, installed where no checkout is, and run.

The clean environment has this one's dependencies, by their path, and not its
``p2pfusion``: nothing has to be fetched. ``make dist-check`` runs this file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from p2pfusion import __version__

pytestmark = pytest.mark.soak

ROOT = Path(__file__).resolve().parents[2]
BUILD = (
    "import sys, setuptools.build_meta as backend\n"
    "print(getattr(backend, sys.argv[1])(sys.argv[2]))"
)
FIXED_TIME = {"SOURCE_DATE_EPOCH": "1700000000"}


def built(kind: str, source: Path, into: Path) -> Path:
    """An archive, made by the build backend that ``pyproject.toml`` names."""
    into.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, f"build_{kind}", str(into)],
        cwd=source,
        env={**os.environ, **FIXED_TIME, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return into / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of what git tracks, unpacked."""
    folder = tmp_path_factory.mktemp("dist")
    checkout = folder / "checkout"
    checkout.mkdir()
    names = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
    )
    packed = subprocess.run(
        ["tar", "-c", "--null", "-T", "-"],
        input=names,
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    subprocess.run(["tar", "-x"], input=packed.stdout, cwd=checkout, check=True)
    archive = built("sdist", checkout, folder / "sdist")
    with tarfile.open(archive) as opened:
        opened.extractall(folder / "unpacked", filter="data")
    (root,) = (folder / "unpacked").iterdir()
    return root


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    """The wheel, built from the source distribution alone."""
    return built("wheel", source, source.parents[1] / "wheel")


def test_the_source_has_all_that_a_checkout_has(source: Path) -> None:
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True)
    wanted = {
        name
        for name in tracked.splitlines()
        if (ROOT / name).is_file() and not name.startswith(".git")
    }
    there = {p.relative_to(source).as_posix() for p in source.rglob("*")}
    assert not wanted - there


def test_two_builds_are_the_same_bytes(source: Path, wheel: Path) -> None:
    again = built("wheel", source, wheel.parent.with_name("again"))
    assert again.name == wheel.name == f"p2pfusion-{__version__}-py3-none-any.whl"
    assert again.read_bytes() == wheel.read_bytes()


def test_the_wheel_has_the_package_and_its_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"p2pfusion", f"p2pfusion-{__version__}.dist-info"}
    data = {name for name in names if not name.endswith((".py", "/"))}
    page = {
        p.relative_to(ROOT).as_posix() for p in ROOT.glob("p2pfusion/daemon/web/page/*")
    }
    assert {name for name in data if "dist-info" not in name} == page | {
        "p2pfusion/training/data/digits.LICENSE.txt",
        "p2pfusion/training/data/digits.csv.gz",
    }
    sources = {p.relative_to(ROOT).as_posix() for p in ROOT.glob("p2pfusion/**/*.py")}
    assert sources <= set(names)


def test_it_runs_the_demo_where_nothing_else_is(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "env"], cwd=tmp_path, check=True)
    environment = tmp_path / "env"
    (there,) = environment.glob("lib/python*/site-packages")
    (there / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    (tmp_path / "empty").mkdir()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [environment / "bin" / "p2pfusion", *arguments],
            cwd=tmp_path / "empty",
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            capture_output=True,
            text=True,
        )

    where = "import p2pfusion; print(p2pfusion.__file__)"
    python = [environment / "bin" / "python", "-I", "-c", where]
    assert str(there) in subprocess.check_output(python, text=True)
    assert run("version").stdout.split()[1] == __version__
    done = run("demo", "--peers", "2", "--rounds", "3", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"]["rounds"] == 3
