"""Who looks at what: the model's own classifier, or a probe beside a random encoder."""

from __future__ import annotations

import pytest

from p2pfusion.errors import ConfigError
from p2pfusion.training.controls import evaluate_together
from p2pfusion.training.data import DataOptions, Records, load
from p2pfusion.training.devices import find_device
from p2pfusion.training.examination import (
    EncoderExaminer,
    Examiner,
    Labels,
    examiner_for,
)
from p2pfusion.training.objectives import SELF_SUPERVISED
from p2pfusion.training.probe import PROBE_LABELS, initial_model, linear_probe
from p2pfusion.training.whole import whole_module

ARGUMENTS = {"hidden": [16]}


def digits(part: str) -> Records:
    options = DataOptions.from_data({"kind": "digits", "limit": {part: 150}})
    found = load(options, part)
    assert found is not None
    return found


def examiner(objective: str, labels: Labels) -> Examiner:
    plain = Examiner("mlp", ARGUMENTS, digits("test"))
    return examiner_for(
        objective, plain, labelled=digits("train"), labels=labels, seed=3
    )


VALUES = initial_model("mlp", ARGUMENTS, 3)


@pytest.mark.parametrize("objective", ["task", "contrastive"])
def test_a_classifier_that_was_trained_is_asked(objective: str) -> None:
    found = examiner(objective, Labels())
    expected = evaluate_together("mlp", ARGUMENTS, [VALUES, VALUES], digits("test"))
    assert found.evaluate([VALUES, VALUES]) == expected
    assert found.before(VALUES) == found.after(VALUES) == {}
    for labels in (Labels(probe=5), Labels(fine_tuning=5)):
        with pytest.raises(ConfigError, match="'" + objective + "' has them"):
            examiner(objective, labels)


@pytest.mark.parametrize("objective", SELF_SUPERVISED)
def test_an_encoder_is_probed_beside_a_random_one(objective: str) -> None:
    found = examiner(objective, Labels(probe=100))
    module = whole_module("mlp", ARGUMENTS, VALUES)
    cpu = find_device("cpu")
    expected = linear_probe(
        module, digits("train"), digits("test"), cpu, label_count=100
    )
    assert found.evaluate([VALUES]) == expected
    assert found.before(VALUES) == {
        "probe_labels": 100,
        "random_encoder_accuracy": expected.accuracy,
    }
    assert found.after(VALUES) == {}


def test_fine_tuning_is_for_who_asks() -> None:
    found = examiner("moco", Labels(fine_tuning=2))
    assert isinstance(found, EncoderExaminer) and found.probe_labels == PROBE_LABELS
    before, after = found.before(VALUES), found.after(VALUES)
    assert before["probe_labels"] == 150
    assert after.keys() == {"fine_tuned_accuracy"}
    same = before["random_encoder_fine_tuned_accuracy"]
    assert after["fine_tuned_accuracy"] == same
    assert isinstance(same, float) and same > 0.2
