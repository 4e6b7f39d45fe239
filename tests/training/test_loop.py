"""A round is reproducible, counts its steps, and refuses to diverge."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from p2pfusion.errors import NonFiniteError
from p2pfusion.training import loop
from p2pfusion.training.data.examples import Examples
from p2pfusion.training.data.passages import Passages, passages
from p2pfusion.training.data.vocabulary import Vocabulary
from p2pfusion.training.descent import Optimiser
from p2pfusion.training.loop import (
    EVALUATION_BATCH,
    RoundResult,
    Schedule,
    batch_generator,
    evaluate,
    seed_draws,
    train_round,
)
from p2pfusion.training.objectives.task import TaskObjective

CPU = torch.device("cpu")


def records(count: int = 50) -> Examples:
    random = np.random.default_rng(1)
    images = random.normal(size=(count, 1, 2, 3)).astype(np.float32)
    labels = (images.sum((1, 2, 3)) > 0).astype(np.int64)
    return Examples(torch.from_numpy(images), torch.from_numpy(labels))


def network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def run(
    module: nn.Module,
    schedule: Schedule,
    *,
    rate: float = 0.1,
    generator: torch.Generator | None = None,
    steps: list[tuple[int, int, float]] | None = None,
) -> RoundResult:
    return train_round(
        module,
        records(),
        objective=TaskObjective(),
        optimiser=Optimiser(clip=None),
        schedule=schedule,
        learning_rate=rate,
        generator=generator or batch_generator(0, 0, 0),
        device=CPU,
        on_progress=None if steps is None else lambda *step: steps.append(step),
    )


def values(module: nn.Module) -> list[float]:
    return torch.cat([p.detach().flatten() for p in module.parameters()]).tolist()


def test_the_same_seeds_give_the_same_bits() -> None:
    one, other = network(), network()
    assert run(one, Schedule(8, epochs=2)) == run(other, Schedule(8, epochs=2))
    assert values(one) == values(other)


@pytest.mark.parametrize("seeds", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_seed_round_and_share_each_change_the_order(seeds: tuple[int, ...]) -> None:
    one, other = network(), network()
    run(one, Schedule(8))
    run(other, Schedule(8), generator=batch_generator(*seeds))
    assert values(one) != values(other)


@given(st.integers(1, 60), st.integers(1, 3), st.none() | st.integers(1, 9))
def test_a_round_has_whole_epochs_or_the_given_steps(
    batch: int, epochs: int, steps: int | None
) -> None:
    heard: list[tuple[int, int, float]] = []
    result = run(network(), Schedule(batch, epochs, steps), steps=heard)
    expected = steps or epochs * math.ceil(50 / batch)
    assert result.steps == expected
    assert [(step, total) for step, total, _ in heard] == [
        (step, expected) for step in range(1, expected + 1)
    ]


def test_the_loss_is_the_mean_over_all_examples_seen() -> None:
    result = run(network(), Schedule(16), rate=0.0)
    assert result.loss == pytest.approx(evaluate(network(), records(), CPU).loss)


def test_training_learns() -> None:
    module = network()
    before = evaluate(module, records(), CPU)
    run(module, Schedule(8, epochs=20))
    after = evaluate(module, records(), CPU)
    assert after.loss < before.loss / 2
    assert after.accuracy > 0.9


def test_a_diverging_round_is_refused() -> None:
    with pytest.raises(NonFiniteError, match="the loss of step") as caught:
        run(network(), Schedule(8, epochs=3), rate=1e30)
    assert caught.value.name == "non-finite"
    assert caught.value.exit_code == 1


def test_infinite_parameters_are_refused() -> None:
    module = network()
    module.register_parameter("unused", nn.Parameter(torch.tensor([math.inf])))
    with pytest.raises(NonFiniteError, match="parameter unused is not finite"):
        run(module, Schedule(8))


@pytest.mark.parametrize("count", [1, EVALUATION_BATCH, EVALUATION_BATCH + 3])
def test_evaluation_by_batches_equals_evaluation_at_once(count: int) -> None:
    examples, module = records(count), network()
    found = evaluate(module, examples, CPU)
    logits = module(examples.images)
    loss = nn.functional.cross_entropy(logits, examples.labels)
    assert found.samples == count
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)
    right = logits.argmax(1) == examples.labels
    assert found.accuracy == pytest.approx(right.float().mean().item())


def test_absent_classes_are_no_possible_answers() -> None:
    module = nn.Module()
    module.forward = lambda images: torch.tensor([[1.0, 9.0, 0.0]] * len(images))  # type: ignore[method-assign]
    examples = Examples(torch.zeros(4, 1, 2, 2), torch.tensor([0, 0, 0, 2]))
    assert evaluate(module, examples, CPU).accuracy == 0.0
    absent = torch.tensor([False, True, False])
    assert evaluate(module, examples, CPU, absent=absent).accuracy == 0.75


def bigrams(text: str, length: int) -> Passages:
    """Running text of two characters."""
    found = passages(np.array(["ab".index(c) for c in text]), [len(text)],
                     Vocabulary("character", ("a", "b")), length=length)  # fmt: skip
    assert found is not None
    return found


class Bigram(nn.Module):
    """Foretells a token from the one before it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(2, 2))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table[tokens]


@pytest.mark.parametrize("length", [1, 3, 50])
def test_perplexity_is_that_of_all_tokens_whatever_the_windows(length: int) -> None:
    text, module = bigrams("aababbaaab" * 9, length), Bigram()
    with torch.no_grad():
        module.table.copy_(torch.tensor([[0.0, 1.0], [0.5, 0.0]]))
    found = evaluate(module, text, CPU)
    likely = module.table.detach().log_softmax(-1)
    tokens = text.text.tolist()
    losses = [-float(likely[a, b]) for a, b in pairwise(tokens)]
    assert found.samples == len(losses) == 89
    assert found.perplexity == pytest.approx(math.exp(sum(losses) / 89), rel=1e-5)
    right = sum(b == (1 if a == 0 else 0) for a, b in pairwise(tokens))
    assert found.accuracy == pytest.approx(right / 89)
    assert evaluate(network(), records(), CPU).perplexity is None


def test_running_text_is_learned_and_its_loss_is_the_mean_over_tokens() -> None:
    text, module = bigrams("ab" * 50, 7), Bigram()
    settings = {
        "objective": TaskObjective(),
        "optimiser": Optimiser(),
        "device": CPU,
    }
    result = train_round(
        module, text, schedule=Schedule(4), learning_rate=0.0,
        generator=batch_generator(0, 0, 0), **settings,  # type: ignore[arg-type]
    )  # fmt: skip
    assert result.loss == pytest.approx(math.log(2))
    train_round(
        module, text, schedule=Schedule(4, epochs=20), learning_rate=1.0,
        generator=batch_generator(0, 1, 0), **settings,  # type: ignore[arg-type]
    )  # fmt: skip
    perplexity = evaluate(module, text, CPU).perplexity
    assert perplexity is not None and perplexity < 1.1


def test_a_large_vocabulary_is_evaluated_in_smaller_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text, module = bigrams("aabab" * 40, 5), Bigram()
    whole = evaluate(module, text, CPU)
    sizes: list[int] = []
    module.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    monkeypatch.setattr(loop, "EVALUATION_LOGITS", 5 * 2 * 3)
    assert evaluate(module, text, CPU).loss == pytest.approx(whole.loss)
    assert max(sizes) == 3


def test_augmentation_sees_the_batches_of_the_round() -> None:
    seen: list[torch.Tensor] = []

    def augment(
        images: torch.Tensor,
        generator: torch.Generator,
        *,
        start: int = 0,
        count: int | None = None,
    ) -> torch.Tensor:
        assert (start, count) == (0, len(images))
        seen.append(images)
        return torch.zeros_like(images)

    module = network()
    before = module[1].weight.detach().clone()  # type: ignore[index]
    train_round(
        module, records(), objective=TaskObjective(), optimiser=Optimiser(),
        schedule=Schedule(25), learning_rate=0.1, device=CPU, augment=augment,
        generator=batch_generator(0, 0, 0),
    )  # fmt: skip
    assert [len(images) for images in seen] == [25, 25]
    # Black images leave the weights of the first layer where they are.
    assert torch.equal(before, module[1].weight)  # type: ignore[index]


def test_what_a_module_draws_follows_from_seed_round_and_share() -> None:
    def drawn(*numbers: int) -> list[float]:
        seed_draws(*numbers, device=torch.device("cpu"))
        return torch.rand(4).tolist()

    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    assert len({tuple(drawn(*n)) for n in ((1, 2, 3), (2, 2, 3), (1, 3, 3))}) == 3
