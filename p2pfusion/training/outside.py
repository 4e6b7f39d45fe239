"""Code from outside the package: functions of one's own, and entry points.

``package.module:function`` is imported only if whoever owns this machine has named it,
as what it is used for: names of models and objectives come in manifests and
checkpoints, which others write. What an installed package adds under an entry-point
group needs no such word: whoever installed it has chosen. Both are imported when they
are named, never before.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata

from p2pfusion.errors import ConfigError, IncompatibleError, P2PFusionError


@dataclass(frozen=True)
class Kind:
    """What a function is used for. ``word``: for one of them, in errors; ``key``: of
    ``[peer]``, where the owner names those that come from others."""

    word: str
    key: str
    group: str
    """The group of entry points."""


MODEL = Kind("model", "models", "p2pfusion.models")
OBJECTIVE = Kind("objective", "objectives", "p2pfusion.objectives")
DATA = Kind("data", "data", "p2pfusion.data")

_ALLOWED: set[tuple[Kind, str]] = set()
"""Functions that this process may import. It is the process' own, as its path of
imports is: whatever asks for one later, the answer is the same."""


def allow(kind: Kind, names: Iterable[str]) -> None:
    """The owner of this machine has named these functions."""
    _ALLOWED.update((kind, name) for name in names)


def is_own(name: str) -> bool:
    """Whether a name is that of a function, and not of an entry in a table."""
    return ":" in name


def find_own(kind: Kind, name: str) -> Callable[..., object]:
    """The function of that name; ``ConfigError`` if nobody has named it on this
    machine, or there is none."""
    if (kind, name) not in _ALLOWED:
        raise ConfigError(
            f"{kind.word} {name!r} is code that nobody has named on this machine",
            hint=f'if you trust it, write {kind.key} = ["{name}"] in [peer] of the '
            f"profile, or name it with --{kind.word}",
        )
    return _imported(kind, name)


@cache
def _imported(kind: Kind, name: str) -> Callable[..., object]:
    module, _, function = name.partition(":")
    try:
        found: object = getattr(import_module(module), function)
    except Exception as error:  # its owner's code can raise whatever it likes
        raise ConfigError(
            f"{kind.word} {name!r} cannot be imported: {type(error).__name__}: {error}",
            hint="its package must be installed, or its directory be in PYTHONPATH",
        ) from error
    if not callable(found):
        raise ConfigError(f"{kind.word} {name!r} is not a function")
    return found


def installed(kind: Kind, name: str, *, group: str = "") -> object | None:
    """What a package has under that name among the entry points; None if none has.

    ``group``: another one than the kind's.
    """
    entry = _entry(group or kind.group, name)
    if entry is None:
        return None
    try:
        found: object = entry.load()
    except Exception as error:
        raise ConfigError(
            f"{kind.word} {name!r} cannot be loaded: {type(error).__name__}: {error}",
            hint=f"it is of the package {_package(entry.value)!r}",
        ) from error
    return found


def _entry(group: str, name: str) -> metadata.EntryPoint | None:
    return next(iter(metadata.entry_points(group=group, name=name)), None)


def parameters(
    kind: Kind, name: str, function: Callable[..., object]
) -> Mapping[str, inspect.Parameter]:
    """What a function can be told; ``ConfigError`` if it is none."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise ConfigError(f"{kind.word} {name!r} is not a function") from None


@contextmanager
def foreign_code(
    what: str, failure: type[P2PFusionError] = ConfigError
) -> Iterator[None]:
    """Around a call of somebody's own code, which can raise whatever it likes: that
    becomes one line that begins with ``what``. Our own errors say enough themselves."""
    try:
        yield
    except P2PFusionError:
        raise
    except Exception as error:
        raise failure(f"{what}: {type(error).__name__}: {error}") from error


def lacking(known: Mapping[str, inspect.Parameter], told: Iterable[str]) -> str | None:
    """The first parameter that must be told something, and is not."""
    empty = inspect.Parameter.empty
    needed = {
        name
        for name, each in known.items()
        if each.default is empty
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    }
    return min(needed - set(told), default=None)


# --- Versions ------------------------------------------------------------------------


def code_versions(names: Mapping[Kind, str]) -> dict[str, str]:
    """The packages from outside that these names lead to, with their versions, as far
    as they have any; import what they name first."""
    found: dict[str, str] = {}
    for kind, name in names.items():
        entry = None if is_own(name) else _entry(kind.group, name)
        if is_own(name):
            package, version = _package(name), _version(_package(name))
        elif entry is not None:
            package = _package(entry.value)
            version = entry.dist.version if entry.dist else _version(package)
        else:
            continue
        if version:
            found[package] = version
    return found


def check_versions(stated: Mapping[str, object], names: Mapping[Kind, str]) -> None:
    """``IncompatibleError`` if code is of another version here than in the swarm."""
    differences = _differences(stated, names)
    if differences:
        raise IncompatibleError(
            f"the package {differences[0]} in the swarm",
            hint="all peers need the same version of it",
        )


def told_versions(stated: Mapping[str, object], names: Mapping[Kind, str]) -> str:
    """The same as the end of a hint; empty if there is no difference."""
    return "".join(f"; {each} in the swarm" for each in _differences(stated, names))


def _differences(stated: Mapping[str, object], names: Mapping[Kind, str]) -> list[str]:
    here = code_versions(names)
    return [
        f"{package!r} is version {here.get(package, 'unknown')} here, and {theirs}"
        for package, theirs in sorted(stated.items())
        if here.get(package) != theirs
    ]


def _package(name: str) -> str:
    return name.partition(":")[0].partition(".")[0]


def _version(package: str) -> str:
    """Of the distribution with that name, or what the package says of itself."""
    try:
        return metadata.version(package)
    except (metadata.PackageNotFoundError, ValueError):
        version = getattr(sys.modules.get(package), "__version__", "")
        return version if isinstance(version, str) else ""
