"""Cross-entropy, and what the label mask does to absent classes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Layout
from p2pfusion.training.data.records import NO_ANSWER
from p2pfusion.training.objectives import create_objective
from p2pfusion.training.objectives.task import TaskObjective

CPU = torch.device("cpu")
IMAGES = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 2, 2, 0, 2, 0])


def objective_of(options: dict[str, object], counts: list[int]) -> TaskObjective:
    made = create_objective(options, counts, CPU, Layout((), ()))
    assert isinstance(made, TaskObjective)
    return made


def classifier() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(4, 4)


def test_without_mask_it_is_cross_entropy() -> None:
    module = classifier()
    loss = objective_of({}, [3, 0, 3, 0]).loss(module, IMAGES, LABELS)
    chosen = module(IMAGES).log_softmax(1)[torch.arange(6), LABELS]
    torch.testing.assert_close(loss, -chosen.mean())


def test_masked_logits_count_as_zero() -> None:
    module = classifier()
    objective = objective_of({"label_mask": True}, [3, 0, 3, 0])
    loss = objective.loss(module, IMAGES, LABELS)
    logits = module(IMAGES).detach()
    logits[:, [1, 3]] = 0.0
    by_hand = -logits.log_softmax(1)[torch.arange(6), LABELS].mean()
    torch.testing.assert_close(loss.detach(), by_hand)


def test_absent_classes_get_no_gradient() -> None:
    for mask in (True, False):
        module = classifier()
        objective = objective_of({"label_mask": mask}, [3, 0, 3, 0])
        objective.loss(module, IMAGES, LABELS).backward()
        assert module.weight.grad is not None
        moved = module.weight.grad.abs().sum(1) > 0
        assert moved.tolist() == [True, not mask, True, not mask]


def test_an_adjusted_logit_is_as_much_larger_as_its_class_is_more_common() -> None:
    module = classifier()
    objective = objective_of({"logit_adjustment": 0.5}, [3, 0, 3, 0])
    loss = objective.loss(module, IMAGES, LABELS)
    shares = torch.tensor([4.0, 1.0, 4.0, 1.0]) / 10
    logits = module(IMAGES).detach() + 0.5 * shares.log()
    by_hand = -logits.log_softmax(1)[torch.arange(6), LABELS].mean()
    torch.testing.assert_close(loss.detach(), by_hand)


def test_with_classes_alike_an_adjustment_changes_nothing() -> None:
    module = classifier()
    plain = objective_of({}, [5, 5, 5, 5])
    adjusted = objective_of({"logit_adjustment": 1}, [5, 5, 5, 5])
    torch.testing.assert_close(
        plain.loss(module, IMAGES, LABELS), adjusted.loss(module, IMAGES, LABELS)
    )


def test_every_token_of_running_text_has_a_loss_but_those_without_an_answer() -> None:
    module = classifier()
    inputs = IMAGES.reshape(2, 3, 4)
    targets = torch.tensor([[0, 2, NO_ANSWER], [3, NO_ANSWER, 2]])
    objective = objective_of({"label_mask": True}, [3, 0, 3, 1])
    loss = objective.loss(module, inputs, targets)
    logits = module(inputs).detach()
    logits[..., 1] = 0.0
    likely = logits.log_softmax(-1)
    chosen = [likely[0, 0, 0], likely[0, 1, 2], likely[1, 0, 3], likely[1, 2, 2]]
    torch.testing.assert_close(loss.detach(), -torch.stack(chosen).mean())


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"name": "contrast"}, "objective.name"),
        ({"label_mask": "yes"}, "objective.label_mask"),
        ({"logit_adjustment": "yes"}, "objective.logit_adjustment"),
        ({"logit_adjustment": True}, "objective.logit_adjustment"),
        ({"mask": True}, "objective.mask"),
        ({"weight": 1.0}, "objective.weight"),
    ],
)
def test_wrong_options_name_their_key(options: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        objective_of(options, [1, 1])
    assert caught.value.message.startswith(f"{key}: ")
