"""Which line of somebody's own code an error or an operator is about."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import fx

PACKAGES = Path(torch.__file__).parents[1]
NOT_THEIRS = tuple(
    str(path)
    for path in (PACKAGES / "torch", PACKAGES / "sympy", Path(__file__).parents[2])
)
"""Files below these are torch's, of what it computes shapes with, and ours."""

STANDARD = sysconfig.get_path("stdlib")
"""Files below this one are Python's, but for installed packages."""

_ENTRY = re.compile(r'File "([^"]+)", line (\d+), in [^\n]*\n\s*([^\n]*)')


def line_of_error(error: BaseException) -> str:
    """`` at model.py, line 7: x = f(y)``, the innermost line that is neither torch's
    nor ours; empty if there is none."""
    for each in _chain(error):
        frames = traceback.extract_tb(each.__traceback__)
        theirs = [frame for frame in frames if _is_theirs(frame.filename)]
        if theirs:
            last = theirs[-1]
            return _text(last.filename, last.lineno or 0, last.line or "")
    return ""


def line_of_node(node: fx.Node) -> str:
    """The same of what an operator was written down from."""
    found = _ENTRY.findall(str(node.meta.get("stack_trace", "")))
    theirs = [entry for entry in found if _is_theirs(entry[0])]
    if not theirs:
        return ""
    path, number, line = theirs[-1]
    return _text(path, int(number), line)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it came of."""
    following: BaseException | None = error
    while following is not None:
        yield following
        following = following.__cause__ or following.__context__


def _is_theirs(path: str) -> bool:
    is_pythons = path.startswith(STANDARD) and not path.startswith(str(PACKAGES))
    return not is_pythons and not path.startswith(("<", *NOT_THEIRS))


def _text(path: str, number: int, line: str) -> str:
    written = f": {line.strip()}" if line.strip() else ""
    return f" at {Path(path).name}, line {number}{written}"
