"""The house rules that a program can check, as data and as functions.

A rule is a function from one source file to the sentences it has to complain about; its
docstring is the rule. Rules over the whole tree take all sources. ``test_architecture``
runs them over the tree, and over snippets that each must reject or accept.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "p2pfusion"

# --- The rules as data ---------------------------------------------------------------

BASE = {"errors", "limits"}
ALGEBRA = BASE | {"split"}
HALL = ALGEBRA | {"security", "transport", "store", "fusion", "methods", "protocol"}

LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "limits": set(),
    "split": BASE,
    "security": BASE,
    "transport": ALGEBRA,
    "store": ALGEBRA,
    "fusion": ALGEBRA,
    "methods": ALGEBRA,
    "protocol": ALGEBRA | {"methods", "security"},
    "training": ALGEBRA | {"store"},
    "daemon": HALL,
    "simulation": HALL | {"daemon"},
    "cli": HALL | {"daemon", "simulation"},
    "api": HALL | {"daemon", "simulation", "cli"},
    "__init__": HALL | {"daemon", "simulation", "api"},
}
"""What each part of the package may import of the others (its own files always).

``__init__`` is the package's own: every part may ask it for the version."""

EXTRA_IMPORTS = {
    # The experiment runner is a process of its own, without network, and trains.
    "simulation/design.py": {"training"},
    "simulation/experiment.py": {"training"},
    "simulation/swarm.py": {"training"},
    "simulation/trained.py": {"training"},
}

PURE = ("split", "protocol", "methods")
IMPURE_MODULES = {
    *("asyncio", "concurrent", "multiprocessing", "selectors", "signal", "threading"),
    *("datetime", "random", "secrets", "time", "uuid"),
    *("glob", "io", "logging", "os", "pathlib", "shutil", "subprocess", "tempfile"),
    *("select", "socket", "ssl", "torch", "zmq"),
}
IMPURE_CALLS = {"breakpoint", "input", "open", "print"}

ONLY_IN: dict[str, tuple[str, ...]] = {
    "torch": ("training/",),
    "zmq": ("transport/zeromq.py",),
    "cryptography": ("security/",),
    "msgpack": (
        *("protocol/schema.py", "protocol/manifest.py"),
        *("security/ticket.py", "security/credential.py", "daemon/state.py"),
    ),
    "click": ("cli/",),
    "rich": ("cli/",),
    "segno": ("cli/qr.py",),
    "prometheus_client": ("daemon/metrics.py",),
    "waitress": ("daemon/web/server.py",),
    "tensorboard": ("daemon/scalars.py",),
    "PIL": ("training/data/folders.py",),
    "opacus": ("training/privacy.py",),
    "zeroconf": ("daemon/lan.py",),
    "ifaddr": ("daemon/lan.py",),
    "matplotlib": ("cli/plot.py",),
    "logging": ("transport/", "daemon/", "cli/"),
}
"""Modules that one place owns, as path prefixes inside the package."""

NUMPY_IN_PURE = {
    "split/plan.py",
    "split/streams.py",
    "split/grid.py",
    "split/homes.py",
    "split/copies.py",
    "split/keeping.py",
    "split/restoring.py",
    "split/groups.py",
    "split/ranges.py",
    "split/coverage.py",
    "split/reducers.py",
    "split/traffic.py",
}

IMPORTLIB_IN = {
    "__init__.py",  # lazy public names
    "cli/command.py",  # a command's module, when the command runs
    "methods/__init__.py",  # entry points
    "training/outside.py",
}
"""Files that may import by name. ``importlib.resources`` only reads, so all may."""

EXECUTES_DATA = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal"}
EXECUTES_DATA |= {"shelve", "code", "codeop", "runpy", "imp"}
EXECUTING_CALLS = {"eval", "exec", "compile", "__import__"}
EXECUTING_ATTRIBUTES = {("torch", "load"), ("os", "system"), ("os", "popen")}

MUST_BE_FALSE = ("allow_pickle", "shell")

ANY_IN = {
    *("protocol/schema.py", "protocol/statements.py"),
    *("daemon/config.py", "daemon/sections.py"),
}
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

STARTED_BY_NAME = {
    "cli/main.py",  # the console script
    "training/__main__.py",  # `python -m`, by the daemon
    "simulation/seeds.py",  # `python -m`, by the Makefile
    "simulation/storm.py",  # `python -m`, by the Makefile
    "simulation/trained.py",  # a process of its own, by the command sim
}
"""Modules that nothing in the package needs to import."""


# --- One file, read once -------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A Python file: its path from the package's (or the repository's) root."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, self.path)

    @property
    def part(self) -> str:
        """The first part of its path: the layer that it belongs to."""
        return self.path.split("/")[0].removesuffix(".py")

    def imports(self) -> Iterator[str]:
        """Full dotted names of all that it imports, wherever the statement stands.

        ``from a.b import c`` gives ``a.b.c``: c may be a module.
        """
        package = [PACKAGE, *self.path.split("/")[:-1]]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                yield from (f"{base}.{alias.name}" for alias in node.names)

    def called_names(self) -> Iterator[str]:
        """Plain names that it calls: ``open`` in ``open(path)``."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield node.func.id

    def attributes(self) -> Iterator[tuple[str, str]]:
        """Every ``name.attribute``, and every ``from name import attribute``."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                yield node.value.id, node.attr
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from ((node.module, alias.name) for alias in node.names)

    def strings(self) -> Iterator[str]:
        """Every string constant."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method."""
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield node


def read_sources(root: Path, *patterns: str) -> list[Source]:
    """The files under ``root`` that match, with paths from there."""
    found = (path for pattern in patterns for path in sorted(root.glob(pattern)))
    return [Source(p.relative_to(root).as_posix(), p.read_text()) for p in found]


# --- Rules over one file of the package ----------------------------------------------


def layers(source: Source) -> Iterator[str]:
    """Imports run down the table."""
    if source.part not in LAYERS:
        yield f"{source.part} has no line in the table of layers"
        return
    allowed = LAYERS[source.part] | EXTRA_IMPORTS.get(source.path, set())
    for name in source.imports():
        root, _, rest = name.partition(".")
        part = rest.split(".")[0]
        if root != PACKAGE or part in (source.part, "__version__", ""):
            continue
        if part not in allowed:
            yield f"{source.part} may not import {part} ({name})"


def purity(source: Source) -> Iterator[str]:
    """No clock, socket, thread, file or chance where everything follows from inputs."""
    if source.part not in PURE:
        return
    for name in source.imports():
        root = name.split(".")[0]
        if root in IMPURE_MODULES:
            yield f"imports {root}"
        if root == "numpy" and source.path not in NUMPY_IN_PURE:
            yield "imports numpy"
    for call in source.called_names():
        if call in IMPURE_CALLS:
            yield f"calls {call}()"


def ownership(source: Source) -> Iterator[str]:
    """One place owns each of these modules."""
    for name in source.imports():
        owners = ONLY_IN.get(name.split(".")[0])
        if owners and not source.path.startswith(owners):
            yield f"imports {name}, which belongs to {', '.join(owners)}"


def imports_by_name(source: Source) -> Iterator[str]:
    """Only registries and lazy names turn strings into modules."""
    for name in source.imports():
        if not name.startswith("importlib") or name.startswith("importlib.resources"):
            continue
        if source.path not in IMPORTLIB_IN:
            yield f"imports {name}"


def no_execution(source: Source) -> Iterator[str]:
    """Nothing turns bytes into behaviour."""
    for name in source.imports():
        if name.split(".")[0] in EXECUTES_DATA:
            yield f"imports {name}"
    for call in source.called_names():
        if call in EXECUTING_CALLS:
            yield f"calls {call}()"
    for pair in source.attributes():
        if pair in EXECUTING_ATTRIBUTES:
            yield f"uses {'.'.join(pair)}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.keyword) and node.arg in MUST_BE_FALSE:
            value = node.value
            if not isinstance(value, ast.Constant) or value.value is not False:
                yield f"passes {node.arg} other than False"


def exact_types(source: Source) -> Iterator[str]:
    """``Any`` only where untyped data enters."""
    if source.path not in ANY_IN and ("typing", "Any") in source.attributes():
        yield "imports typing.Any"


def docstrings(source: Source) -> Iterator[str]:
    """Every module and every public function, class and method says what it is."""
    if not ast.get_docstring(source.tree):
        yield "the module has no docstring"
    for where in ("", *_public_classes(source.tree)):
        body = source.tree.body if not where else _class(source.tree, where).body
        for node in body:
            if not isinstance(
                node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
            ):
                continue
            if not node.name.startswith("_") and not ast.get_docstring(node):
                yield f"{where}{'.' if where else ''}{node.name} has no docstring"


def _public_classes(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def _class(tree: ast.Module, name: str) -> ast.ClassDef:
    found = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    return next(found)


def telling_names(source: Source) -> Iterator[str]:
    """A file's name says what is in it."""
    for word in source.path.removesuffix(".py").split("/"):
        if word in VAGUE_NAMES:
            yield f"{word!r} says nothing"


# --- Rules over every Python file ----------------------------------------------------


def file_sizes(source: Source) -> Iterator[str]:
    """Short files: one that grows has found a second subject."""
    lines = len(source.text.splitlines())
    if lines > MAX_FILE_LINES:
        yield f"{lines} lines, {MAX_FILE_LINES} at most"


def function_sizes(source: Source) -> Iterator[str]:
    """Short functions."""
    for node in source.functions():
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > MAX_FUNCTION_LINES:
            yield f"{node.name} has {length} lines, {MAX_FUNCTION_LINES} at most"


# Put together here, or this file would be found.
UNFINISHED = re.compile(
    r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b"
)


def finished(source: Source) -> Iterator[str]:
    """What is left to do stands in the tracker, not in the code."""
    for number, line in enumerate(source.text.splitlines(), 1):
        if UNFINISHED.search(line):
            yield f"line {number}: {line.strip()}"


def patient(source: Source) -> Iterator[str]:
    """A test waits for a condition, never for a while."""
    if ("time", "sleep") in source.attributes():
        yield "uses time.sleep"


# --- Rules over the whole package ----------------------------------------------------


def unused_files(sources: Iterable[Source]) -> Iterator[str]:
    """Every module is imported by another one, or started by name."""
    sources = list(sources)
    used = set(STARTED_BY_NAME)
    for source in sources:
        for name in (*source.imports(), *source.strings()):
            # Tables of lazy names write ``package.module:name``.
            parts = name.replace(":", ".").split(".")
            # The last part may be a name inside the module.
            for end in (len(parts), len(parts) - 1):
                path = "/".join(parts[1:end]) + ".py"
                if parts[0] == PACKAGE and path != source.path:
                    used.add(path)
    for source in sources:
        if not source.path.endswith("__init__.py") and source.path not in used:
            yield f"{source.path} is imported by nothing"


def map_of(page: str) -> str:
    """The page's section whose heading names the map, without the sections after."""
    found = re.search(r"^(#+) .*\bmap\b.*$", page, re.MULTILINE | re.IGNORECASE)
    if not found:
        return ""
    rest = page[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def map_differences(page: str, sources: Iterable[Source]) -> Iterator[str]:
    """A page's map names every file of the package, and no other.

    Files of one name (every ``base.py``) need as many mentions as there are files.
    """
    names = (source.path.split("/")[-1] for source in sources)
    present = Counter(name for name in names if name != "__init__.py")
    mentioned = Counter(re.findall(r"\b\w+\.py\b", map_of(page)))
    for name, count in sorted(present.items()):
        if mentioned[name] < count:
            yield f"{name}: {count} in the package, {mentioned[name]} in the map"
    for name in sorted(set(mentioned) - set(present) - {"cli.py", "__init__.py"}):
        yield f"{name}: in the map, not in the package"
