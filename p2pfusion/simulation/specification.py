"""The keys of an experiment's specification, taken out with a check of their kind."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from p2pfusion.errors import ConfigError
from p2pfusion.methods import split_fraction
from p2pfusion.simulation.attacks import ATTACKS

REALS = (
    *("learning_rate", "momentum", "outer_momentum", "weight_decay", "clip"),
    *("clip_relative", "logit_adjustment", "proximal"),
)
PASSED_ON = (
    *("method", "objective", "rounds", "seed", "batch", "local_epochs", "local_steps"),
    *("optimiser", "schedule", "wire_dtype", "weighting", "fusion", "label_mask"),
    *("augment", "max_staleness", "secure_aggregation", "delay", "second_opinions"),
)
ARGUMENTS = ("method_arguments", "objective_arguments")
NEEDED = ("model", "peers", "split_fraction", "data")
OWN = (
    *(*ARGUMENTS, "model_arguments", "vocabulary"),
    *("partition", "data_name", "limit", "limit_test", "eval_every"),
    *("shares", "participants", "ensemble", "full_forward", "quorum"),
    *("pretrained", "save", "slowness"),
    *("probe_labels", "fine_tune_labels"),
    *("privacy_noise", "privacy_clip"),
    *("attack", "attackers", "quarantine"),
)

MAX_SLOWNESS = 1e6
"""Slower than that nobody waits for."""

Fields = Mapping[str, object]


def check_keys(fields: Fields) -> None:
    """``ConfigError`` names a key that is missing or unknown."""
    for key in NEEDED:
        if key not in fields:
            raise ConfigError(f"the experiment lacks the key {key!r}")
    unknown = sorted(set(fields) - {*NEEDED, *OWN, *PASSED_ON, *REALS})
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r} of the experiment")


def real(fields: Fields, key: str) -> float:
    """A number."""
    value = fields[key]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigError(f"key {key!r} of the experiment must be a number")
    return float(value)


def table(fields: Fields, key: str) -> dict[str, object]:
    """A table; a missing one is empty."""
    value = fields.get(key) or {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"key {key!r} of the experiment must be a table")
    return dict(value)


def data_table(fields: Fields) -> dict[str, object]:
    """What is said of the data, with nothing held back and the parts' limits."""
    limits = {"train": fields.get("limit"), "test": fields.get("limit_test")}
    limit = {key: value for key, value in limits.items() if value is not None}
    return {**table(fields, "data"), "validation": 0.0, "limit": limit}


def whole(fields: Fields, key: str) -> int:
    """A whole number above 0."""
    value = fields[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"key {key!r} of the experiment must be a whole number > 0")
    return value


def optional(fields: Fields, key: str) -> int | None:
    """The same of a key that may be missing; None then."""
    return None if fields.get(key) is None else whole(fields, key)


def stated(fields: Fields) -> dict[str, object]:
    """What goes to the manifest as it is; missing keys have the manifest's defaults."""
    given = {key: fields[key] for key in PASSED_ON if fields.get(key) is not None}
    given |= {key: real(fields, key) for key in REALS if key in fields}
    given |= {key: table(fields, key) for key in ARGUMENTS}
    return given


def split_fractions(value: object, peers: int) -> tuple[Fraction, ...]:
    """Of each peer: one for all, or several with commas between, dealt out in turn.

    ``ConfigError`` for what is none, or is nobody's.
    """
    texts = value.split(",") if isinstance(value, str) else [value]
    if len(texts) > peers:
        raise ConfigError(f"{len(texts)} split fractions are too many for {peers}")
    several = [split_fraction(text, "split fraction") for text in texts]
    return tuple(several[number % len(several)] for number in range(peers))


def slownesses(value: object, peers: int) -> tuple[float, ...]:
    """Of each peer, as for split fractions; ``ConfigError`` for what is none."""
    texts = value.split(",") if isinstance(value, str) else [value]
    try:
        several = [float(text) for text in texts]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        several = []
    if not several or not all(0 < each <= MAX_SLOWNESS for each in several):
        raise ConfigError(
            f"slowness: {value!r} is not of numbers above 0 and up to {MAX_SLOWNESS:g}",
            hint="1,4 lets every other peer take four times as long",
        )
    if len(several) > peers:
        raise ConfigError(f"{len(several)} slownesses are too many for {peers} peers")
    return tuple(several[number % len(several)] for number in range(peers))


@dataclass(frozen=True)
class Files:
    """Whole models that an experiment begins with, and leaves."""

    pretrained: Path | None
    """The checkpoint to begin with."""
    save: Path | None
    """Where the assembled model goes at the end."""

    @classmethod
    def of(cls, fields: Fields) -> Files:
        """From a specification. ``ConfigError``."""

        def path(key: str) -> Path | None:
            value = fields.get(key)
            if value is not None and (not isinstance(value, str) or not value):
                raise ConfigError(f"key {key!r} of the experiment must name a file")
            return None if value is None else Path(value)

        files = cls(path("pretrained"), path("save"))
        if files.save is not None and fields.get("ensemble") not in (None, 1):
            raise ConfigError(
                "the models of an ensemble cannot be saved as one",
                hint="save without --ensemble",
            )
        if files.save is not None and not files.save.absolute().parent.is_dir():
            raise ConfigError(
                f"{files.save}: there is no directory {str(files.save.parent)!r}",
                hint="create it first",
            )
        return files


@dataclass(frozen=True)
class Controls:
    """How an experiment differs from a swarm: only for comparisons."""

    shares: int
    """Into so many the data is dealt: as many as peers, or more, of which some are
    nobody's."""
    participants: int
    """So many peers train in a round, drawn anew for each."""
    ensemble: int
    """So many whole swarms with the same data, of other initial values each. Their
    models answer together, by the mean of their logits."""
    full_forward: bool
    """Peers compute with the whole model, and train their splits of it."""
    quorum: int | None
    """So many updates close a round, though the method would wait for all."""

    @classmethod
    def of(cls, fields: Fields, peers: int) -> Controls:
        """From a specification; missing keys change nothing. ``ConfigError``."""

        shares = optional(fields, "shares") or peers
        participants = optional(fields, "participants") or peers
        if shares < peers:
            raise ConfigError(f"{shares} shares of the data are too few for {peers}")
        if participants > peers:
            raise ConfigError(f"only {peers} peers can train, not {participants}")
        quorum = optional(fields, "quorum")
        if quorum is not None and quorum > participants:
            raise ConfigError(f"only {participants} peers train, and {quorum} never do")
        full_forward = fields.get("full_forward", False)
        if not isinstance(full_forward, bool):
            raise ConfigError("key 'full_forward' of the experiment is no truth value")
        ensemble = optional(fields, "ensemble") or 1
        return cls(shares, participants, ensemble, full_forward, quorum)

    def chosen(self, seed: int, round_index: int, peers: int) -> list[int]:
        """The ranks of those who train in a round, in order."""
        if self.participants == peers:
            return list(range(peers))
        drawn = random.Random(f"{seed} {round_index}").sample(
            range(peers), self.participants
        )
        return sorted(drawn)


@dataclass(frozen=True)
class Threat:
    """Who is hostile in an experiment, and what the others do about it."""

    attack: str | None = None
    """A name in the table of attacks; None: nobody is hostile."""
    attackers: int = 0
    quarantine: bool = False
    """Whether who disagrees with all others is put out."""

    @classmethod
    def of(cls, fields: Fields, peers: int) -> Threat:
        """From a specification. ``ConfigError``."""
        told, quarantine = fields.get("attack"), fields.get("quarantine") or False
        attackers = optional(fields, "attackers")
        if not isinstance(quarantine, bool):
            raise ConfigError("key 'quarantine' of the experiment is no truth value")
        if quarantine and fields.get("fusion") in (None, "mean"):
            raise ConfigError(
                "the mean finds nobody out, so quarantine means nothing to it",
                hint='choose another fusion, "trimmed" for instance',
            )
        if told is None and attackers:
            raise ConfigError("attackers without an attack do as all others")
        if told is None:
            return cls(quarantine=quarantine)
        attack, count = _attack(told, attackers)
        if count >= peers:
            raise ConfigError(f"{count} attackers of {peers} peers leave nobody else")
        if ATTACKS[attack].samples > 1 and fields.get("weighting") != "samples":
            raise ConfigError(
                f"the attack {attack!r} means nothing where samples do not count",
                hint='choose the weighting "samples"',
            )
        return cls(attack, count, quarantine)


def _attack(told: object, attackers: int | None) -> tuple[str, int]:
    """From ``NAME`` or ``NAME:K``; ``ConfigError`` for what is neither."""
    name, colon, count = str(told).partition(":")
    if name not in ATTACKS:
        raise ConfigError(
            f"attack {name!r} is unknown", hint=f"known: {', '.join(ATTACKS)}"
        )
    if not colon:
        return name, attackers or 1
    if attackers or not count.isdecimal() or not int(count):
        raise ConfigError(
            f"attack {told!r} does not say how many attackers there are",
            hint=f"{name}:2 means two of them; do not state --attackers, too",
        )
    return name, int(count)
