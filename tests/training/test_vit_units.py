"""The vision transformer with units and exits: values, exits at any depth, and that a
pruned network is really small."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.methods import Member, PlanContext, build_method
from p2pfusion.split.depth import cut_in_depth, depth_split, gate
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.cost import saved_activation_bytes, training_flops
from p2pfusion.training.models import MODELS
from p2pfusion.training.models.units import Exiting, UnitStack
from p2pfusion.training.submodel import build
from p2pfusion.training.traits import Traits
from tests.training.samples import torchs_layer
from tests.training.test_vit import ARGUMENTS as VIT

MODEL = MODELS["vit-units"]
ARGUMENTS: dict[str, object] = {
    **{key: value for key, value in VIT.items() if key != "group"},
    **{"layers": 5, "exits": 2},
}


def network(arguments: dict[str, object], split: Split | None = None) -> Exiting:
    """The model in float64, every parameter random and the same in all splits."""
    layout = cut_in_depth(MODEL.layout(arguments))
    split = Split.full(layout) if split is None else split
    module = build(MODEL, arguments, layout, split).double()
    for index, (name, parameter) in enumerate((p.name, p) for p in layout.parameters):
        if name in dict(module.named_parameters()):
            random = torch.Generator().manual_seed(index)
            shape = parameter.shape[1:]
            whole = torch.randn(shape, generator=random, dtype=torch.float64) * 0.3
            sets = split.segment(layout, index).sets[1:]
            grid = torch.meshgrid(*(torch.tensor(list(s)) for s in sets), indexing="ij")
            module.get_parameter(name).data.copy_(whole[grid])
    assert isinstance(module, Exiting)
    return module


def images(count: int = 4) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randn(count, 2, 6, 6, generator=random, dtype=torch.float64)


class AsBlocks(nn.Module):
    """A block's parts under the names that the other transformers have."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        for name in ("norm1", "norm2", "up", "down"):
            self.add_module(name, block.get_submodule(name))
        self.attention = nn.Module()
        for name in ("qkv", "out"):
            self.attention.add_module(name, block.get_submodule(name))


def test_values_are_those_of_torchs_layers() -> None:
    module = network(ARGUMENTS)
    value = module.get_parameter
    patches = functional.unfold(images(), 3, stride=3).transpose(1, 2)
    kernels = value("patches.weight").flatten(1)
    stream = functional.linear(patches, kernels, value("patches.bias"))
    stream = stream + value("positions.weight")
    expected = []
    for number, block in enumerate(module.get_submodule("blocks").children(), 1):
        layer = torchs_layer(AsBlocks(block), width=8, heads=2, inner=12)
        stream = layer(stream)
        if number in (3, 5):
            found = module.get_submodule(f"exits.{len(expected)}")
            normal = found.get_submodule("norm")(stream).mean(1)
            expected.append(found.get_submodule("classifier")(normal))
    assert len(expected) == 2
    answers = module.answers(images())
    for one, other in zip(answers, expected, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(module(images()), expected[-1])


@pytest.mark.parametrize(
    ("layers", "exits", "depths"),
    [(12, 4, (3, 6, 9, 12)), (8, 4, (2, 4, 6, 8)), (5, 2, (3, 5)), (4, 4, (1, 2, 3, 4)),
     (6, 4, (2, 3, 5, 6)), (3, 1, (3,))],
)  # fmt: skip
def test_exits_stand_at_equal_parts_of_the_depth(
    layers: int, exits: int, depths: tuple[int, ...]
) -> None:
    arguments = {**ARGUMENTS, "layers": layers, "exits": exits}
    stack = UnitStack.of({**MODEL.defaults, **arguments})
    assert stack.depths == depths
    layout = MODEL.layout(arguments)
    order: list[str] = []
    for parameter in sorted(layout.parameters, key=lambda p: p.layer):
        part = ".".join(parameter.name.split(".")[:2])
        if part not in order and part.startswith(("blocks", "exits")):
            order.append(part)
    expected = []
    for block in range(layers):
        expected.append(f"blocks.{block}")
        if block + 1 in depths:
            expected.append(f"exits.{depths.index(block + 1)}")
    assert order == expected


def member_split(layout: Layout, fraction: str) -> Split:
    member = Member("p", Fraction(fraction))
    method = build_method("co-s2p", {})
    return method.split(PlanContext(0, 1, layout, (member,)), 0, 0)


@pytest.mark.parametrize(("blocks", "exits"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_blocks_that_are_missing_add_nothing(blocks: int, exits: int) -> None:
    """A sub-model's exits answer what the whole model's do whose later blocks are
    silent."""
    layout = cut_in_depth(MODEL.layout(ARGUMENTS))
    split = member_split(layout, f"{blocks}/5")
    held = [int(a.name.split()[1]) for a in layout.axes if a.is_gate and split[a.name]]
    small = network(ARGUMENTS, depth_split(layout, held))
    whole = network(ARGUMENTS)
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            kind, number, part, *_ = *name.split("."), ""
            if kind == "blocks" and int(number) >= blocks and part in ("out", "down"):
                parameter.zero_()
    answers = small.answers(images())
    assert len(answers) == exits
    expected = whole.answers(images())[:exits]
    for one, other in zip(answers, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert torch.equal(small(images()), answers[-1])


def test_a_pruned_network_is_really_small() -> None:
    arguments = {**ARGUMENTS, "width": 32, "heads": 4, "inner": 64, "layers": 4}
    layout = cut_in_depth(MODEL.layout(arguments))
    full, half = (network(arguments, member_split(layout, f)) for f in ("1", "1/2"))
    for name, parameter in half.named_parameters():
        of = full.get_parameter(name)
        if name.startswith("blocks.") and "norm" not in name:
            assert parameter.numel() <= of.numel() / 2
    assert len(half.get_submodule("blocks")) == 2  # type: ignore[arg-type]
    batch = images(8)
    saved = [saved_activation_bytes(m, batch) for m in (half, full)]
    flops = [training_flops(m, batch) for m in (half, full)]
    # Half of the blocks, and half of all but streams and norms in each.
    assert saved[0] < 0.45 * saved[1]
    assert flops[0] < 0.25 * flops[1]


def test_a_projection_is_where_the_deepest_exit_is() -> None:
    arguments = {**ARGUMENTS, "projection": 3}
    layout = cut_in_depth(MODEL.layout(arguments))
    last = layout.parameters[-1]
    assert (last.name, gate(last.layer)) == ("projection.weight", "layer 7")
    shallow = build(MODEL, arguments, layout, member_split(layout, "1/5"))
    assert isinstance(shallow, Exiting) and shallow.projection is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exits": 6}, "'exits': 6 is not a whole number from 1 to 5"),
        ({"exits": 0}, "'exits'"),
        ({"heads": 3}, "not a multiple of the number of heads, 3"),
        ({"patch": 4}, "not a whole number of patches"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MODEL.layout({**ARGUMENTS, **changes})


def test_images_that_are_not_square_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="'vit-units' is for square images"):
        MODEL.suited(Traits("image", (1, 4, 6), 3))
