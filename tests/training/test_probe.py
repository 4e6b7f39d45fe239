"""Probes: what is fitted is the minimum, on the right labels, the same every time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.split.segment import Split
from p2pfusion.training import submodel
from p2pfusion.training.data import DataOptions, Records, load
from p2pfusion.training.data.examples import Examples, examples
from p2pfusion.training.data.partition import generator
from p2pfusion.training.data.passages import passages
from p2pfusion.training.data.vocabulary import Vocabulary
from p2pfusion.training.models import MODELS
from p2pfusion.training.models.projection import Projecting
from p2pfusion.training.probe import (
    PENALTY,
    FineTuning,
    encoded,
    few_of_each_class,
    fine_tune,
    initial_model,
    linear_probe,
    regression,
)
from p2pfusion.training.whole import whole_module

CPU = torch.device("cpu")
ARGUMENTS: Mapping[str, object] = {"hidden": [24]}
QUICK = FineTuning(per_class=20, epochs=8, warm_up_epochs=2, learning_rate=1e-2)


def digits(part: str, limit: int) -> Records:
    options = DataOptions.from_data({"kind": "digits", "limit": {part: limit}})
    found = load(options, part)
    assert found is not None
    return found


def module(seed: int = 1) -> nn.Module:
    return whole_module("mlp", ARGUMENTS, initial_model("mlp", ARGUMENTS, seed))


def clouds(count: int, classes: int, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Features that overlap between classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    found = random.normal(size=(count, 4))
    found[:, 0] += labels
    found[:, 1] -= labels % 2
    return torch.from_numpy(found), torch.from_numpy(labels)


def slow_gradients(
    features: Tensor, labels: Tensor, weights: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Of the penalised mean cross-entropy, record by record."""
    of_weights, of_bias = PENALTY * weights, torch.zeros_like(bias)
    for feature, label in zip(features, labels, strict=True):
        wrong = (feature @ weights + bias).softmax(0)
        wrong[label] -= 1
        of_weights = of_weights + feature[:, None] * wrong / len(labels)
        of_bias = of_bias + wrong / len(labels)
    return of_weights, of_bias


@pytest.mark.parametrize("classes", [2, 5])
def test_the_regression_ends_where_the_gradient_vanishes(classes: int) -> None:
    features, labels = clouds(60, classes)
    weights, bias = regression(features, labels, classes)
    for gradient in slow_gradients(features, labels, weights, bias):
        assert gradient.abs().max() < 1e-5
    order = torch.from_numpy(np.random.default_rng(0).permutation(60))
    again, _ = regression(features[order], labels[order], classes)
    torch.testing.assert_close(again, weights, atol=1e-3, rtol=0)


def test_separable_classes_have_a_minimum_too() -> None:
    features = torch.tensor([[-1.0], [1.0]], dtype=torch.float64).repeat(5, 1)
    weights, bias = regression(features, torch.arange(10) % 2, 2)
    assert torch.isfinite(weights).all() and torch.isfinite(bias).all()
    assert weights[0, 1] > 1 > -1 > weights[0, 0]


def test_features_are_what_the_classifier_reads() -> None:
    encoder, records = module(), digits("test", 40)
    assert isinstance(encoder, Projecting)
    found, labels = encoded(encoder, records, CPU)
    inputs, targets = records.batch(torch.arange(40), CPU)
    with torch.no_grad():
        expected = encoder.last(inputs).double()
    assert torch.equal(found, expected) and torch.equal(labels, targets)
    assert found.dtype == torch.float64


class Pixels(Projecting):
    """An encoder that sees what is there, and one feature that never changes."""

    def last(self, inputs: Tensor) -> Tensor:
        flat = inputs.flatten(1)
        return torch.cat([1e3 + 5 * flat, torch.full((len(flat), 1), 4.0)], 1)


def test_a_probe_is_a_regression_on_standardised_features() -> None:
    """Whatever the features' scale; one that never changes is no trouble."""
    train, test = digits("train", 300), digits("test", 200)
    found = linear_probe(Pixels(), train, test, CPU, label_count=300)
    pixels, labels = (
        torch.cat(parts)
        for parts in zip(*(_flat(r) for r in (train, test)), strict=True)
    )
    means, deviations = pixels[:300].mean(0), pixels[:300].std(0, correction=0)
    scaled = (pixels - means) / torch.where(deviations > 1e-6, deviations, 1.0)
    weights, bias = regression(scaled[:300], labels[:300], 10)
    logits = scaled[300:] @ weights + bias
    loss = functional.cross_entropy(logits, labels[300:]).item()
    assert found.loss == pytest.approx(loss, rel=0.01)
    right = (logits.argmax(1) == labels[300:]).double().mean().item()
    assert found.accuracy == pytest.approx(right, abs=0.011) and right > 0.8
    assert found.samples == 200


def _flat(records: Records) -> tuple[Tensor, Tensor]:
    images, labels = records.batch(torch.arange(len(records)), CPU)
    return images.flatten(1).double(), labels


def test_a_probe_is_the_same_every_time_and_leaves_the_module_alone() -> None:
    train, test = digits("train", 400), digits("test", 100)
    built = module()
    before = [parameter.clone() for parameter in built.parameters()]
    first, again = (linear_probe(built, train, test, CPU) for _ in range(2))
    assert first == again
    fewer = linear_probe(built, train, test, CPU, label_count=50)
    assert fewer.accuracy < first.accuracy and fewer.samples == 100
    for kept, parameter in zip(before, built.parameters(), strict=True):
        assert torch.equal(kept, parameter)


def test_labels_of_the_test_part_are_not_looked_at_when_fitting() -> None:
    train, test = digits("train", 200), digits("test", 100)
    assert isinstance(test, Examples)
    honest = linear_probe(module(), train, test, CPU)
    shifted = Examples(test.images, (test.labels + 1) % 10, test.scale)
    assert linear_probe(module(), train, shifted, CPU).accuracy < 0.1
    assert honest.accuracy > 0.6


def test_fine_tuning_learns_and_is_the_same_for_the_same_seed() -> None:
    train, test = digits("train", 600), digits("test", 200)
    built = module()
    before = [parameter.clone() for parameter in built.parameters()]
    first, again, other = (
        fine_tune(built, train, test, CPU, QUICK, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other
    assert first.accuracy > 0.7
    for kept, parameter in zip(before, built.parameters(), strict=True):
        assert torch.equal(kept, parameter)


def test_fine_tuning_begins_with_a_fresh_classifier() -> None:
    """Without steps of any length every class is equally likely."""
    still = FineTuning(per_class=2, epochs=1, warm_up_epochs=0, learning_rate=0.0)
    train, test = digits("train", 100), digits("test", 50)
    found = fine_tune(module(), train, test, CPU, still, seed=0)
    assert found.loss == pytest.approx(np.log(10))


def test_the_rate_rises_and_falls() -> None:
    rates = [FineTuning(1).learning_rate_at(step / 40) for step in range(41)]
    assert rates[0] == 0.0 and rates[5] == pytest.approx(0.5e-3)
    assert max(rates) == rates[10] == pytest.approx(1e-3)
    assert rates[25] == pytest.approx(0.5e-3)
    assert rates[40] == pytest.approx(0.0)
    assert FineTuning(1, warm_up_epochs=0).learning_rate_at(0.0) == 1e-3


def test_few_of_each_class() -> None:
    labels = np.array([0] * 9 + [1] * 2 + [5] * 6)
    records = examples(np.zeros((17, 2, 2), np.uint8), labels, "f")
    found = few_of_each_class(records, 4, generator(3, 7))
    assert (np.diff(found) > 0).all()
    counts = np.bincount(labels[found], minlength=6)
    assert counts.tolist() == [4, 2, 0, 0, 0, 4]
    other = few_of_each_class(records, 4, generator(4, 7))
    assert found.tolist() != other.tolist()


def test_initial_values_are_those_of_a_store() -> None:
    layout = MODELS["mlp"].layout(ARGUMENTS)
    values = initial_model("mlp", ARGUMENTS, 5)
    assert {k: v.shape for k, v in values.items()} == {
        p.name: p.shape for p in layout.parameters
    }
    built = submodel.build(MODELS["mlp"], ARGUMENTS, layout, Split.full(layout))
    submodel.load(built, values.values())
    weight = built.get_parameter("layers.0.weight")
    assert 0 < weight.abs().max() <= layout.parameters[0].initial.bound
    other = initial_model("mlp", ARGUMENTS, 6)["layers.0.weight"]
    assert (values["layers.0.weight"] != other).any()


def test_what_cannot_be_probed_is_refused() -> None:
    train, test = digits("train", 20), digits("test", 20)
    with pytest.raises(ConfigError, match="what its classifier reads"):
        linear_probe(nn.Linear(2, 2), train, test, CPU)
    vocabulary = Vocabulary("character", ("a", "b"))
    text = passages(np.array([0, 1] * 20), [40], vocabulary, length=4)
    assert text is not None
    with pytest.raises(DataError, match="a label for every record"):
        linear_probe(module(), train, text, CPU)
