"""What a trainer's answers say, as outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from p2pfusion.daemon.outcomes import Described, Measured, Trained
from p2pfusion.protocol.events import StartTraining
from p2pfusion.split.layout import Layout

Fields = Mapping[str, object]


def described(message: Fields) -> Described:
    """The answer to ``describe``."""
    arguments, vocabulary = message["arguments"], message["vocabulary"]
    assert isinstance(arguments, dict) and isinstance(vocabulary, dict)
    layout = Layout.from_data(message["layout"])
    deep = message["deep"] is True
    versions = message["versions"]
    assert isinstance(versions, dict)
    return Described(layout, arguments, vocabulary, deep, versions)


def trained(message: Fields, wanted: StartTraining, since: Path | None) -> Trained:
    """The answer to ``train``; ``since``: the offer before it."""
    return Trained(
        round_index=whole(message["round"]),
        offer=Path(str(message["offer"])),
        split=wanted.split,
        since=since if wanted.goes_on else None,
        samples=whole(message["samples"]),
        loss=real(message["loss"]),
        is_measured=message["measures"] is True,
        norm=real(message["norm"]),
        seconds=real(message["seconds"]),
        l1=real(message.get("l1", 0.0)),
    )


def measured(message: Fields) -> Measured:
    """What follows such an answer, if it says so."""
    return Measured(whole(message["round"]), real(message["accuracy"]))


def whole(value: object) -> int:
    """A whole number."""
    assert isinstance(value, int)
    return value


def real(value: object) -> float:
    """A number."""
    assert isinstance(value, int | float)
    return float(value)
