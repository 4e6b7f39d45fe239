"""What training takes is known before: the ledger, and what is concluded from it."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from p2pfusion.daemon.budget import candidates
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.depth import cut_in_depth
from p2pfusion.training.data import DataOptions
from p2pfusion.training.descent import Optimiser
from p2pfusion.training.description import describe
from p2pfusion.training.ledger import Ledger
from p2pfusion.training.loop import Schedule
from p2pfusion.training.prediction import Predictor, largest
from p2pfusion.training.setup import Setup
from p2pfusion.training.trainer import Trainer

DIGITS = DataOptions("digits")
MEBI = 1 << 20


def test_the_ledger_counts_what_is_alive_and_nothing_twice() -> None:
    with Ledger() as ledger:
        first = torch.zeros(1000)
        view = first[10:].view(-1, 9)
        second = first + 1
        del first
        held = ledger.bytes
        del view
        first_gone = ledger.bytes
        second.add_(1)
        del second
    assert (held, first_gone, ledger.bytes) == (8000, 4000, 0)
    assert max(ledger.timeline) == 8000


def test_a_convolution_needs_its_values_once_more() -> None:
    images, layer = torch.zeros(2, 3, 8, 8), nn.Conv2d(3, 4, 3, padding=1)
    with Ledger() as ledger, torch.no_grad():
        layer(images)
    given, got = images.nbytes, 2 * 4 * 8 * 8 * 4
    assert max(ledger.timeline) == got + (given + got)


def predictor(model: str = "mlp", **changes: object) -> Predictor:
    arguments: dict[str, object] = {"hidden": [64, 64]} if model == "mlp" else {}
    described = describe(model, arguments, DIGITS)
    setup = Setup(
        model=model,
        arguments=described.arguments,
        layout=described.layout,
        seed=0,
        data=DIGITS,
        **{"schedule": Schedule(batch=32), **changes},  # type: ignore[arg-type]
    )
    trainer = Trainer(setup)
    return Predictor(setup, trainer.records, trainer.validation_samples)


def manifest(model: str = "mlp", **changes: object) -> Manifest:
    arguments: dict[str, object] = {"hidden": [64, 64]} if model == "mlp" else {}
    layout = describe(model, arguments, DIGITS).layout
    return Manifest(name="t", model=model, layout=layout, **changes)  # type: ignore[arg-type]


@pytest.mark.soak
def test_what_grows_grows_with_the_batch_and_the_rest_stays() -> None:
    split = candidates(manifest())[-1].split
    found = {
        batch: predictor(schedule=Schedule(batch=batch)).predict(split)
        for batch in (256, 512, 1024)
    }
    size = 4 * split.size(manifest().layout)
    assert found[256].parameters == found[512].parameters == size
    for batch in (512, 1024):
        grown = batch // 256 * found[256].activations
        assert found[batch].activations == pytest.approx(grown, rel=0.02)
        assert found[batch].states == pytest.approx(found[256].states, rel=0.02)


@pytest.mark.soak
def test_copies_of_the_optimiser_and_parts_of_the_batch_are_seen() -> None:
    split = candidates(manifest())[-1].split
    size = 4 * split.size(manifest().layout)
    plain = predictor().predict(split)
    # Gradients, velocities and what was received.
    assert plain.states == pytest.approx(3 * size, rel=0.1)
    adam = predictor(optimiser=Optimiser(rule="adamw")).predict(split)
    assert plain.states + size <= adam.states <= plain.states + 3 * size
    whole, parts = (
        predictor(schedule=Schedule(batch=1024, parts=n)).predict(split) for n in (1, 8)
    )
    assert parts.activations < 0.5 * whole.activations  # inputs stay


@pytest.mark.soak
def test_checkpointing_and_rounding_are_seen() -> None:
    split = candidates(manifest("vit"))[-1].split
    plain = predictor("vit").predict(split)
    again = predictor("vit", checkpointing=True).predict(split)
    half = predictor("vit", precision="bfloat16").predict(split)
    assert again.activations < 0.8 * plain.activations
    assert half.activations < plain.activations


def test_the_largest_of_several_that_fits() -> None:
    every = candidates(manifest())
    options = [every[0], every[len(every) // 2], every[-1]]
    splits, asked = [each.split for each in options], predictor()
    gc.collect()
    totals = [asked.predict(split).total for split in splits]
    assert totals[-1] - totals[0] > 0
    roomy, found = largest(asked, splits, 1 << 40)
    assert roomy == len(splits) - 1 and roomy in found
    scarce, found = largest(asked, splits, 1 << 20)
    assert scarce == 0 and found[0].total > 1 << 20


class Fixed:
    """A predictor that knows all; compared with trying one after the other."""

    def __init__(self, totals: list[int]) -> None:
        self.totals = totals
        self.asked = 0

    def least(self, split: int) -> int:
        return 0

    def predict(self, split: int) -> object:
        self.asked += 1

        class Found:
            total = self.totals[split]

        return Found


@pytest.mark.parametrize("count", [1, 2, 3, 64, 512])
def test_halving_finds_what_trying_all_finds(count: int) -> None:
    totals = [number * 100 * MEBI for number in range(1, count + 1)]
    for fits in {0, 1, count // 2, count - 1, count}:
        asked = Fixed(totals)
        memory = fits * 100 * MEBI + 50 * MEBI
        chosen, found = largest(asked, range(count), memory)  # type: ignore[arg-type]
        assert chosen == max(0, fits - 1)
        assert chosen in found
        assert asked.asked <= 2 + count.bit_length()


# --- Which fractions there are -------------------------------------------------------


@pytest.mark.parametrize("method", ["msfusion", "fedrolex", "heterofl", "fedavg"])
def test_candidates_differ_and_ascend(method: str) -> None:
    told = manifest(method=method)
    options = candidates(told)
    fractions = [each.fraction for each in options]
    sizes = [each.split.size(told.layout) for each in options]
    assert fractions == sorted(set(fractions))
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == told.layout.size
    if method == "fedavg":
        assert len(options) == 1  # everybody trains everything


def test_depth_is_tried_in_parts_of_its_own() -> None:
    told = manifest("vit", method="layer-finetune")
    layout = cut_in_depth(told.layout)
    told = Manifest(name="t", model="vit", layout=layout, method="layer-finetune")
    options = candidates(told)
    trained = [each.split.trained.size(layout) for each in options]
    assert trained == sorted(set(trained)) and len(options) > 2
