"""The language model: torch's own layers agree, and nothing looks ahead."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.segment import Split
from p2pfusion.training.models import MODELS
from p2pfusion.training.traits import Traits
from tests.training.samples import torchs_layer

MODEL = MODELS["transformer"]
WIDTH, HEADS, LAYERS, INNER, LENGTH, VOCABULARY = 16, 4, 2, 24, 7, 13
ARGUMENTS: dict[str, object] = {
    "vocabulary": VOCABULARY,
    "classes": VOCABULARY,
    "length": LENGTH,
    "width": WIDTH,
    "heads": HEADS,
    "layers": LAYERS,
    "inner": INNER,
    "group": WIDTH,
}


def network(**others: object) -> nn.Module:
    """The full model in float64, every parameter random."""
    arguments = {**ARGUMENTS, **others}
    sizes = Split.full(MODEL.layout(arguments)).sizes()
    module = MODEL.build(arguments, sizes).double()
    random = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(0.0, 0.3, generator=random)
    return module


def tokens(length: int = LENGTH) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(VOCABULARY, (3, length), generator=random)


def test_values_are_those_of_torchs_layers() -> None:
    """With the whole width in one group, norms are plain LayerNorms."""
    module = network()
    table = module.get_parameter("embedding.weight")
    places = module.get_parameter("positions.weight")
    stream = table[tokens()] * WIDTH**0.5 + places
    mask = nn.Transformer.generate_square_subsequent_mask(LENGTH, dtype=torch.float64)
    for block in module.get_submodule("blocks").children():
        layer = torchs_layer(block, width=WIDTH, heads=HEADS, inner=INNER)
        stream = layer(stream, src_mask=mask)
    weight, bias = (module.get_parameter(f"norm.{kind}") for kind in ("weight", "bias"))
    expected = functional.layer_norm(stream, (WIDTH,), weight, bias) @ table.T
    torch.testing.assert_close(module(tokens()), expected)


@pytest.mark.parametrize("group", [4, WIDTH])
def test_a_later_token_changes_nothing_before_it(group: int) -> None:
    module = network(group=group)
    for place in range(LENGTH):
        other = tokens()
        other[:, place] = (other[:, place] + 1) % VOCABULARY
        before, after = module(tokens()), module(other)
        assert (before[:, :place] == after[:, :place]).all()
        assert (before[:, place:] != after[:, place:]).any(-1).all()


def test_shorter_texts_are_beginnings_of_longer_ones() -> None:
    module = network()
    torch.testing.assert_close(module(tokens()[:, :3]), module(tokens())[:, :3])


def test_table_and_head_are_one_tensor() -> None:
    names = [parameter.name for parameter in MODEL.layout(ARGUMENTS).parameters]
    assert names == [name for name, _ in network().named_parameters()]
    assert [name for name in names if "blocks" not in name] == [
        "embedding.weight",
        "positions.weight",
        "norm.weight",
        "norm.bias",
    ]
    module = network()
    module(tokens()).square().mean().backward()
    gradient = module.get_parameter("embedding.weight").grad
    unused = set(range(VOCABULARY)) - set(tokens().flatten().tolist())
    assert unused, "some token is not looked up, so its gradient is the head's"
    assert gradient is not None
    assert gradient.any(dim=1).all()


def test_every_head_is_cut_inside_itself() -> None:
    """Channels 1 and 2 of each head's 4, for queries, keys and values; and of each
    head's part of the output's inputs."""
    layout = MODEL.layout({**ARGUMENTS, "group": 4, "head_cut": "inside"})
    chosen = {axis.name: IndexSet.span(0, axis.size) for axis in layout.axes}
    split = Split.of({**chosen, "head1": IndexSet.span(1, 3)})
    index = {parameter.name: n for n, parameter in enumerate(layout.parameters)}
    rows = [4 * head + channel for head in range(3 * HEADS) for channel in (1, 2)]
    qkv, bias, out, others = (
        split.segment(layout, index[name]).sets
        for name in (
            "blocks.0.attention.qkv.weight",
            "blocks.0.attention.qkv.bias",
            "blocks.0.attention.out.weight",
            "blocks.1.attention.out.weight",
        )
    )
    assert list(qkv[0]) == list(bias[0]) == rows
    assert list(out[1]) == rows[: 2 * HEADS]
    assert list(others[1]) == list(range(WIDTH))


def test_whole_heads_are_cut_one_from_the_other() -> None:
    layout = MODEL.layout({**ARGUMENTS, "group": 4})
    size = WIDTH // HEADS
    assert layout.axis("head1").cell_count == HEADS
    chosen = {axis.name: IndexSet.span(0, axis.size) for axis in layout.axes}
    split = Split.of({**chosen, "head1": IndexSet.span(size, 2 * size)})
    index = {parameter.name: n for n, parameter in enumerate(layout.parameters)}
    qkv = split.segment(layout, index["blocks.0.attention.qkv.weight"]).sets
    starts = [part * WIDTH + size for part in range(3)]
    assert list(qkv[0]) == [start + n for start in starts for n in range(size)]
    with pytest.raises(ConfigError, match="head_cut"):
        MODEL.layout({**ARGUMENTS, "head_cut": "across"})


def test_the_number_of_parameters() -> None:
    tables = (VOCABULARY + LENGTH) * WIDTH
    attention = 4 * WIDTH * WIDTH + 4 * WIDTH
    feed_forward = 2 * WIDTH * INNER + WIDTH + INNER
    block = attention + feed_forward + 4 * WIDTH
    expected = tables + LAYERS * block + 2 * WIDTH
    assert MODEL.layout(ARGUMENTS).size == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("width", 18),
        ("group", 5),
        ("classes", 12),
        ("heads", 0),
        ("layers", 257),
        ("length", "long"),
    ],
)
def test_wrong_arguments_are_named(key: str, value: object) -> None:
    named = "width" if key == "group" else key
    with pytest.raises(ConfigError, match=f"^model argument '{named}'"):
        MODEL.layout({**ARGUMENTS, "group": 2, key: value})


def test_it_is_not_for_images() -> None:
    with pytest.raises(DataError, match="'transformer' is for data of the kind"):
        MODEL.suited(Traits("image", (1, 8, 8), 10))
