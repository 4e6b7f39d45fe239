"""The tree keeps the house rules, and every rule can fail.

The rules themselves are in ``house_rules.py``: the table of layers, the bans, the
limits. Here each runs over every file that it concerns, and over snippets that it must
reject or accept, so that no rule goes blind unnoticed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.house_rules import (
    EXTRA_IMPORTS,
    IMPURE_MODULES,
    MAX_FILE_LINES,
    MAX_FUNCTION_LINES,
    PACKAGE,
    Source,
    docstrings,
    exact_types,
    file_sizes,
    finished,
    function_sizes,
    imports_by_name,
    layers,
    map_differences,
    no_execution,
    ownership,
    patient,
    purity,
    read_sources,
    telling_names,
    unused_files,
)

ROOT = Path(__file__).resolve().parent.parent
PACKAGE_SOURCES = read_sources(ROOT / PACKAGE, "**/*.py")
TEST_SOURCES = read_sources(ROOT, "tests/**/*.py")
PROGRAM_SOURCES = [
    *read_sources(ROOT, f"{PACKAGE}/**/*.py", "benchmarks/**/*.py", "examples/**/*.py"),
    *read_sources(ROOT, "*.py"),
]
ALL_SOURCES = [*PROGRAM_SOURCES, *TEST_SOURCES]

Rule = Callable[[Source], Iterator[str]]
RULES: list[tuple[Rule, list[Source]]] = [
    (layers, PACKAGE_SOURCES),
    (purity, PACKAGE_SOURCES),
    (ownership, PACKAGE_SOURCES),
    (imports_by_name, PACKAGE_SOURCES),
    (no_execution, PACKAGE_SOURCES),
    (exact_types, PACKAGE_SOURCES),
    (docstrings, PACKAGE_SOURCES),
    (telling_names, PACKAGE_SOURCES),
    (file_sizes, PROGRAM_SOURCES),
    (function_sizes, ALL_SOURCES),
    (finished, ALL_SOURCES),
    (patient, TEST_SOURCES),
]


@pytest.mark.parametrize(("rule", "sources"), RULES, ids=lambda v: _id(v))
def test_every_file_keeps_the_rule(rule: Rule, sources: list[Source]) -> None:
    assert sources
    problems = [f"{s.path}: {problem}" for s in sources for problem in rule(s)]
    assert not problems, f"{rule.__doc__}\n" + "\n".join(problems)


def _id(value: object) -> str:
    return value.__name__ if callable(value) else "files"


# --- Every rule can fail -------------------------------------------------------------

BAD: list[tuple[Rule, str, str]] = [
    (layers, "split/plan.py", "from p2pfusion.store.store import Store"),
    (layers, "split/plan.py", "from ..store import store"),
    (layers, "split/plan.py", "from p2pfusion import store"),
    (layers, "transport/base.py", "import p2pfusion.fusion.codec"),
    (layers, "protocol/peer.py", "from p2pfusion.transport.base import Transport"),
    (layers, "daemon/node.py", "from p2pfusion.training.loop import train_round"),
    (layers, "daemon/node.py", "def f():\n    import p2pfusion.cli.main"),
    (layers, "cli/demo.py", "from p2pfusion.training import loop"),
    (layers, "simulation/world.py", "from p2pfusion.training import loop"),
    (layers, "training/loop.py", "from p2pfusion.daemon import node"),
    (layers, "security/ticket.py", "from p2pfusion.split.layout import Layout"),
    (layers, "elsewhere/new.py", ""),
    *[
        (purity, "protocol/round.py", f"import {module}")
        for module in sorted(IMPURE_MODULES | {"numpy"})
    ],
    (purity, "split/windows.py", "import numpy as np"),
    (purity, "split/plan.py", "from time import monotonic"),
    (purity, "methods/fedavg.py", "def f():\n    import os.path"),
    (purity, "methods/fedavg.py", "open('file')"),
    (ownership, "store/store.py", "from torch import Tensor"),
    (ownership, "simulation/experiment.py", "import torch"),
    (ownership, "transport/memory.py", "import zmq.asyncio"),
    (ownership, "daemon/node.py", "import click"),
    (ownership, "daemon/node.py", "import prometheus_client"),
    (ownership, "daemon/node.py", "import waitress"),
    (ownership, "training/loop.py", "import logging"),
    (imports_by_name, "daemon/node.py", "import importlib"),
    (imports_by_name, "daemon/node.py", "from importlib import import_module"),
    (no_execution, "store/store.py", "import pickle"),
    (no_execution, "store/store.py", "from shelve import open"),
    (no_execution, "store/store.py", "eval('1')"),
    (no_execution, "store/store.py", "exec('x = 1')"),
    (no_execution, "store/store.py", "__import__('os')"),
    (no_execution, "training/loop.py", "torch.load('file')"),
    (no_execution, "training/loop.py", "from torch import load"),
    (no_execution, "training/data/npz.py", "numpy.load('f', allow_pickle=True)"),
    (no_execution, "daemon/node.py", "run('ls', shell=chosen)"),
    (exact_types, "store/store.py", "from typing import Any"),
    (exact_types, "store/store.py", "import typing\nx: typing.Any = 1"),
    (docstrings, "store/store.py", "x = 1"),
    (docstrings, "store/store.py", '"""File."""\ndef f(): pass'),
    (docstrings, "store/store.py", '"""File."""\nclass A:\n    x = 1'),
    (
        docstrings,
        "store/store.py",
        '"""File."""\nclass A:\n    """A."""\n    def f(self): pass',
    ),
    (telling_names, "split/utils.py", ""),
    (telling_names, "common/sets.py", ""),
    (file_sizes, "split/plan.py", "x = 1\n" * (MAX_FILE_LINES + 1)),
    (
        function_sizes,
        "split/plan.py",
        "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES,
    ),
    (finished, "split/plan.py", "x = 1  # TO" + "DO: more"),
    (finished, "split/plan.py", "# FIX" + "ME"),
    (patient, "tests/test_a.py", "import time\ntime.sleep(1)"),
    (patient, "tests/test_a.py", "from time import sleep"),
]

GOOD: list[tuple[Rule, str, str]] = [
    (layers, "split/plan.py", "from .atoms import atoms\nfrom p2pfusion import limits"),
    (layers, "daemon/node.py", "from p2pfusion import __version__"),
    (layers, "simulation/experiment.py", "from p2pfusion.training import loop"),
    (purity, "split/plan.py", "import numpy as np"),
    (purity, "store/store.py", "import os, time"),
    (ownership, "training/loop.py", "import torch.nn"),
    (ownership, "transport/zeromq.py", "import zmq\nimport logging"),
    (
        imports_by_name,
        "training/data/digits.py",
        "from importlib.resources import files",
    ),
    (no_execution, "training/loop.py", "model.eval()\nre.compile('x')"),
    (no_execution, "training/data/npz.py", "numpy.load('f', allow_pickle=False)"),
    (exact_types, "protocol/schema.py", "from typing import Any"),
    (docstrings, "store/store.py", '"""File."""\ndef _f(): pass'),
    (telling_names, "split/plan.py", ""),
    (file_sizes, "split/plan.py", "x = 1\n" * MAX_FILE_LINES),
    (
        function_sizes,
        "split/plan.py",
        "def f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES - 1),
    ),
    (finished, "split/plan.py", "todo_list = []"),
    (patient, "tests/test_a.py", "import time\ntime.monotonic()"),
]


@pytest.mark.parametrize(("rule", "path", "text"), BAD)
def test_rule_rejects(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text)))


@pytest.mark.parametrize(("rule", "path", "text"), GOOD)
def test_rule_accepts(rule: Rule, path: str, text: str) -> None:
    assert not list(rule(Source(path, text)))


def test_every_rule_has_been_seen_to_fail_and_to_pass() -> None:
    rules = {rule for rule, _ in RULES}
    assert rules == {rule for rule, _, _ in BAD} == {rule for rule, _, _ in GOOD}


# --- The tree as a whole -------------------------------------------------------------


def test_no_file_is_dead() -> None:
    assert not list(unused_files(PACKAGE_SOURCES))


def test_a_dead_file_is_found() -> None:
    used = Source("split/a.py", "")
    by_string = Source("split/b.py", "")
    itself = Source("split/c.py", "import p2pfusion.split.c")
    door = Source(
        "cli/main.py", "from p2pfusion.split import a\nx = 'p2pfusion.split.b:f'"
    )
    found = list(unused_files([used, by_string, itself, door]))
    assert found == ["split/c.py is imported by nothing"]


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_maps_name_every_file(page: str) -> None:
    assert (ROOT / page).is_file()
    assert not list(map_differences((ROOT / page).read_text(), PACKAGE_SOURCES))


def test_a_hole_in_the_map_is_found() -> None:
    sources = [Source("a/base.py", ""), Source("b/base.py", ""), Source("a/x.py", "")]
    readme = (
        "# P\nx.py\n## Map of files\nbase.py\n### More\n`gone.py`\n## After\nbase.py"
    )
    assert list(map_differences(readme, sources)) == [
        "base.py: 2 in the package, 1 in the map",
        "x.py: 1 in the package, 0 in the map",
        "gone.py: in the map, not in the package",
    ]
    assert list(map_differences("# P\nno such section", sources[2:]))
    assert not list(
        map_differences("# P\n## The map\na: x.py, base.py; b/base.py", sources)
    )


def test_only_the_learning_wing_loads_torch() -> None:
    modules = [
        ".".join([PACKAGE, *s.path.removesuffix(".py").split("/")])
        for s in PACKAGE_SOURCES
        if "training" not in {s.part, *EXTRA_IMPORTS.get(s.path, ())}
    ]
    program = "import importlib, sys\n"
    program += "for name in sys.argv[1:]: importlib.import_module(name)\n"
    program += "print(sorted(sys.modules.keys() & {'torch'}))"
    names = [name.removesuffix(".__init__") for name in modules]
    run = subprocess.run(
        [sys.executable, "-c", program, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr


def test_public_names_load_on_first_use() -> None:
    program = "import sys, p2pfusion\n"
    program += "assert not sys.modules.keys() & {'numpy', 'torch', 'zmq'}\n"
    program += "for name in p2pfusion.__all__: getattr(p2pfusion, name)\n"
    program += "assert 'torch' not in sys.modules\n"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
