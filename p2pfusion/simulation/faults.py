"""Fault scripts: what goes wrong in a simulated swarm, and when.

A script is a TOML file with one table for each fault::

    [[fault]]
    at = 3.5            # virtual seconds from the beginning
    kind = "kill"
    peers = ["p2"]      # or "all"

``KINDS`` names the keys that each kind of fault takes. Peers are called p0, p1 and so
on; p0 founds the swarm, and newcomers get the numbers that follow. A script that cannot
be meant is a ``ConfigError`` that names the file, the fault and the key.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pfusion.daemon.sections import suggestion
from p2pfusion.errors import ConfigError
from p2pfusion.limits import MAX_FAULTS, MAX_NEWCOMERS
from p2pfusion.methods import split_fraction

ALL = "all"

MAX_TIME_S = 1e7
"""Some months of virtual time: a later fault is a slip of the pen."""

Value = bool | int | float | str | tuple[str, ...] | tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, or right again, at an instant."""

    at_s: float
    kind: str
    values: Mapping[str, Value]

    def number(self, key: str, default: float) -> float:
        """A number among the values."""
        value = self.values.get(key, default)
        assert isinstance(value, (int, float))
        return float(value)

    def flag(self, key: str) -> bool:
        """A switch among the values."""
        return self.values.get(key) is True

    def names(self, key: str, everybody: Sequence[str]) -> list[str]:
        """Peers among the values; without the key, and for ``all``, everybody."""
        value = self.values.get(key, ALL)
        if value == ALL:
            return list(everybody)
        assert isinstance(value, tuple)
        return [name for name in value if isinstance(name, str)]

    @property
    def ends_s(self) -> float:
        """When it has done all that it does."""
        steps = self.number("count", 1) if self.kind == "join-storm" else 1.0
        lasts = self.number("down_s", 0.0) + self.number("pause_s", 0.0)
        return self.at_s + lasts * steps


@dataclass(frozen=True)
class Script:
    """Faults in the order of time."""

    faults: tuple[Fault, ...] = ()
    source: str = "none"

    @property
    def newcomer_count(self) -> int:
        """Peers that join by this script, after those of the beginning."""
        joins = (f for f in self.faults if f.kind in ("join", "join-storm"))
        return int(sum(fault.number("count", 1) for fault in joins))


# --- What may stand in a script ------------------------------------------------------

Check = Callable[[object], bool]


def _real(low: float, high: float) -> Check:
    def check(value: object) -> bool:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        return good and math.isfinite(float(str(value))) and low <= value <= high  # type: ignore[operator]

    return check


def _whole(low: int, high: int) -> Check:
    def check(value: object) -> bool:
        good = isinstance(value, int) and not isinstance(value, bool)
        return good and low <= value <= high  # type: ignore[operator]

    return check


def _is_names(value: object) -> bool:
    if value == ALL:
        return True
    listed = isinstance(value, list) and bool(value)
    return listed and all(isinstance(name, str) for name in value)  # type: ignore[attr-defined]


def _is_groups(value: object) -> bool:
    listed = isinstance(value, list) and len(value) > 1
    return listed and all(_is_names(group) and group != ALL for group in value)  # type: ignore[attr-defined]


def _is_fraction(value: object) -> bool:
    try:
        split_fraction(value, "fraction")
    except ConfigError:
        return False
    return isinstance(value, str)


SECONDS = (_real(0.0, 86_400.0), "seconds, at least 0")
SHARE = (_real(0.0, 1.0), "a share from 0 to 1")
NAMES = (_is_names, 'a list of peers as ["p1", "p2"], or "all"')

KEYS: dict[str, tuple[Check, str]] = {
    "at": (_real(0.0, MAX_TIME_S), "virtual seconds from the beginning"),
    "peers": NAMES,
    "others": NAMES,
    "groups": (_is_groups, 'lists of peers as [["p0", "p1"], ["p2"]]'),
    "by": (lambda value: isinstance(value, str), 'a peer as "p0"'),
    "fraction": (_is_fraction, 'a split fraction as "1/4"'),
    "power": (lambda value: isinstance(value, bool), "true or false"),
    "ticket": (lambda value: isinstance(value, bool), "true or false"),
    "in_order": (lambda value: isinstance(value, bool), "true or false"),
    "factor": (_real(0.01, 10_000.0), "a factor of the training time, above 0"),
    "rounds": (_whole(1, 1_000_000), "a number of rounds, at least 1"),
    "count": (_whole(1, MAX_NEWCOMERS), f"a number of peers, 1 to {MAX_NEWCOMERS}"),
    "down_s": SECONDS,
    "pause_s": SECONDS,
    "sync_s": SECONDS,
    "latency_s": SECONDS,
    "jitter_s": SECONDS,
    "bytes_per_s": (_real(1.0, 1e15), "bytes per second, at least 1"),
    "loss": SHARE,
    "duplicates": SHARE,
}
"""What each key's value must be, and how that reads in an error."""

LINKS = ("peers", "others")

KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "kill": (("peers",), ("power",)),
    "restart": (("peers",), ()),
    "stop": (("peers",), ()),
    "leave": (("peers",), ()),
    "recover": (("peers",), ("by",)),
    "fraction": (("peers", "fraction"), ()),
    "pause": (("peers",), ()),
    "resume": (("peers",), ()),
    "slow": (("peers", "factor"), ()),
    "fail-trainer": (("peers",), ("rounds",)),
    "lost-writes": (("peers",), ("sync_s",)),
    "join": ((), ("by", "count", "ticket")),
    "join-storm": (("count",), ("by", "pause_s", "ticket")),
    "rolling-restart": (("down_s", "pause_s"), ("peers", "power")),
    "mass-restart": (("down_s",), ("peers", "power")),
    "partition": (("groups",), ()),
    "cut": (LINKS, ()),
    "break": ((), LINKS),
    "clog": ((), LINKS),
    "unclog": ((), LINKS),
    "outward": (("peers",), ()),
    "network": (
        (),
        (
            *LINKS,
            *("loss", "duplicates", "latency_s", "jitter_s", "bytes_per_s"),
            "in_order",
        ),
    ),
    "heal": ((), ()),
}
"""For every kind of fault the keys that it must and that it may have, beside ``at``.

``others`` are the receiving ends of links that begin at ``peers``.
"""


def load_script(path: Path) -> Script:
    """The script in a file; ``ConfigError`` names the file and what is wrong in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file",
            hint="name a fault script, or say random or none",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse_script(text, str(path))


def parse_script(text: str, source: str) -> Script:
    """The script in a TOML text; ``source`` names it in errors."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        hint = 'texts stand in quotes: kind = "kill"'
        raise ConfigError(f"{source}: not a TOML file: {error}", hint=hint) from None
    for key in document:
        if key != "fault":
            hint = "a fault script has [[fault]] tables only"
            raise ConfigError(f"{source}: unknown key {key!r}", hint=hint)
    tables = document.get("fault", [])
    if not isinstance(tables, list):
        hint = "write [[fault]], with two brackets"
        raise ConfigError(f"{source}: 'fault' is no list of tables", hint=hint)
    if len(tables) > MAX_FAULTS:
        raise ConfigError(f"{source}: more than {MAX_FAULTS} faults")
    faults = [
        _fault(table, f"{source}: fault {number}")
        for number, table in enumerate(tables, 1)
    ]
    return Script(tuple(sorted(faults, key=lambda fault: fault.at_s)), source)


def _fault(table: object, place: str) -> Fault:
    if not isinstance(table, dict):
        raise ConfigError(f"{place} is no table", hint="write [[fault]] above its keys")
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = suggestion(str(kind), list(KINDS))
        raise ConfigError(f"{place}: key 'kind' is {kind!r}", hint=hint)
    required, optional = KINDS[kind]
    known = ("at", *required, *optional)
    for key, value in table.items():
        if key == "kind":
            continue
        if key not in known:
            hint = suggestion(key, known)
            raise ConfigError(f"{place}: {kind} has no key {key!r}", hint=hint)
        check, wanted = KEYS[key]
        if not check(value):
            raise ConfigError(f"{place}: key {key!r} is {value!r}: it must be {wanted}")
    for key in ("at", *required):
        if key not in table:
            raise ConfigError(f"{place}: {kind} needs the key {key!r}")
    values = {k: _frozen(v) for k, v in table.items() if k not in ("at", "kind")}
    return Fault(float(table["at"]), kind, values)


def _frozen(value: object) -> Value:
    if isinstance(value, list):
        return tuple(_frozen(each) for each in value)  # type: ignore[return-value]
    assert isinstance(value, (bool, int, float, str))
    return value


def check_names(script: Script, peer_count: int) -> None:
    """``ConfigError`` for a peer that this swarm does not have."""
    known = {f"p{n}" for n in range(peer_count + script.newcomer_count)}
    for number, fault in enumerate(script.faults, 1):
        for key in ("peers", "others", "groups", "by"):
            for name in _flat(fault.values.get(key, ())):
                if name not in known and name != ALL:
                    raise ConfigError(
                        f"{script.source}: fault {number}: key {key!r} names {name!r}",
                        hint=f"the peers of this swarm are p0 to p{len(known) - 1}",
                    )


def _flat(value: object) -> list[str]:
    if isinstance(value, tuple):
        return [name for each in value for name in _flat(each)]
    return [value] if isinstance(value, str) else []
