"""What ``models/base.py`` promises, for every entry of ``MODELS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout, ParameterSpec
from p2pfusion.split.segment import Split
from p2pfusion.split.windows import check_fraction
from p2pfusion.training.models import MODELS, Model, check_fit, settle
from p2pfusion.training.models.base import Width, place
from p2pfusion.training.models.heads import Embedding
from p2pfusion.training.models.projection import Projecting
from p2pfusion.training.models.units import Exiting
from p2pfusion.training.traits import Traits

COUNT, SHAPE, CLASSES, VOCABULARY, LENGTH = 5, (2, 8, 8), 7, 11, 6
TRAITS = (
    Traits("image", SHAPE, CLASSES),
    Traits("text", (LENGTH,), CLASSES, VOCABULARY),
    Traits("language", (LENGTH,), CLASSES, CLASSES),
)
STACK = {"width": 12, "heads": 3, "layers": 2, "inner": 5, "group": 3}
SMALL: dict[str, dict[str, object]] = {
    "resnet18": {"width": 8, "group": 2, "blocks": [1, 1, 1]},
    "resnet34": {"width": 4, "group": 2, "blocks": [2, 1]},
    "transformer": STACK,
    "transformer-classifier": STACK,
    "vit": STACK,
    "vit-units": {"width": 12, "heads": 3, "layers": 3, "inner": 5, "exits": 2},
}
"""What makes models small whose defaults are large."""

PROJECTION = 4


@dataclass(frozen=True)
class Fixed:
    """A model with arguments that are not its usual ones."""

    model: Model
    fixed: Mapping[str, object]

    @property
    def defaults(self) -> Mapping[str, object]:
        return {**self.model.defaults, **self.fixed}

    def suited(self, traits: Traits) -> dict[str, object]:
        return self.model.suited(traits)

    def layout(self, arguments: Mapping[str, object]) -> Layout:
        return self.model.layout({**arguments, **self.fixed})

    def build(
        self, arguments: Mapping[str, object], sizes: Mapping[str, int]
    ) -> nn.Module:
        return self.model.build({**arguments, **self.fixed}, sizes)


HEADS = {"head_hidden": 6, "head_output": 4}
CASES: dict[str, Model] = {
    **MODELS,
    **{
        f"{name}-inside": Fixed(MODELS[name], {"head_cut": "inside"})
        for name in ("transformer", "transformer-classifier", "vit")
    },
    "vit-heads": Fixed(MODELS["vit"], HEADS),
}
models = pytest.mark.parametrize("model", CASES.values(), ids=list(CASES))
projections = pytest.mark.parametrize("projection", [0, PROJECTION])


def traits(model: Model) -> Traits:
    """Data that the model is for: of exactly one kind."""
    (found,) = [t for t in TRAITS if suits(model, t)]
    return found


def suits(model: Model, found: Traits) -> bool:
    try:
        return bool(model.suited(found))
    except DataError:
        return False


def arguments(model: Model, projection: int = 0) -> dict[str, object]:
    name = next(name for name, other in CASES.items() if other is model)
    small = SMALL.get(name.removesuffix("-inside").removesuffix("-heads"), {})
    found = {**model.suited(traits(model)), **small}
    return {**found, "projection": projection}


def inputs(model: Model) -> Tensor:
    """Random images in float32, or random tokens; 0 is padding, where there is any."""
    found, random = traits(model), torch.Generator().manual_seed(1)
    if found.task == "image":
        return torch.randn(COUNT, *found.shape, generator=random)
    tokens = torch.randint(found.vocabulary, (COUNT, LENGTH), generator=random)
    if found.task == "text":
        tokens[1, LENGTH // 2 :] = 0
        tokens[2] = 0
    return tokens


def exact(values: Tensor) -> Tensor:
    return values.double() if values.is_floating_point() else values


@st.composite
def splits(draw: st.DrawFn, layout: Layout) -> Split:
    """Any non-empty set of cells on every axis."""
    sets = {}
    for axis in layout.axes:
        cells = draw(st.sets(st.integers(0, axis.cell_count - 1), min_size=1))
        sets[axis.name] = axis.cells(IndexSet.from_indices(cells))
    return Split.of(sets)


def shapes(module: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(p.shape)) for name, p in module.named_parameters()]


@models
def test_defaults_make_a_layout(model: Model) -> None:
    layout = model.layout({})
    assert layout.axes
    assert layout.digest == model.layout(dict(model.defaults)).digest
    assert Layout.from_data(layout.to_data()).digest == layout.digest


@models
def test_suited_arguments_fit_their_data(model: Model) -> None:
    check_fit(model, arguments(model), traits(model))
    assert set(arguments(model)) <= set(model.defaults)
    assert settle(model, arguments(model))["classes"] == CLASSES


@models
@projections
def test_the_full_module_is_the_layout(model: Model, projection: int) -> None:
    layout = model.layout(arguments(model, projection))
    full = model.build(arguments(model, projection), Split.full(layout).sizes())
    assert shapes(full) == [(p.name, p.shape) for p in layout.parameters]
    assert not list(full.buffers()), "a buffer would not travel with the parameters"
    each = (LENGTH,) if traits(model).task == "language" else ()
    assert full(inputs(model)).shape == (COUNT, *each, CLASSES)
    assert isinstance(full, Projecting)
    if projection:
        last = full.last(inputs(model))
        assert full.project(last).shape == (COUNT, projection)
    else:
        assert full.projection is None


@models
def test_a_projection_is_one_parameter_behind_all_others(model: Model) -> None:
    """Its rows are never cut; without it, the layout is what it would be anyway."""
    without = model.layout(arguments(model))
    layout = model.layout(arguments(model, PROJECTION))
    *others, last = before_heads(layout)
    assert (layout.axes, others) == (without.axes, before_heads(without))
    assert last.name == "projection.weight" and last.layer == others[-1].layer
    rows, columns = last.dimensions
    assert (rows.size, rows.axis) == (PROJECTION, None)
    if columns.axis is None:  # a stream that is never cut
        assert all("stream" not in axis.name for axis in layout.axes)
    else:
        assert layout.axis(columns.axis).size == columns.size


def before_heads(layout: Layout) -> list[ParameterSpec]:
    """The parameters that are there without heads, behind which those of heads are."""
    found = [p for p in layout.parameters if not p.name.startswith("heads.")]
    assert list(layout.parameters[: len(found)]) == found
    return found


@models
@pytest.mark.parametrize("size", [-1, True, 1.0, "8", 1 << 20])
def test_a_projection_of_no_size_is_refused(model: Model, size: object) -> None:
    with pytest.raises(ConfigError, match="'projection'"):
        model.layout({**arguments(model), "projection": size})


@models
def test_layers_count_from_the_input(model: Model) -> None:
    layers = [parameter.layer for parameter in model.layout({}).parameters]
    assert set(layers) == set(range(max(layers) + 1))


@models
def test_an_eighth_of_every_axis_can_be_trained(model: Model) -> None:
    check_fraction(model.layout({}), Fraction(1, 8), "the smallest sub-model in use")


@models
@projections
@settings(max_examples=20)
@given(data=st.data())
def test_every_sub_module_has_the_shapes_of_its_split(
    model: Model, projection: int, data: st.DataObject
) -> None:
    layout = model.layout(arguments(model, projection))
    split = data.draw(splits(layout))
    module = model.build(arguments(model, projection), split.sizes())
    assert shapes(module) == [
        (parameter.name, segment.shape)
        for parameter, segment in zip(
            layout.parameters, split.segments(layout), strict=True
        )
    ]


@models
@projections
@settings(max_examples=20)
@given(data=st.data())
def test_a_sub_module_computes_the_silenced_full_model(
    model: Model, projection: int, data: st.DataObject
) -> None:
    """Logits, projected features, predictions and gradients of the small module are
    those of the full one in which every hidden unit outside the split is zero, scaler
    included."""
    layout = model.layout(arguments(model, projection))
    split = data.draw(splits(layout))
    full = full_module(model, layout)
    small = small_module(model, layout, split, full)
    silence(full, small, layout, split)
    # In float64, so that a different order of sums does not hide a real difference.
    expected, found = full(exact(inputs(model))), small(exact(inputs(model)))
    torch.testing.assert_close(found, expected)
    sums = [logits.square().mean() for logits in (expected, found)]
    if projection:
        expected, found = projected(full, model), projected(small, model)
        torch.testing.assert_close(found, expected)
        values = zip(sums, (expected, found), strict=True)
        sums = [total + z.pow(3).mean() for total, z in values]
    if has_heads(full):
        expected, found = foretold(full, model), foretold(small, model)
        torch.testing.assert_close(found, expected)
        values = zip(sums, (expected, found), strict=True)
        sums = [total + z.pow(3).mean() for total, z in values]
    if isinstance(full, Exiting) and isinstance(small, Exiting):
        images = exact(inputs(model))
        pairs = zip(full.answers(images), small.answers(images), strict=True)
        for expected, found in pairs:
            torch.testing.assert_close(found, expected)
            values = zip(sums, (expected, found), strict=True)
            sums = [total + z.pow(3).mean() for total, z in values]
    for total in sums:
        total.backward()
    for index, (whole, part) in enumerate(
        zip(full.parameters(), small.parameters(), strict=True)
    ):
        assert whole.grad is not None
        inside = positions(layout, split, index)
        torch.testing.assert_close(part.grad, whole.grad[inside])


def projected(module: nn.Module, model: Model) -> Tensor:
    assert isinstance(module, Projecting)
    return module.project(module.last(exact(inputs(model))))


def has_heads(module: nn.Module) -> bool:
    return isinstance(module, Embedding) and module.heads is not None


def foretold(module: nn.Module, model: Model) -> Tensor:
    assert isinstance(module, Embedding)
    return module.predict(module.embed(module.last(exact(inputs(model)))))


def projection_of(layout: Layout) -> int:
    found = [p.shape[0] for p in layout.parameters if p.name == "projection.weight"]
    return found[0] if found else 0


def full_module(model: Model, layout: Layout) -> nn.Module:
    """The full model, every parameter random, also those that begin as a constant."""
    chosen = arguments(model, projection_of(layout))
    module = model.build(chosen, Split.full(layout).sizes()).double()
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.3, generator=random)
    return module


def small_module(
    model: Model, layout: Layout, split: Split, full: nn.Module
) -> nn.Module:
    chosen = arguments(model, projection_of(layout))
    module = model.build(chosen, split.sizes()).double()
    place(module, split)
    pairs = zip(full.parameters(), module.parameters(), strict=True)
    with torch.no_grad():
        for index, (whole, part) in enumerate(pairs):
            part.copy_(whole[positions(layout, split, index)])
    return module


def positions(layout: Layout, split: Split, index: int) -> tuple[Tensor, ...]:
    sets = split.segment(layout, index).sets
    return torch.meshgrid(*(torch.tensor(list(s)) for s in sets), indexing="ij")


def silence(full: nn.Module, small: nn.Module, layout: Layout, split: Split) -> None:
    """Zeroes the full model's hidden units outside the split, and scales the others."""
    wide, narrow = widths(full), widths(small)
    assert {module.axis for module in wide} == {axis.name for axis in layout.axes}
    for module, cut in zip(wide, narrow, strict=True):
        size = layout.axis(module.axis).size
        kept = list(split[module.axis])
        assert (cut.axis, cut.dim, module.factor) == (module.axis, module.dim, 1.0)
        assert cut.factor in (1.0, size / len(kept))
        mask = torch.zeros(size, dtype=torch.float64)
        mask[kept] = cut.factor
        module.register_forward_hook(masking(mask))


def widths(module: nn.Module) -> list[Width]:
    return [found for found in module.modules() if isinstance(found, Width)]


def masking(mask: Tensor) -> Callable[[Width, object, Tensor], Tensor]:
    def hook(module: Width, given: object, output: Tensor) -> Tensor:
        shape = [1] * output.dim()
        shape[module.dim] = len(mask)
        return output * mask.reshape(shape)

    return hook


@models
def test_initial_values_keep_the_scale_of_signals(model: Model) -> None:
    """Logits and projected features of the fresh full model are of order 1: no signal
    vanishes or explodes."""
    chosen = arguments(model, PROJECTION)
    layout = model.layout(chosen)
    module = model.build(chosen, Split.full(layout).sizes())
    random = torch.Generator().manual_seed(4)
    pairs = zip(module.parameters(), layout.parameters, strict=True)
    with torch.no_grad():
        for parameter, spec in pairs:
            if spec.initial.kind == "uniform":
                bound = spec.initial.bound
                parameter.uniform_(-bound, bound, generator=random)
            else:
                parameter.fill_(1.0 if spec.initial.kind == "ones" else 0.0)
    assert 0.05 < module(inputs(model)).std().item() < 3.0
    assert isinstance(module, Projecting)
    assert 0.05 < module.project(module.last(inputs(model))).std().item() < 3.0
    if has_heads(module):
        assert 0.05 < foretold(module.double(), model).std().item() < 3.0
