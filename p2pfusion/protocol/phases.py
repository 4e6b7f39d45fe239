"""The phases of a round, and what moves it from one to the next: a table."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """Where a round stands."""

    PLAN = "plan"
    TRAIN = "train"
    OFFER = "offer"
    EXCHANGE = "exchange"
    SEAL = "seal"


TRAIN, EXCHANGE = Phase.TRAIN, Phase.EXCHANGE
"""The two that are asked for after every event, where an enumeration is slow."""


class Signal(StrEnum):
    """What moves a round on."""

    TRAIN = "train"
    CATCH_UP = "catch-up"
    TRAINED = "trained"
    FAILED = "failed"
    ANNOUNCED = "announced"
    COMPLETE = "complete"


TRANSITIONS: dict[Phase, dict[Signal, Phase]] = {
    Phase.PLAN: {Signal.TRAIN: Phase.TRAIN, Signal.CATCH_UP: Phase.EXCHANGE},
    Phase.TRAIN: {Signal.TRAINED: Phase.OFFER, Signal.FAILED: Phase.EXCHANGE},
    Phase.OFFER: {Signal.ANNOUNCED: Phase.EXCHANGE},
    Phase.EXCHANGE: {Signal.COMPLETE: Phase.SEAL},
    Phase.SEAL: {},
}
