"""What a step costs, against counting by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.segment import Split
from p2pfusion.training.cost import (
    Meter,
    StepCost,
    costs_told,
    saved_activation_bytes,
    step_cost,
    training_flops,
    views_cost,
)
from p2pfusion.training.data.examples import Examples, examples
from p2pfusion.training.models import MODELS
from p2pfusion.training.models.heads import Embedding
from p2pfusion.training.objectives import SELF_SUPERVISED, create_objective
from p2pfusion.training.objectives.self_supervised import SelfSupervised
from tests.training.samples import window

BATCH, TOKENS, VOCABULARY, LAYERS, HEADS = 2, 6, 9, 2, 2
STREAM, HEAD, INNER = 8, 4, 12
ARGUMENTS: dict[str, object] = {
    "vocabulary": VOCABULARY,
    "length": TOKENS,
    "width": STREAM,
    "heads": HEADS,
    "layers": LAYERS,
    "inner": INNER,
    "group": 4,
}


def block_flops(stream: int, head: int, inner: int) -> int:
    """Forward, of one block and one text: four products, and attention's two."""
    projections = TOKENS * stream * (3 + 1) * HEADS * head
    feed_forward = TOKENS * 2 * stream * inner
    attention = 2 * HEADS * TOKENS * TOKENS * head
    return 2 * (projections + feed_forward + attention)


@pytest.mark.parametrize("part", [1, 2])
def test_a_language_model(part: int) -> None:
    """The whole one, and half of every width."""
    arguments = {**ARGUMENTS, "classes": VOCABULARY}
    sizes = Split.full(MODELS["transformer"].layout(arguments)).sizes()
    cut = {name: size // part for name, size in sizes.items()}
    module = MODELS["transformer"].build(arguments, cut)
    stream = STREAM // part
    forward = LAYERS * block_flops(stream, HEAD // part, INNER // part)
    forward += 2 * TOKENS * stream * VOCABULARY
    assert training_flops(module, tokens()) == 3 * BATCH * forward


def test_a_classifier_with_padding() -> None:
    """A mask changes nothing about the count."""
    arguments = {**ARGUMENTS, "classes": 3}
    model = MODELS["transformer-classifier"]
    module = model.build(arguments, Split.full(model.layout(arguments)).sizes())
    forward = LAYERS * block_flops(STREAM, HEAD, INNER)
    forward += 2 * STREAM * (TOKENS + 3)
    assert training_flops(module, tokens()) == 3 * BATCH * forward


# --- With frozen sub-models beside it ------------------------------------------------

PROJECTION = 5
TEXT: dict[str, object] = {
    **ARGUMENTS,
    "classes": VOCABULARY,
    "projection": PROJECTION,
}


def language_models(parts: Sequence[int]) -> list[nn.Module]:
    """Sub-models of different widths, one for each part of the full one."""
    model = MODELS["transformer"]
    sizes = Split.full(model.layout(TEXT)).sizes()
    return [
        model.build(TEXT, {name: size // part for name, size in sizes.items()})
        for part in parts
    ]


@pytest.mark.parametrize("parts", [(1, 1, 1), (2, 2, 1), (1, 1, 2, 2)])
def test_frozen_sub_models_cost_their_way_to_the_projection(
    parts: tuple[int, ...],
) -> None:
    """The trained one thrice, each of the others once and without its head: of a
    language model that is a good part."""

    def body(part: int) -> int:
        blocks = block_flops(STREAM // part, HEAD // part, INNER // part)
        return LAYERS * blocks + 2 * (STREAM // part) * PROJECTION

    head = 2 * TOKENS * (STREAM // parts[0]) * VOCABULARY
    expected = 3 * (body(parts[0]) + head) + sum(body(part) for part in parts[1:])
    module, *frozen = language_models(parts)
    assert training_flops(module, tokens(), frozen) == BATCH * expected


@pytest.mark.parametrize("count", [2, 3])
def test_frozen_sub_models_leave_their_projected_features(count: int) -> None:
    """And the trained one its own; beside them some numbers for every record."""
    module, *frozen = language_models((2, *[2] * count))
    plain = saved_activation_bytes(module, tokens())
    found = saved_activation_bytes(module, tokens(), frozen)
    features = (1 + count) * BATCH * PROJECTION * 4
    mean = BATCH * (STREAM // 2) * 4  # over positions, which the projection reads
    rest = found - plain - features - mean
    assert 0 <= rest <= 16 * count * BATCH


def tokens() -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(VOCABULARY, (BATCH, TOKENS), generator=random)


# --- Two views, two branches ---------------------------------------------------------

PATCH, PATCHES, HIDDEN, OUTPUT = 2, 4, 5, 3
IMAGES: dict[str, object] = {
    "in_channels": 1,
    "image_size": 4,
    "patch": PATCH,
    "width": STREAM,
    "heads": HEADS,
    "layers": LAYERS,
    "inner": INNER,
    "group": 4,
    "head_hidden": HIDDEN,
    "head_output": OUTPUT,
}
VIT = MODELS["vit"].layout(IMAGES)


def embedding_flops(part: int) -> int:
    """Forward, of one view in a part of every width: up to the projector's output."""
    stream, head, inner = STREAM // part, HEAD // part, INNER // part
    projections = PATCHES * stream * 4 * HEADS * head
    attention = 2 * HEADS * PATCHES * PATCHES * head
    block = projections + attention + PATCHES * 2 * stream * inner
    projector = stream * HIDDEN + HIDDEN * HIDDEN + HIDDEN * OUTPUT
    return 2 * (PATCHES * PATCH**2 * stream + LAYERS * block + projector)


PREDICTOR = 2 * 2 * HIDDEN * OUTPUT


@pytest.mark.parametrize("part", [1, 2])
@pytest.mark.parametrize("objective", SELF_SUPERVISED)
def test_views_cost_both_branches(objective: str, part: int) -> None:
    """Heads are cut inside, so that half of them is half of every head."""
    arguments = {**IMAGES, "head_cut": "inside"}
    layout = MODELS["vit"].layout(arguments)
    sets = {axis.name: IndexSet.span(0, axis.size // part) for axis in layout.axes}
    split = Split.of(sets)
    found = step_cost(
        "vit", arguments, layout, split, images(6), 4, (split,), objective=objective
    )
    forward = embedding_flops(part)
    if objective == "simclr":
        assert found.one_view_flops == 3 * forward
        assert found.flops_per_example == 2 * 3 * forward
    else:
        assert found.one_view_flops == 3 * (forward + PREDICTOR)
        assert found.flops_per_example == 2 * 3 * (forward + PREDICTOR) + 2 * forward
    # Of two views, autograd keeps twice what it keeps of one image, and the heads'.
    module = MODELS["vit"].build(arguments, split.sizes())
    inputs, _ = images(6).batch(torch.arange(4), torch.device("cpu"))
    kept = 2 * saved_activation_bytes(module, inputs)
    assert kept < found.activation_bytes < 2 * kept


@pytest.mark.parametrize("objective", SELF_SUPERVISED)
def test_an_alignment_costs_two_views_more_in_a_copy(objective: str) -> None:
    full = Split.full(VIT)
    plain, aligned = (
        step_cost(
            *("vit", IMAGES, VIT, full, images(6), 4, (full,)),
            objective=objective,
            options={"alignment": weight},
        )
        for weight in (0.0, 0.5)
    )
    assert aligned.one_view_flops == plain.one_view_flops
    more = aligned.flops_per_example - plain.flops_per_example
    assert more == 2 * embedding_flops(1)
    assert aligned.activation_bytes > plain.activation_bytes


@pytest.mark.parametrize("objective", ["task", *SELF_SUPERVISED])
def test_what_is_not_trained_costs_its_forward_pass(objective: str) -> None:
    """The patches and the first of two blocks, in both ways to count."""
    module = MODELS["vit"].build(IMAGES, Split.full(VIT).sizes())
    assert isinstance(module, Embedding)
    inputs, _ = images(6).batch(torch.arange(4), torch.device("cpu"))

    def cost() -> tuple[int, int]:
        if objective == "task":
            return training_flops(module, inputs) // 4, 0
        made = create_objective({"name": objective}, (), torch.device("cpu"), VIT)
        assert isinstance(made, SelfSupervised)
        made.begin(module, Split.full(VIT), torch.Generator())
        found = views_cost(made, module, inputs)
        return found.flops_per_example, found.one_view_flops

    everything = cost()
    for part in (module.patches, module.blocks[0]):  # type: ignore[index]
        part.requires_grad_(False)  # type: ignore[union-attr]
    first = (embedding_flops(1) - 2 * (STREAM + HIDDEN + OUTPUT) * HIDDEN) // 2
    first += PATCHES * PATCH**2 * STREAM  # one of two blocks, and all patches
    passes = 1 if objective == "task" else 2
    saved = tuple(a - b for a, b in zip(everything, cost(), strict=True))
    assert saved == (passes * 2 * first, 0 if objective == "task" else 2 * first)


def test_a_meter_adds_up_and_measures_each_width_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[int] = []

    def measure(*given: object, **options: object) -> StepCost:
        measured.append(1)
        return step_cost(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("p2pfusion.training.cost.step_cost", measure)
    meters = [
        Meter("vit", IMAGES, VIT, images(6), batch=4, objective="moco")
        for _ in range(2)
    ]
    first, second = (window(VIT, start=n, cells=1) for n in (0, 1))
    full = Split.full(VIT)
    assert first != second and first.sizes() == second.sizes() != full.sizes()
    for split, count in ((first, 10), (second, 20), (full, 30)):
        meters[0].count(split, (split,), count)
    assert len(measured) == 2
    small, whole = (
        step_cost("vit", IMAGES, VIT, s, images(6), 4, (s,), objective="moco")
        for s in (first, full)
    )
    assert (
        meters[0].flops == 30 * small.flops_per_example + 30 * whole.flops_per_example
    )
    meters[1].count(full, (full,), 30)
    assert costs_told(meters, 5) == {
        "train_flops_per_peer_round": (meters[0].flops + meters[1].flops) / 5,
        "one_view_flops_per_peer_round": (30 * small.one_view_flops
                                          + 60 * whole.one_view_flops) / 5,
        "peak_activation_bytes": whole.activation_bytes,
    }  # fmt: skip


def test_without_views_there_is_nothing_beside_the_flops() -> None:
    meter = Meter("vit", IMAGES, VIT, images(6), batch=4, objective="task")
    full = Split.full(VIT)
    meter.count(full, (), 10)
    module = MODELS["vit"].build(IMAGES, full.sizes())
    inputs, _ = images(6).batch(torch.arange(4), torch.device("cpu"))
    assert meter.flops == 10 * training_flops(module, inputs) // 4
    assert "one_view_flops_per_peer_round" not in costs_told([meter], 1)


def images(count: int) -> Examples:
    return examples(np.zeros((count, 4, 4), np.uint8), np.arange(count), "f")
