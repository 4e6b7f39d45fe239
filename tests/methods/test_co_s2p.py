"""Co-S2P: depth, masks and exits of a split; announcements; shares and the quorum."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError
from p2pfusion.limits import MAX_ANNOUNCED_BYTES
from p2pfusion.methods import announcing, build_method, sharing
from p2pfusion.methods.base import Member, Method, PlanContext, Update
from p2pfusion.methods.co_s2p import Learned, Shared
from p2pfusion.split.depth import cut_in_depth, gate, private_widths
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.masks import encode_mask
from p2pfusion.split.segment import Split
from p2pfusion.split.windows import window_cells
from tests.strategies import layouts, split_fractions

HALF, QUARTER = Fraction(1, 2), Fraction(1, 4)


def deep(blocks: int, exits: tuple[int, ...], width: int = 8) -> Layout:
    """An input, blocks of two widths each, and exits behind some of them."""
    axes, parameters = [], [ParameterSpec("input", (), Initial("zeros"), 0)]
    layer = 0
    for n in range(1, blocks + 1):
        layer += 1
        pair = Axis(f"a{n}", width), Axis(f"b{n}", 2 * width)
        axes += pair
        dimensions = tuple(Dimension(axis.size, axis.name) for axis in pair)
        parameters.append(
            ParameterSpec(f"block{n}", dimensions, Initial("zeros"), layer)
        )
        if n in exits:
            layer += 1
            parameters.append(ParameterSpec(f"exit{n}", (), Initial("zeros"), layer))
    return cut_in_depth(Layout(tuple(axes), tuple(parameters)))


def parts(layout: Layout, split: Split) -> str:
    """Names of parameters that are held; in capitals, if they are trained."""
    names = []
    for parameter in layout.parameters:
        if split[gate(parameter.layer)]:
            trained = split.trained[gate(parameter.layer)]
            names.append(parameter.name.upper() if trained else parameter.name)
    return " ".join(names)


def context(layout: Layout, *members: Member) -> PlanContext:
    return PlanContext(0, 9, layout, members)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        ("1", "INPUT BLOCK1 BLOCK2 EXIT2 BLOCK3 BLOCK4 EXIT4"),
        ("3/4", "INPUT BLOCK1 BLOCK2 EXIT2 BLOCK3 EXIT4"),
        ("1/2", "INPUT BLOCK1 BLOCK2 EXIT2"),
        ("0.49", "INPUT BLOCK1 EXIT2"),
        ("0.01", "INPUT BLOCK1 EXIT2"),
    ],
)
def test_a_peer_has_the_first_blocks_and_the_exits_up_to_its_depth(
    fraction: str, expected: str
) -> None:
    layout = deep(4, (2, 4))
    split = build_method("co-s2p", {}).split(
        context(layout, Member("p", Fraction(fraction))), 3, 0
    )
    assert parts(layout, split) == expected


def test_a_depth_that_rolls_freezes_what_is_before_it() -> None:
    layout = deep(4, (2, 4))
    method = build_method("co-s2p", {"depth": "rolling"})
    found = context(layout, Member("p", HALF), Member("q", Fraction(1)))
    splits = [parts(layout, method.split(found, t, 0)) for t in range(4)]
    assert splits == [
        "INPUT BLOCK1 BLOCK2 EXIT2",
        "input block1 BLOCK2 EXIT2 BLOCK3 EXIT4",
        "input block1 block2 exit2 BLOCK3 BLOCK4 EXIT4",
        "INPUT BLOCK1 BLOCK2 EXIT2",
    ]
    assert method.split(found, 1, 1) == Split.full(layout)


def test_widths_of_one_block_alone_are_cut_and_others_are_whole() -> None:
    stream, own = Axis("stream", 8), Axis("own", 6)
    wide, narrow = Dimension(8, "stream"), Dimension(6, "own")
    layout = cut_in_depth(
        Layout(
            (stream, own),
            (
                ParameterSpec("table", (wide,), Initial("zeros"), 0),
                ParameterSpec("block", (wide, narrow), Initial("zeros"), 1),
                ParameterSpec("head", (wide,), Initial("zeros"), 2),
            ),
        )
    )
    split = build_method("co-s2p", {}).split(context(layout, Member("p", HALF)), 0, 0)
    assert split["stream"] == IndexSet.span(0, 8)
    assert split["own"] == IndexSet.span(0, 3)
    assert parts(layout, split) == "TABLE BLOCK HEAD"


# --- Masks ---------------------------------------------------------------------------


def axes_of(layout: Layout, blocks: int) -> list[Axis]:
    found = list(private_widths(layout).values())[:blocks]
    return [axis for axes in found for axis in axes]


def chosen(axes: list[Axis], fraction: Fraction, shift: int = 1) -> bytes:
    """A mask of the right size: cells from one on, around the axis."""
    return encode_mask(
        axes,
        {
            a.name: IndexSet.cyclic(shift, window_cells(a, fraction), a.cell_count)
            for a in axes
        },
    )


def test_a_mask_counts_as_soon_as_it_is_announced() -> None:
    layout = deep(4, (2, 4))
    mask = chosen(axes_of(layout, 2), HALF)
    method = build_method("co-s2p", {})
    before = context(layout, Member("p", HALF))
    after = context(layout, Member("p", HALF, mask))
    first, second = method.split(before, 0, 0), method.split(after, 0, 0)
    assert parts(layout, first) == parts(layout, second)
    for n, size in ((1, 8), (2, 8)):
        assert list(first[f"a{n}"]) == list(range(size // 2))
        assert list(second[f"a{n}"]) == list(range(1, size // 2 + 1))
    assert second["a3"] == IndexSet.span(0, 8)  # of a block that is not there


@given(data=st.data(), found=st.binary(max_size=20))
def test_what_is_no_mask_counts_as_nothing(data: st.DataObject, found: bytes) -> None:
    """Also a mask that was announced with another split fraction."""
    layout = cut_in_depth(data.draw(layouts()))
    fraction, other = data.draw(split_fractions), data.draw(split_fractions)
    method = data.draw(st.sampled_from(LEARNED))
    if data.draw(st.booleans()):
        rolling = method.rolling  # type: ignore[attr-defined]
        blocks = len(private_widths(layout))
        count = max(1, math.floor(other * blocks))
        found = chosen(axes_of(layout, blocks if rolling else count), other)
    plain = method.split(context(layout, Member("p", fraction)), 0, 0)
    split = method.split(context(layout, Member("p", fraction, found)), 0, 0)
    rule = announcing(method)
    assert rule is not None
    try:
        rule.check_announced(layout, fraction, found)
    except ConfigError:
        assert split == plain
    else:
        assert Split.from_data(split.to_data(), layout) == split
        assert [len(s) > 0 for _, s in split.sets] == [
            len(s) > 0 for _, s in plain.sets
        ]


LEARNED = [
    build_method("co-s2p", {"mask": mask, "depth": depth, "merge": merge})
    for mask in ("learned", "sampled")
    for depth in ("prefix", "rolling")
    for merge in ("shares", "mean")
]


@given(layout=layouts(), fraction=split_fractions, method=st.sampled_from(LEARNED))
def test_what_is_asked_for_is_what_can_be_announced(
    layout: Layout, fraction: Fraction, method: Method
) -> None:
    layout = cut_in_depth(layout)
    rule = announcing(method)
    assert rule is not None
    asked = rule.asks(layout, fraction)
    cells = asked["cells"]
    assert isinstance(cells, dict)
    axes = [layout.axis(name) for name in cells]
    rule.check_announced(layout, fraction, chosen(axes, fraction))
    assert cells == {axis.name: window_cells(axis, fraction) for axis in axes}
    whole = Split.from_data(asked["split"], layout)
    split = method.split(context(layout, Member("p", fraction)), 0, 0)
    held = [a.name for a in layout.axes if a.is_gate and split[a.name]]
    assert all(whole[name] for name in held)
    assert whole.sets == tuple(
        (name, full if not name.startswith("layer ") else whole[name])
        for name, full in Split.full(layout).sets
    )


@pytest.mark.parametrize(
    ("announced", "words"),
    [
        (b"", "no mask is announced: a mask of these axes has 6 bytes"),
        (b"\xf0\xff\x00\xf0\xff\x01", "9 cells of axis 'b2', and not 8"),
        (b"\xf0\xff\x00\x00\xff\x00", "no cell of axis 'a2'"),
    ],
)
def test_a_wrong_announcement_is_refused(announced: bytes, words: str) -> None:
    method = build_method("co-s2p", {})
    assert isinstance(method, Learned)
    with pytest.raises(ConfigError, match=words):
        method.check_announced(deep(4, (2, 4)), HALF, announced)
    method.check_announced(deep(4, (2, 4)), HALF, b"\xf0\xff\x00\xf0\xff\x00")


def test_a_mask_that_is_drawn_may_have_any_size() -> None:
    method = build_method("co-s2p", {"mask": "sampled"})
    assert isinstance(method, Learned)
    method.check_announced(deep(4, (2, 4)), HALF, b"\xf0\xff\x00\xf0\xff\x01")
    layout = deep(4, (2, 4))
    found = b"\xf0\xff\x00\xf0\xff\x01"
    split = method.split(context(layout, Member("p", HALF, found)), 0, 0)
    assert list(split["b2"]) == [*range(8), 15]


def test_a_model_with_too_many_units_is_refused() -> None:
    method = build_method("co-s2p", {})
    assert isinstance(method, Learned)
    cells = 32 * 256 * 4
    assert cells == 8 * MAX_ANNOUNCED_BYTES
    method.initial(deep(512, (512,), width=32))
    with pytest.raises(ConfigError, match=r"has 4104 bytes.*announce 4096"):
        method.initial(deep(513, (513,), width=32))


# --- Arguments, shares, quorum -------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depth": "none"}, "depth is 'none': it must be prefix or rolling"),
        ({"mask": True}, "mask is True: it must be learned or sampled or static"),
        ({"merge": ""}, "merge is ''"),
        ({"mask_epochs": 0}, "mask_epochs is no whole number"),
        ({"mask_epochs": True}, "mask_epochs is no whole number"),
        ({"quorum": 0}, "quorum is no number above 0"),
        ({"quorum": 1.5}, "quorum is no number above 0"),
        ({"quorum": []}, "quorum is no number above 0"),
        ({"mask": "static", "mask_epochs": 3}, "nothing to a static mask"),
        ({"merge": "mean", "quorum": 1}, "nothing to a mean"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_method("co-s2p", arguments)


def test_arguments_say_what_peers_announce_and_how_changes_are_added() -> None:
    for mask, merge in itertools.product(
        ("learned", "sampled", "static"), ("shares", "mean")
    ):
        method = build_method("co-s2p", {"mask": mask, "merge": merge})
        assert (announcing(method) is None) == (mask == "static")
        assert (sharing(method) is None) == (merge == "mean")


@pytest.mark.parametrize(
    ("quorum", "expected"),
    [(0.5, [1, 1, 2, 2, 3, 4]), (1, [1, 2, 3, 4, 5, 8]), ("0.01", [1] * 6)],
)
def test_a_round_closes_with_a_part_of_the_members(
    quorum: float | str, expected: list[int]
) -> None:
    method = build_method("co-s2p", {"quorum": quorum})
    assert isinstance(method, Shared)
    assert [method.quorum(n) for n in (1, 2, 3, 4, 5, 8)] == expected


SHARED = build_method("co-s2p", {})
sizes = st.floats(0, 1e6) | st.sampled_from([0.0, 1e-300, 1e300, 1.7e308])
updates = st.lists(
    st.builds(Update, split_fractions, sizes, st.integers(0, 9), sizes),
    min_size=1,
    max_size=6,
)


def exactly(found: list[Update]) -> list[Fraction]:
    """The equations in exact fractions."""
    weights = [
        Fraction(u.l1) / u.split_fraction / (Fraction(u.distance) + 1) for u in found
    ]
    whole = sum(weights)
    if not whole:
        return [Fraction(1, len(found))] * len(found)
    return [weight / whole for weight in weights]


@given(updates, st.randoms(use_true_random=False))
def test_shares_are_those_of_the_equations(found: list[Update], random: object) -> None:
    assert isinstance(SHARED, Shared)
    shares = SHARED.shares(found)
    if all(update.l1 < 1e307 for update in found):
        expected = [float(share) for share in exactly(found)]
        assert shares == pytest.approx(expected, abs=1e-12)
    assert math.fsum(shares) == pytest.approx(1)
    assert all(0 <= share <= 1 for share in shares)
    order = list(range(len(found)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = SHARED.shares([found[n] for n in order])
    assert again == tuple(shares[n] for n in order)


def test_a_stale_update_and_one_of_a_large_part_weigh_less() -> None:
    assert isinstance(SHARED, Shared)
    fresh = Update(HALF, 2.0, 0, 0.0)
    assert SHARED.shares([fresh, replace(fresh, distance=1.0)]) == (2 / 3, 1 / 3)
    assert SHARED.shares([fresh, replace(fresh, split_fraction=QUARTER)]) == (
        pytest.approx((1 / 3, 2 / 3))
    )
    assert SHARED.shares([]) == ()
