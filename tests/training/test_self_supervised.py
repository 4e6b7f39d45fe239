"""Losses without labels against slow ones, and the momentum branch step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.data.views import Recipe, two_views
from p2pfusion.training.models import MODELS
from p2pfusion.training.models.heads import Embedding
from p2pfusion.training.objectives import SELF_SUPERVISED, create_objective
from p2pfusion.training.objectives.self_supervised import (
    DEFAULTS,
    SelfSupervised,
    TwoBranches,
    frozen_copy,
    info_nce,
    nt_xent,
)
from tests.training.samples import VIT_BODY, change, window

CPU = torch.device("cpu")
ARGUMENTS: Mapping[str, object] = {**VIT_BODY, "head_hidden": 5, "head_output": 3}
MODEL = MODELS["vit"]
LAYOUT = MODEL.layout(ARGUMENTS)
FULL = Split.full(LAYOUT)
HALF = window(LAYOUT, start=1, cells=1)
IMAGES = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(3)).double()
LABELS = torch.zeros(4, dtype=torch.int64)

named = pytest.mark.parametrize("name", SELF_SUPERVISED)
branched = pytest.mark.parametrize("name", ["byol", "moco"])


# --- The losses ----------------------------------------------------------------------


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / length


def slow_info_nce(queries: Tensor, keys: Tensor, temperature: float) -> float:
    total = 0.0
    for n, query in enumerate(queries.tolist()):
        terms = [math.exp(cosine(query, key) / temperature) for key in keys.tolist()]
        total -= math.log(terms[n] / sum(terms))
    return total / len(queries)


def slow_nt_xent(embeddings: Tensor, temperature: float) -> float:
    views, total = embeddings.tolist(), 0.0
    for n, view in enumerate(views):
        terms = {
            m: math.exp(cosine(view, other) / temperature)
            for m, other in enumerate(views)
            if m != n
        }
        total -= math.log(
            terms[(n + len(views) // 2) % len(views)] / sum(terms.values())
        )
    return total / len(views)


def slow_byol(queries: Tensor, keys: Tensor) -> float:
    pairs = zip(queries.tolist(), keys.tolist(), strict=True)
    found = [2 - 2 * cosine(query, key) for query, key in pairs]
    return sum(found) / len(found)


@st.composite
def vectors(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Of two views of some images, none of them near zero."""
    shape = (2, draw(st.integers(1, 5)), draw(st.integers(1, 4)))
    random = torch.Generator().manual_seed(draw(st.integers(0, 1 << 30)))
    drawn = torch.randn(shape, generator=random, dtype=torch.float64)
    first, second = drawn + 0.1 * drawn.sign()
    return first, second


temperatures = st.sampled_from([0.05, 0.2, 1.0])


@given(vectors(), temperatures)
def test_losses_are_the_slow_ones(pair: tuple[Tensor, Tensor], t: float) -> None:
    first, second = pair
    found = info_nce(first, second, t).item()
    assert found == pytest.approx(slow_info_nce(first, second, t))
    assert found >= 0
    both = torch.cat(pair)
    assert nt_xent(both, t).item() == pytest.approx(slow_nt_xent(both, t))


@settings(max_examples=15)
@given(vectors(), temperatures)
def test_gradients_are_those_of_the_losses(
    pair: tuple[Tensor, Tensor], t: float
) -> None:
    first, second = (each.requires_grad_() for each in pair)
    assert torch.autograd.gradcheck(lambda q: info_nce(q, second.detach(), t), (first,))
    both = torch.cat(pair).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: nt_xent(z, t), (both,))


def test_one_image_alone_teaches_nothing() -> None:
    one, other = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(5))
    for loss_of in (
        lambda z: info_nce(z, other, 0.2),
        lambda z: nt_xent(torch.cat([z, other]), 0.2),
    ):
        query = one.clone().requires_grad_()
        loss = loss_of(query)
        loss.backward()
        assert loss.item() == 0.0
        assert query.grad is not None and not query.grad.any()


def test_vectors_of_zero_are_like_nothing() -> None:
    query = torch.zeros(2, 3, requires_grad=True)
    loss = info_nce(query, torch.eye(3)[:2], 0.2)
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    assert query.grad is not None and torch.isfinite(query.grad).all()


# --- Rounds --------------------------------------------------------------------------


def module(split: Split = FULL, seed: int = 1) -> Embedding:
    """A sub-model in float64 with random values."""
    built = MODEL.build(ARGUMENTS, split.sizes()).double()
    assert isinstance(built, Embedding)
    change(built, seed)
    return built


def objective(name: str, **options: object) -> SelfSupervised:
    made = create_objective({"name": name, **options}, [4], CPU, LAYOUT)
    assert isinstance(made, SelfSupervised)
    return made


def branch_of(made: SelfSupervised) -> Embedding:
    assert isinstance(made, TwoBranches) and made.branch is not None
    return made.branch


def stream(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@named
@pytest.mark.parametrize("split", [FULL, HALF], ids=["full", "half"])
def test_a_loss_compares_two_views_in_two_branches(name: str, split: Split) -> None:
    """The other branch still has what the round began with."""
    made, built = objective(name, crop=0.5, solarize=0.3), module(split)
    made.begin(built, split, stream())
    change(built, 2)
    found = made.loss(built, IMAGES, LABELS)
    views = two_views(IMAGES, stream(), Recipe(0.5, 0.3)).chunk(2)
    now = [built.embed(built.last(view)) for view in views]
    received = module(split)
    keys = [received.embed(received.last(view)) for view in views]
    queries = [built.predict(z) for z in now]
    expected = {
        "byol": slow_byol(queries[0], keys[1]) + slow_byol(queries[1], keys[0]),
        "moco": slow_info_nce(queries[0], keys[1], 0.2)
        + slow_info_nce(queries[1], keys[0], 0.2),
        "simclr": slow_nt_xent(torch.cat(now), 0.5),
    }
    assert found.shape == () and found.item() == pytest.approx(expected[name])


@named
def test_labels_are_not_looked_at(name: str) -> None:
    losses = []
    for labels in (LABELS, LABELS + 3):
        made, built = objective(name), module()
        made.begin(built, FULL, stream())
        losses.append(made.loss(built, IMAGES, labels).item())
    assert losses[0] == losses[1]
    assert made.absent is None and not made.labelled


@branched
def test_the_momentum_branch_is_copied_moved_and_thrown_away(name: str) -> None:
    made, built = objective(name, momentum=0.75), module(HALF)
    assert made.begin(built, HALF, stream()) == (HALF,)
    slow = [parameter.detach().clone() for parameter in built.parameters()]
    for seed in (11, 12):
        change(built, seed)  # as a step does
        made.after_step(built)
        slow = [
            0.75 * old + 0.25 * new
            for old, new in zip(slow, built.parameters(), strict=True)
        ]
        for kept, expected in zip(branch_of(made).parameters(), slow, strict=True):
            assert torch.equal(kept, expected)
    made.end(built, HALF)
    assert isinstance(made, TwoBranches) and made.branch is None
    made.begin(built, HALF, stream())
    pairs = zip(branch_of(made).parameters(), built.parameters(), strict=True)
    for fresh, received in pairs:
        assert torch.equal(fresh, received) and fresh is not received


@named
@pytest.mark.parametrize("split", [FULL, HALF], ids=["full", "half"])
def test_an_alignment_is_one_minus_the_cosine_with_what_was_received(
    name: str, split: Split
) -> None:
    """Of the same view, in its mean over both views of all images."""
    losses = []
    for weight in (0.0, 0.75):
        made, built = objective(name, alignment=weight), module(split)
        beside = made.begin(built, split, stream())
        copies = (name != "simclr") + (weight > 0)
        assert beside == (split,) * copies and len(made.copies) == copies
        if weight:  # nothing has moved yet
            aligned = made.loss(built, IMAGES, LABELS).item()
            plain = objective(name)
            plain.begin(built, split, stream())
            assert aligned == pytest.approx(plain.loss(built, IMAGES, LABELS).item())
            made.begin(built, split, stream())
        for seed in (2, 3):
            change(built, seed)
            made.after_step(built)
        losses.append(made.loss(built, IMAGES, LABELS).item())
        made.end(built, split)
        assert made.received is None and made.copies == ()
    views = two_views(IMAGES, stream(), Recipe())
    received = module(split)
    pairs = zip(
        built.embed(built.last(views)).tolist(),
        received.embed(received.last(views)).tolist(),
        strict=True,
    )
    apart = [1 - cosine(own, other) for own, other in pairs]
    assert len(apart) == 2 * len(IMAGES)
    expected = 0.75 * sum(apart) / len(apart)
    assert expected > 0.01
    assert losses[1] - losses[0] == pytest.approx(expected)


@named
def test_an_alignment_pulls_at_what_is_trained_alone(name: str) -> None:
    """And not at what was received, of which frozen layers are shared."""
    made, built = objective(name, alignment=1.0), module()
    frozen = built.get_parameter("patches.weight").requires_grad_(False)
    made.begin(built, FULL, stream())
    assert made.received is not None
    assert made.received.get_parameter("patches.weight") is frozen
    kept = [each.clone() for each in made.received.parameters()]
    change(built, 2)
    with torch.no_grad():
        frozen.copy_(kept[0])
    made.loss(built, IMAGES, LABELS).backward()
    made.after_step(built)
    for now, before in zip(made.received.parameters(), kept, strict=True):
        assert torch.equal(now, before) and now.grad is None
    assert built.get_parameter("blocks.0.up.weight").grad is not None


@branched
@pytest.mark.parametrize(("momentum", "seed"), [(1.0, 1), (0.0, 2)])
def test_a_momentum_of_one_stays_and_one_of_zero_follows(
    name: str, momentum: float, seed: int
) -> None:
    made, built = objective(name, momentum=momentum), module()
    made.begin(built, FULL, stream())
    change(built, 2)
    made.after_step(built)
    pairs = zip(branch_of(made).parameters(), module(FULL, seed).parameters(),
                strict=True)  # fmt: skip
    assert all(torch.equal(kept, expected) for kept, expected in pairs)


@branched
def test_what_is_not_trained_is_shared(name: str) -> None:
    """Layer-wise training freezes the first blocks: no second copy of these."""
    made, built = objective(name, momentum=0.5), module()
    frozen = {"patches.weight", "blocks.0.up.weight"}
    for key in frozen:
        built.get_parameter(key).requires_grad_(False)
    made.begin(built, FULL, stream())
    for key, slow in branch_of(made).named_parameters():
        assert (slow is built.get_parameter(key)) == (key in frozen)
        assert not slow.requires_grad
    before = {key: built.get_parameter(key).clone() for key in frozen}
    made.loss(built, IMAGES, LABELS).backward()
    made.after_step(built)
    for key in frozen:
        assert torch.equal(built.get_parameter(key), before[key])
        assert built.get_parameter(key).grad is None
    assert all(p.requires_grad for k, p in built.named_parameters() if k not in frozen)


@branched
def test_gradients_flow_through_the_trained_branch_alone(name: str) -> None:
    """They are those of a loss in which the other branch's values are numbers."""
    made, built = objective(name), module()
    made.begin(built, FULL, stream())
    change(built, 2)
    made.loss(built, IMAGES, LABELS).backward()
    assert all(p.grad is None for p in branch_of(made).parameters())
    again = module(FULL, 2)
    views = two_views(IMAGES, stream(), Recipe())
    received = module()
    keys = received.embed(received.last(views)).detach().chunk(2)
    queries = again.predict(again.embed(again.last(views))).chunk(2)
    assert isinstance(made, TwoBranches)
    total = made.compare(queries[0], keys[1]) + made.compare(queries[1], keys[0])
    total.backward()
    for one, other in zip(built.parameters(), again.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad)
    idle = {k for k, p in built.named_parameters() if p.grad is None}
    assert idle == {"classifier.weight", "classifier.bias"}


def test_a_round_that_failed_leaves_nothing() -> None:
    losses = []
    for failed in (False, True):
        made = objective("moco")
        if failed:
            made.begin(module(FULL, 9), FULL, stream(9))
            made.loss(module(FULL, 9), IMAGES, LABELS)
        built = module()
        made.begin(built, FULL, stream())
        losses.append(made.loss(built, IMAGES, LABELS).item())
    assert losses[0] == losses[1]


def test_a_copy_is_of_its_own() -> None:
    built = module()
    copied = frozen_copy(built)
    change(built, 2)
    for kept, expected in zip(copied.parameters(), module().parameters(), strict=True):
        assert torch.equal(kept, expected)


# --- What is refused -----------------------------------------------------------------


@named
def test_a_model_without_heads_is_refused(name: str) -> None:
    for layout in (Layout((), ()), MODEL.layout(VIT_BODY)):
        with pytest.raises(ConfigError, match="needs a model with heads") as caught:
            create_objective({"name": name}, [4], CPU, layout)
        assert "head_hidden and head_output" in caught.value.hint
    plain = MODEL.build(VIT_BODY, Split.full(MODEL.layout(VIT_BODY)).sizes())
    for other in (nn.Linear(2, 2), plain):
        with pytest.raises(ConfigError, match="needs a model with heads"):
            objective(name).begin(other, FULL, stream())


@branched
def test_a_model_without_a_predictor_is_refused(name: str) -> None:
    arguments = {**ARGUMENTS, "predictor": False}
    layout = MODEL.layout(arguments)
    with pytest.raises(ConfigError, match="needs a model with a predictor"):
        create_objective({"name": name}, [4], CPU, layout)
    built = MODEL.build(arguments, Split.full(layout).sizes())
    with pytest.raises(ConfigError, match="needs a model with a predictor"):
        objective(name).begin(built, FULL, stream())
    create_objective({"name": "simclr"}, [4], CPU, layout).begin(built, FULL, stream())


@named
def test_what_is_no_image_is_refused(name: str) -> None:
    made, built = objective(name), module()
    made.begin(built, FULL, stream())
    with pytest.raises(DataError, match="views of images"):
        made.loss(built, torch.zeros(3, 5), LABELS)


@named
def test_wrong_options_name_their_key(name: str) -> None:
    for key in DEFAULTS[name]:
        for value in (-1, "1", True, float("nan"), 1e6):
            with pytest.raises(ConfigError, match=rf"^objective\.{key}: "):
                objective(name, **{key: value})
    with pytest.raises(ConfigError, match=r"objective\.tau: unknown"):
        objective(name, tau=1)
