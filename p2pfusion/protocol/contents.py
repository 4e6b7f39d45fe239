"""What the tables of a manifest may hold, key by key; ``manifest.py`` has the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping

from p2pfusion.errors import ConfigError
from p2pfusion.limits import (
    MAX_NAME_CHARACTERS,
    MAX_VOCABULARY,
    MAX_VOCABULARY_BYTES,
)

HEX = re.compile(r"([0-9a-f]{64})?")
LEVELS = ("word", "character", "byte")

MAX_PACKAGES = 16
"""Packages whose versions are stated: model and objective come from two."""


def check(good: bool, key: str, value: object, want: str) -> None:
    """``ConfigError`` names the key, if its value is not good."""
    if not good:
        raise ConfigError(f"swarm key {key!r} is {value!r}: it must be {want}")


def check_hex(key: str, value: object, what: str) -> None:
    """Thirty-two bytes in hex, or nothing."""
    good = isinstance(value, str) and HEX.fullmatch(value) is not None
    check(good, key, value, f"{what} in hex, or empty")


def check_versions(value: object) -> None:
    """Names of packages, each with a version."""
    good = isinstance(value, Mapping) and len(value) <= MAX_PACKAGES
    if good:
        texts = [text for pair in value.items() for text in pair]  # type: ignore[attr-defined]
        good = all(
            isinstance(text, str) and 0 < len(text) <= MAX_NAME_CHARACTERS
            for text in texts
        )
    check(good, "versions", "not usable", "a table of packages and versions")


MASKABLE: Mapping[str, tuple[object, str]] = {
    "wire_dtype": ("float32", "masked values travel as integers of 32 bits"),
    "fusion": ("mean", "rules other than the mean look at single contributions"),
    "weighting": ("uniform", "a sum of masked values has no weights"),
    "max_staleness": (0, "what comes too late has nobody left to hide among"),
}
"""Keys that secure aggregation leaves one value, and why."""


def check_maskable(
    method: str, adds_changes: bool, stated: Mapping[str, object]
) -> None:
    """``ConfigError`` for the first rule that needs to see single contributions."""
    if adds_changes:
        raise ConfigError(
            f"secure_aggregation does not go with the method {method!r}: it weighs "
            "single changes",
            hint="choose another method, or leave secure_aggregation out",
        )
    for key, (wanted, why) in MASKABLE.items():
        if stated[key] != wanted:
            raise ConfigError(
                f"secure_aggregation does not go with {key} = {stated[key]!r}: {why}",
                hint=f"set {key} = {wanted!r}, or leave secure_aggregation out",
            )


def check_second_opinions(fusion: str, wanted: object, replication: int) -> None:
    """``ConfigError`` where sums are not told apart, or where nobody compares what no
    peer needs next."""
    check(isinstance(wanted, bool), "second_opinions", wanted, "true or false")
    if wanted and fusion == "mean":
        raise ConfigError(
            "second_opinions does not go with fusion = 'mean', which any member can "
            "lead anywhere without being a reducer",
            hint='set fusion = "trimmed", or leave second_opinions out',
        )
    if wanted and replication < 2:
        raise ConfigError(
            "second_opinions does not go with replication = 1: what no peer needs next "
            "would be at its reducer alone, and nobody would compare it",
            hint="set replication = 2, or leave second_opinions out",
        )


def check_vocabulary(value: object) -> None:
    """What it means is the trainer's matter; here only its form and size count."""

    def usable(good: bool, want: str) -> None:
        # Not the value: it may be a megabyte.
        check(good, "vocabulary", "not usable", want)

    usable(isinstance(value, Mapping), "a table of level, size and tokens")
    assert isinstance(value, Mapping)
    usable(set(value) <= {"level", "size", "tokens"}, "made of level, size and tokens")
    level, size, tokens = (value.get(key) for key in ("level", "size", "tokens"))
    usable(level is None or level in LEVELS, f"of level {', '.join(LEVELS)}")
    good_size = size is None or (type(size) is int and 4 <= size <= MAX_VOCABULARY)
    usable(good_size, f"of a size from 4 to {MAX_VOCABULARY}")
    tokens = () if tokens is None else tokens
    listed = isinstance(tokens, (list, tuple)) and len(tokens) <= MAX_VOCABULARY
    usable(
        listed
        and all(isinstance(token, str) for token in tokens)
        and sum(len(token.encode()) for token in tokens) <= MAX_VOCABULARY_BYTES,
        f"at most {MAX_VOCABULARY} texts of {MAX_VOCABULARY_BYTES} bytes in all",
    )


def check_plain(key: str, value: object, depth: int = 0) -> None:
    """Only numbers, texts, truth values, lists and tables of them."""
    if isinstance(value, Mapping):
        good = all(isinstance(name, str) for name in value) and depth < 4
        check(good, key, value, "a table of plain values")
        for inner in value.values():
            check_plain(key, inner, depth + 1)
    elif isinstance(value, (list, tuple)):
        check(depth < 4, key, value, "at most four levels deep")
        for inner in value:
            check_plain(key, inner, depth + 1)
    else:
        check(isinstance(value, (str, int, float, bool)), key, value, "a plain value")


def in_order(value: object) -> object:
    """The same with the keys of all tables sorted."""
    if isinstance(value, Mapping):
        return {key: in_order(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [in_order(inner) for inner in value]
    return value
