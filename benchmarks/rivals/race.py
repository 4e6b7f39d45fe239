"""One run of one contestant, boiled down to what the tables show."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from contestants import Contestant, Outcome, compete, settings_of

from p2pfusion.training.data.images import digits


@dataclass(frozen=True)
class Race:
    """Seconds, bytes and rounds of one run."""

    round_s: float
    """Median over rounds, from one's end at the last peer to the next one's."""
    round_bytes: float
    round_processor_s: float
    """Processor time of all processes in a round."""
    first_round_s: float
    """From the start of the programs to the end of the first round."""
    rounds_needed: int | None
    """Until the target; None if it was not reached."""
    seconds_needed: float
    """Until then, without start-up: the first round counts as a median one."""
    bytes_needed: int
    """Until then, with start-up."""


def pure_training(contestant: Contestant, seed: int, home: Path) -> tuple[float, float]:
    """Seconds per round where nobody exchanges anything, and those of the processor."""
    settings = settings_of(rounds=contestant.rounds, keep_every=0)
    outcome = compete(contestant, settings, seed, home)
    assert isinstance(outcome, Outcome), outcome
    first, last, later = outcome.ends[0], outcome.ends[-1], len(outcome.ends) - 1
    used_s = outcome.meter.processor_s(first, last)
    return (last - first) / later, used_s / later


def race(contestant: Contestant, seed: int, target: float, home: Path) -> Race | str:
    """One run; why it failed, if it did.

    Rivals keep the values of every round on the way, at the cost of writing a file. Our
    daemons would have to assemble them from the swarm, so how many rounds they need is
    told by a second run, whose time does not count.
    """
    settings = settings_of(rounds=contestant.rounds, keep_every=1)
    timed = settings if not contestant.swarm else replace(settings, keep_every=0)
    outcome = compete(contestant, timed, seed, home)
    if isinstance(outcome, str):
        return outcome
    looked_at = outcome
    if contestant.swarm:
        second = compete(contestant, settings, seed, home)
        if isinstance(second, str):
            return second
        looked_at = second
    return boiled_down(outcome, needed(looked_at, target))


def boiled_down(outcome: Outcome, needed: int | None) -> Race:
    """The figures of a run."""
    ends, meter = outcome.ends, outcome.meter
    round_s = statistics.median(b - a for a, b in pairwise(ends))
    later = len(ends) - 1
    reached = ends[needed - 1] if needed else ends[-1]
    return Race(
        round_s=round_s,
        round_bytes=meter.sent_bytes(ends[0], ends[-1]) / later,
        round_processor_s=meter.processor_s(ends[0], ends[-1]) / later,
        first_round_s=ends[0] - outcome.started_at,
        rounds_needed=needed,
        seconds_needed=reached - ends[0] + round_s,
        bytes_needed=meter.sent_bytes(0.0, reached),
    )


def needed(outcome: Outcome, target: float) -> int | None:
    """After how many rounds the model was that good for the first time."""
    for number, values in sorted(outcome.kept.items()):
        if accuracy(values) >= target:
            return number
    return None


def accuracy(values: Sequence[np.ndarray]) -> float:
    """Of the whole perceptron, on the held-out digits."""
    held_out = digits(None, "test")
    pixels = held_out.images.flatten(1).numpy().astype(np.float32)
    layer = pixels * (2 / held_out.scale) - 1  # (N, inputs)
    pairs = list(zip(values[::2], values[1::2], strict=True))
    for weight, bias in pairs[:-1]:
        layer = np.maximum(layer @ weight.T + bias, 0)
    weight, bias = pairs[-1]
    answers = (layer @ weight.T + bias).argmax(axis=1)
    return float((answers == held_out.labels.numpy()).mean())
