"""Sizes of Co-S2P's sub-models: closed forms for arXiv 2410.08457's ViT.

With D wide, heads that fill it and feed-forward layers of 4 D, a block's matrices have
12 D^2 entries. Of a peer with rate r remain, in each of its r L blocks, (7 r + 5 r^2) /
12 of them: rows of all four matrices are left out, and columns of the two that read
what was left out. That is .198 of the stack at a rate of a half, .043 at a quarter.
"""

from __future__ import annotations

from fractions import Fraction

import pytest

from p2pfusion.methods import Member, PlanContext, build_method
from p2pfusion.split.depth import cut_in_depth
from p2pfusion.split.layout import ParameterSpec
from p2pfusion.split.segment import Split
from p2pfusion.training.models import MODELS

WIDTH, BLOCKS = 768, 12
VIT: dict[str, object] = {
    **{"image_size": 224, "patch": 16, "width": WIDTH, "heads": 12, "layers": BLOCKS},
    **{"inner": 4 * WIDTH, "exits": 4, "classes": 300},
}
LAYOUT = cut_in_depth(MODELS["vit-units"].layout(VIT))
STACK = 12 * BLOCKS * WIDTH**2
"""84.9 million matrix entries."""


def split(rate: Fraction) -> Split:
    context = PlanContext(0, 1, LAYOUT, (Member("p", rate),))
    return build_method("co-s2p", {}).split(context, 0, 0)


def count(kind: str, found: Split) -> int:
    """Elements of the blocks' matrices, biases or norms."""
    return sum(
        segment.size
        for parameter, segment in zip(
            LAYOUT.parameters, found.segments(LAYOUT), strict=True
        )
        if parameter.name.startswith("blocks.") and kind_of(parameter) == kind
    )


def kind_of(parameter: ParameterSpec) -> str:
    if ".norm" in parameter.name:
        return "norms"
    return "matrices" if parameter.name.endswith("weight") else "biases"


@pytest.mark.parametrize(
    ("rate", "published", "millions"), [("1/2", 0.198, 16.8), ("1/4", 0.043, 3.6)]
)
def test_a_sub_model_is_as_large_as_the_closed_form(
    rate: str, published: float, millions: float
) -> None:
    r = Fraction(rate)
    found, full = split(r), Split.full(LAYOUT)
    assert count("matrices", full) == STACK
    assert count("matrices", found) == (7 * r + 5 * r**2) / 12 * r * STACK
    assert round(count("matrices", found) / STACK, 3) == published
    assert count("matrices", found) / 1e6 == pytest.approx(millions, abs=0.05)
    # Biases go with their rows; norms stay whole in the blocks that are there.
    assert count("biases", found) == r * r * count("biases", full)
    assert count("norms", found) == r * count("norms", full)


@pytest.mark.parametrize(
    ("rate", "exits"), [("1/4", 1), ("1/2", 2), ("3/4", 3), ("1", 4)]
)
def test_exits_after_every_quarter_are_held_up_to_the_depth(
    rate: str, exits: int
) -> None:
    found = split(Fraction(rate))
    held = {
        parameter.name.split(".")[1]
        for parameter, segment in zip(
            LAYOUT.parameters, found.segments(LAYOUT), strict=True
        )
        if parameter.name.startswith("exits.") and segment.size
    }
    assert held == {str(n) for n in range(exits)}


def test_the_stream_is_never_cut() -> None:
    """Patches, positions, norms and exits are whole."""
    found = split(Fraction(1, 4))
    pairs = zip(LAYOUT.parameters, found.segments(LAYOUT), strict=True)
    whole = [p for p, segment in pairs if segment.size == p.size]
    names = {p.name for p in whole}
    assert names >= {"patches.weight", "positions.weight", "blocks.2.norm1.weight"}
    assert names >= {"exits.0.classifier.weight"}


def test_a_mask_takes_few_bytes() -> None:
    """A few hundred bytes for the whole model, in any announcement."""
    asked = build_method("co-s2p", {}).asks(LAYOUT, Fraction(1))  # type: ignore[attr-defined]
    cells = [LAYOUT.axis(name).cell_count for name in asked["cells"]]
    assert cells == [12, 32, 32, 32] * BLOCKS
    assert sum(cells) / 8 == 162
