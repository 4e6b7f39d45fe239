"""Controls: what they train and leave alone, and what an ensemble says."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from p2pfusion.methods import Member, PlanContext
from p2pfusion.methods.heterofl import HeteroFL
from p2pfusion.split.segment import Split
from p2pfusion.store.initial import initial_values
from p2pfusion.training import submodel
from p2pfusion.training.controls import (
    FullForwardTrainer,
    MeanOfLogits,
    evaluate_together,
)
from p2pfusion.training.data import DataOptions, load
from p2pfusion.training.loop import Schedule
from p2pfusion.training.models import find_model
from p2pfusion.training.setup import Setup
from p2pfusion.training.trainer import Trainer

ARGUMENTS = {"hidden": [16, 16]}
MODEL = find_model("mlp")
LAYOUT = MODEL.layout(ARGUMENTS)
SETUP = Setup(
    model="mlp",
    arguments=ARGUMENTS,
    layout=LAYOUT,
    seed=0,
    schedule=Schedule(batch=32, steps=3),
    data=DataOptions.from_data({"kind": "digits", "validation": 0.0}),
)


def stored(seed: int) -> dict[str, np.ndarray]:
    """A whole model."""
    return {
        parameter.name: initial_values(LAYOUT, seed, index, 0, parameter.shape[0])
        for index, parameter in enumerate(LAYOUT.parameters)
    }


def part() -> Split:
    """Half of every width."""
    member = Member("one", Fraction(1, 2))
    return HeteroFL().split(PlanContext(0, 1, LAYOUT, (member,)), 0, 0)


def trained(trainer: Trainer, split: Split) -> list[np.ndarray]:
    """What one round makes of the model of seed 0."""
    values = list(stored(0).values())

    def read(segment):  # type: ignore[no-untyped-def]
        places = np.ix_(*(list(indices) for indices in segment.sets))
        return values[segment.parameter][places]

    done = trainer.train(round_index=0, split=split, learning_rate=0.1, read=read)
    return [np.array(array) for array in done.arrays]


def by_hand(split: Split) -> list[np.ndarray]:
    """The slow way: the whole model, all gradients, those outside thrown away."""
    trainer = Trainer(SETUP)
    start = list(stored(0).values())
    module = MODEL.build(ARGUMENTS, Split.full(LAYOUT).sizes())
    submodel.load(module, start)
    parameters = list(module.parameters())
    segments = list(split.segments(LAYOUT))
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    records = trainer._records
    from p2pfusion.training.loop import batch_generator

    order = torch.randperm(len(records), generator=batch_generator(0, 0, 0))
    for step in range(3):
        chosen = order[32 * step : 32 * (step + 1)]
        inputs, targets = records.batch(chosen, torch.device("cpu"))
        loss = torch.nn.functional.cross_entropy(module(inputs), targets)
        gradients = list(torch.autograd.grad(loss, parameters))
        kept = []
        for gradient, segment in zip(gradients, segments, strict=True):
            inside = torch.zeros_like(gradient)
            places = np.ix_(*(list(indices) for indices in segment.sets))
            inside[places] = gradient[places]
            kept.append(inside)
        norm = float(torch.sqrt(sum((g**2).sum() for g in kept)))
        scale = min(1.0, 1.0 / (norm + 1e-6))
        with torch.no_grad():
            for parameter, velocity, gradient in zip(
                parameters, velocities, kept, strict=True
            ):
                velocity.mul_(0.9).add_(gradient * scale)
                parameter.sub_(0.1 * velocity)
    for parameter, old, segment in zip(parameters, start, segments, strict=True):
        outside = np.ones(parameter.shape, bool)
        outside[np.ix_(*(list(indices) for indices in segment.sets))] = False
        assert np.array_equal(parameter.detach().numpy()[outside], old[outside])
    return [
        parameter.detach().numpy()[np.ix_(*(list(i) for i in segment.sets))]
        for parameter, segment in zip(parameters, segments, strict=True)
    ]


def test_a_full_forward_pass_trains_the_split_inside_the_whole_model() -> None:
    split = part()
    found = trained(FullForwardTrainer(SETUP), split)
    for array, expected in zip(found, by_hand(split), strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-6)


def test_it_is_not_what_the_sub_model_alone_trains() -> None:
    split = part()
    inside, alone = (
        trained(FullForwardTrainer(SETUP), split),
        trained(Trainer(SETUP), split),
    )
    assert [a.shape for a in inside] == [a.shape for a in alone]
    assert not np.allclose(inside[0], alone[0], atol=1e-4)


def test_models_answer_together_by_the_mean_of_their_logits() -> None:
    records = load(SETUP.data, "test")
    assert records is not None
    each = [stored(1), stored(2)]
    inputs, targets = records.batch(torch.arange(len(records)), torch.device("cpu"))
    logits = []
    for values in each:
        module = MODEL.build(ARGUMENTS, Split.full(LAYOUT).sizes())
        submodel.load(module, values.values())
        logits.append(module(inputs).detach().numpy())
    mean = np.mean(logits, axis=0)
    found = evaluate_together("mlp", ARGUMENTS, each, records)
    assert found.accuracy == pytest.approx((mean.argmax(1) == targets.numpy()).mean())
    alone = evaluate_together("mlp", ARGUMENTS, each[:1], records)
    assert alone.accuracy == pytest.approx(
        (logits[0].argmax(1) == targets.numpy()).mean()
    )


def test_an_ensemble_of_one_is_that_one() -> None:
    module = MODEL.build(ARGUMENTS, Split.full(LAYOUT).sizes())
    inputs = torch.rand(4, 64)
    assert torch.equal(MeanOfLogits([module])(inputs), module(inputs))
