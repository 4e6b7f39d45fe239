"""Layer finetuning: how many blocks a peer trains, and which model a swarm chooses."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError
from p2pfusion.methods.base import Member, PlanContext
from p2pfusion.methods.layer_finetune import (
    LIMITS,
    Costs,
    LayerFinetune,
    affordable,
    choose,
    costs,
    prospects,
)
from p2pfusion.split.depth import cut_in_depth, depth_split
from p2pfusion.split.layout import Dimension, Initial, Layout, ParameterSpec
from tests.strategies import layouts, split_fractions

limits = st.sampled_from(LIMITS)


def model(blocks: int, *, block: int = 8, ends: int = 4) -> Layout:
    """A model of equally large blocks between an input layer and a head."""
    sizes = [ends, *[block] * blocks, ends]
    return cut_in_depth(
        Layout(
            (),
            tuple(
                ParameterSpec(f"p{n}", (Dimension(size),), Initial("zeros"), n)
                for n, size in enumerate(sizes)
            ),
        )
    )


def slowly(layout: Layout, allowed: Fraction, limit: str) -> int:
    """Tries one number of blocks after the other, and counts what each costs."""
    layers = layout.layers
    blocks = max(0, len(layers) - 2)
    found = 0
    for t in range(1, blocks + 1):
        trained = layers if t == blocks else layers[len(layers) - 1 - t :]
        sizes = [p.size for p in layout.parameters if p.layer in trained]
        cost = {
            "layers": Fraction(t, blocks),
            "upload": Fraction(sum(sizes), layout.size),
            "flops": Fraction(blocks + 2 * t, 3 * blocks),
        }
        if cost[limit] <= allowed:
            found = t
    return found


@given(layouts(), split_fractions, limits)
def test_a_peer_trains_as_many_blocks_as_it_can_afford(
    layout: Layout, allowed: Fraction, limit: str
) -> None:
    count = affordable(layout, allowed, limit)
    assert count == slowly(layout, allowed, limit)
    context = PlanContext(
        0, 9, cut_in_depth(layout), (Member("p", Fraction(1)), Member("q", allowed))
    )
    layers = layout.layers
    below = () if count >= len(layers) - 2 else layers[: len(layers) - 1 - count]
    split = LayerFinetune(limit).split(context, 3, 1)
    assert split == depth_split(context.layout, layers, frozen=below)
    assert split == LayerFinetune(limit).split(context, 4, 1)


@pytest.mark.parametrize(
    ("allowed", "layer", "upload", "flop"),
    [
        ("1/100", 0, 0, 0),
        ("1/6", 1, 0, 0),
        ("1/3", 2, 1, 0),
        ("4/9", 2, 2, 1),
        ("1/2", 3, 3, 1),
        ("5/6", 5, 5, 4),
        ("99/100", 5, 5, 5),
        ("1", 6, 6, 6),
    ],
)
def test_of_six_blocks(allowed: str, layer: int, upload: int, flop: int) -> None:
    found = [affordable(model(6), Fraction(allowed), limit) for limit in LIMITS]
    assert found == [layer, upload, flop]


def test_the_table_of_costs() -> None:
    layout = model(6)
    assert costs(layout, 0) == Costs(Fraction(0), Fraction(4, 56), Fraction(1, 3))
    assert costs(layout, 1) == Costs(Fraction(1, 6), Fraction(12, 56), Fraction(4, 9))
    assert costs(layout, 6) == Costs(Fraction(1), Fraction(1), Fraction(1))


@given(layouts())
def test_costs_rise_with_the_blocks(layout: Layout) -> None:
    blocks = max(0, len(layout.layers) - 2)
    table = [costs(layout, t) for t in range(blocks + 1)]
    assert table[-1] == Costs(Fraction(1), Fraction(1), Fraction(1))
    for limit in LIMITS:
        shares = [row.under(limit) for row in table]
        assert shares == sorted(shares)


def test_a_model_without_blocks_is_trained_whole() -> None:
    layout = model(0)
    assert affordable(layout, Fraction(1, 100)) == 0
    context = PlanContext(0, 1, layout, (Member("p", Fraction(1, 100)),))
    assert not LayerFinetune().split(context, 0, 0).frozen


def test_a_peer_that_changes_its_fraction_trains_other_blocks() -> None:
    context = PlanContext(0, 9, model(6), (Member("p", Fraction(1, 6)),))
    few = LayerFinetune().split(context, 0, 0)
    more = replace(context, roster=(Member("p", Fraction(1, 2)),))
    assert len(few.frozen) == 6 and few.sets == LayerFinetune().split(more, 0, 0).sets
    assert len(LayerFinetune().split(more, 0, 0).frozen) == 4


@pytest.mark.parametrize("limit", ["memory", "", 3, None, ["layers"]])
def test_an_unknown_limit_is_refused(limit: object) -> None:
    with pytest.raises(ConfigError, match="limit is"):
        LayerFinetune(limit)  # type: ignore[arg-type]


# --- Choosing a model ----------------------------------------------------------------


def chosen_slowly(depths: list[int], allowed: list[Fraction], limit: str) -> int:
    """Costs in absolute numbers: parameters, blocks, thirds of a block's training."""
    deepest = max(depths)

    def cost(blocks: int, t: int) -> int:
        if limit == "flops":
            return blocks + 2 * t
        if limit == "layers":
            return t
        return 4 + 8 * t + (4 if t == blocks else 0)

    best: tuple[Fraction, Fraction] | None = None
    place = -1
    for index, blocks in enumerate(depths):
        total = 0
        for share in allowed:
            budget = share * cost(deepest, deepest)
            total += max(
                (t for t in range(1, blocks + 1) if cost(blocks, t) <= budget),
                default=0,
            )
        mean = Fraction(total, len(allowed))
        if best is None or (mean, mean / blocks) > best:
            best, place = (mean, mean / blocks), index
    return place


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.lists(split_fractions, min_size=1, max_size=5),
    limits,
)
def test_the_model_of_which_most_blocks_are_trained_is_chosen(
    depths: list[int], allowed: list[Fraction], limit: str
) -> None:
    found = choose(prospects([model(blocks) for blocks in depths], allowed, limit))
    assert found == chosen_slowly(depths, allowed, limit)


def test_equals_are_decided_by_the_part_that_is_trained_and_then_by_order() -> None:
    third = [Fraction(1, 3)]
    assert choose(prospects([model(6), model(2)], third)) == 1  # two blocks of either
    assert choose(prospects([model(6), model(6)], third)) == 0
    assert choose(prospects([model(2), model(6)], [Fraction(1, 2)])) == 1


def test_a_deep_model_can_lose_because_its_frozen_blocks_cost() -> None:
    """Of 12 blocks 16/36 allow 2; of 6 they allow all."""
    pool = [model(12), model(6)]
    assert choose(prospects(pool, [Fraction(16, 36)], "flops")) == 1
    assert choose(prospects(pool, [Fraction(16, 36)], "layers")) == 1
    assert choose(prospects(pool, [Fraction(1)], "flops")) == 0


def test_nothing_to_choose_from_is_refused() -> None:
    for candidates, allowed in (([], [Fraction(1)]), ([model(2)], [])):
        with pytest.raises(ConfigError, match="takes candidates"):
            prospects(candidates, allowed)
    with pytest.raises(ConfigError, match="limit is"):
        prospects([model(2)], [Fraction(1)], "memory")
