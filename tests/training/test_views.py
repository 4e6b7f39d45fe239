"""Views: each step against a slow version, and what all of them keep."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from p2pfusion.errors import DataError
from p2pfusion.training.data.views import (
    LUMA,
    Recipe,
    blur,
    brightness,
    crop,
    crop_sides,
    jitter,
    two_views,
    value_range,
    view,
)

SHAPES = [(6, 1, 28, 28), (5, 3, 32, 32), (4, 1, 8, 8), (3, 2, 5, 9), (1, 3, 1, 1)]
shapes = st.sampled_from(SHAPES)
seeds = st.integers(0, 1 << 20)


def stream(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """From -1 to 1, as images of bytes become."""
    return 2 * torch.rand(shape, generator=stream(seed)) - 1


@settings(max_examples=30)
@given(shapes, seeds, st.sampled_from([0.01, 0.2, 1.0]), st.sampled_from([0.0, 0.5]))
def test_a_view_is_like_its_image_and_the_same_for_the_same_generator(
    shape: tuple[int, ...], seed: int, least: float, solarize: float
) -> None:
    recipe, batch = Recipe(least, solarize), images(shape)
    kept = batch.clone()
    found, again = (view(batch, stream(seed), recipe) for _ in range(2))
    assert torch.equal(found, again) and torch.equal(batch, kept)
    assert found.shape == batch.shape and found.dtype == batch.dtype
    assert found.min() >= -1 and found.max() <= 1


def test_the_generator_moves_on_and_another_one_gives_other_views() -> None:
    batch, generator = images((6, 3, 12, 12)), stream()
    first, second = (view(batch, generator, Recipe()) for _ in range(2))
    assert not torch.equal(first, second)
    assert not torch.equal(first, view(batch, stream(2), Recipe()))


def test_two_views_of_every_image_are_drawn_apart() -> None:
    batch = images((6, 1, 12, 12))
    found = two_views(batch, stream(), Recipe())
    assert found.shape == (12, 1, 12, 12)
    first, second = found.chunk(2)
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    alike = two_views(batch[:1].expand(6, -1, -1, -1), stream(), Recipe())
    assert len({tuple(each.flatten().tolist()) for each in alike}) == 12


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(DataError, match="compares views of images"):
        two_views(torch.zeros(4, 7), stream(), Recipe())


# --- Crops ---------------------------------------------------------------------------


def slow_crop(image: Tensor, sides: Tensor, places: Tensor, flipped: bool) -> Tensor:
    """Pixel by pixel: the mean of four neighbours, weighted by nearness."""
    channels, height, width = image.shape
    found = torch.zeros_like(image)

    def centre(number: int, part: float, place: float, size: int) -> float:
        at = place * (1 - part) * size + (number + 0.5) * part - 0.5
        return min(max(at, 0.0), size - 1.0)

    for row in range(height):
        for column in range(width):
            y = centre(row, float(sides[0]), float(places[0]), height)
            x = centre(column, float(sides[1]), float(places[1]), width)
            up, left = math.floor(y), math.floor(x)
            down, right = min(up + 1, height - 1), min(left + 1, width - 1)
            b, a = y - up, x - left
            target = width - 1 - column if flipped else column
            for c in range(channels):
                found[c, row, target] = (
                    (1 - b) * ((1 - a) * image[c, up, left] + a * image[c, up, right])
                    + b * ((1 - a) * image[c, down, left] + a * image[c, down, right])
                )  # fmt: skip
    return found


def draws(count: int, seed: int) -> tuple[Tensor, Tensor]:
    random = stream(seed)
    sides = 0.05 + 0.95 * torch.rand(2, count, generator=random, dtype=torch.float64)
    return sides, torch.rand(2, count, generator=random, dtype=torch.float64)


@settings(max_examples=15)
@given(st.sampled_from([(3, 1, 8, 8), (3, 2, 5, 9), (2, 3, 1, 4)]), seeds)
def test_crops_are_the_slow_ones(shape: tuple[int, ...], seed: int) -> None:
    batch, (sides, places) = images(shape).double(), draws(shape[0], seed)
    flipped = torch.arange(shape[0]) % 2 == 0
    found = crop(batch, sides, places, flipped=flipped)
    for n, image in enumerate(batch):
        expected = slow_crop(image, sides[:, n], places[:, n], bool(flipped[n]))
        torch.testing.assert_close(found[n], expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_crop_of_everything_is_the_image_and_a_flip_undoes_itself(
    shape: tuple[int, ...],
) -> None:
    batch, count = images(shape), shape[0]
    whole, places = torch.ones(2, count), torch.rand(2, count)
    none, every = torch.zeros(count).bool(), torch.ones(count).bool()
    assert torch.equal(crop(batch, whole, places, flipped=none), batch)
    once = crop(batch, whole, places, flipped=every)
    assert torch.equal(once, batch.flip(3))
    assert torch.equal(crop(once, whole, places, flipped=every), batch)


def test_a_crop_of_whole_pixels_is_torchs_interpolation() -> None:
    batch = images((1, 3, 8, 8)).double()
    sides = torch.tensor([[0.5], [0.25]], dtype=torch.float64)
    places = torch.tensor([[0.5], [1.0]], dtype=torch.float64)
    found = crop(batch, sides, places, flipped=torch.tensor([False]))
    part = functional.interpolate(batch[:, :, 2:6, 6:8], (8, 8), mode="bilinear")
    inner = (slice(None), slice(None), slice(1, 7), slice(2, 6))
    # At its borders ours sees the pixels beyond, which torch has not been given.
    torch.testing.assert_close(found[inner], part[inner])


@given(seeds)
def test_crops_have_their_area_unless_they_would_be_longer_than_the_image(
    seed: int,
) -> None:
    areas = 0.01 + 0.99 * torch.rand(50, generator=stream(seed), dtype=torch.float64)
    aspects = torch.linspace(-0.28, 0.28, 50, dtype=torch.float64)
    high, wide = crop_sides(areas, aspects)
    free = (high < 1) & (wide < 1)
    torch.testing.assert_close((high * wide)[free], areas[free])
    torch.testing.assert_close((wide / high).log()[free], aspects[free])
    assert high.max() <= 1 and wide.max() <= 1


# --- Colours and blur ----------------------------------------------------------------


@given(st.sampled_from([1, 2, 3]), seeds)
def test_jitter_is_the_slow_one(channels: int, seed: int) -> None:
    random = stream(seed)
    pixels = torch.rand(2, channels, 3, 4, generator=random, dtype=torch.float64)
    factors = 0.5 + torch.rand(3, 2, generator=random, dtype=torch.float64)

    def cut(value: float) -> float:
        return min(max(value, 0.0), 1.0)

    def light(pixel: list[float]) -> float:
        weights = LUMA if channels == 3 else [1 / channels] * channels
        return sum(w * v for w, v in zip(weights, pixel, strict=True))

    found = jitter(pixels, factors)
    for n in range(2):
        bright, contrast, colour = factors[:, n].tolist()
        listed = pixels[n].flatten(1).T.tolist()
        listed = [[cut(v * bright) for v in pixel] for pixel in listed]
        mean = sum(map(light, listed)) / len(listed)
        listed = [[cut(mean + (v - mean) * contrast) for v in p] for p in listed]
        if channels == 3:
            listed = [
                [cut(light(p) + (v - light(p)) * colour) for v in p] for p in listed
            ]
        torch.testing.assert_close(found[n].flatten(1).T, torch.tensor(listed).double())


def test_factors_of_one_change_nothing() -> None:
    pixels = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(jitter(pixels, torch.ones(3, 2)), pixels)
    assert brightness(pixels).shape == (2, 1, 4, 4)


@settings(max_examples=15)
@given(st.sampled_from([0.001, 0.3, 1.0, 4.0]), seeds)
def test_blur_is_the_slow_one(deviation: float, seed: int) -> None:
    pixels = torch.rand(1, 1, 4, 5, generator=stream(seed), dtype=torch.float64)
    found = blur(pixels, torch.tensor([deviation], dtype=torch.float64))
    for row in range(4):
        for column in range(5):
            total, weights = 0.0, 0.0
            for y in range(4):
                for x in range(5):
                    distance = (y - row) ** 2 + (x - column) ** 2
                    weight = math.exp(-distance / (2 * deviation**2))
                    total += weight * float(pixels[0, 0, y, x])
                    weights += weight
            assert float(found[0, 0, row, column]) == pytest.approx(total / weights)


def test_bright_pixels_are_inverted_where_it_is_asked_for() -> None:
    batch, plain = images((200, 1, 4, 4)), Recipe(1.0, 0.0)
    before = view(batch, stream(), plain)
    after = view(batch, stream(), replace(plain, solarize=1.0))
    bright = before >= 0
    torch.testing.assert_close(after[~bright], before[~bright])
    torch.testing.assert_close(after[bright], -before[bright], atol=1e-6, rtol=0)
    some = view(batch, stream(), replace(plain, solarize=0.5))
    changed = (some != before).flatten(1).any(1).sum().item()
    assert 60 < changed < 140


def test_other_values_than_those_of_bytes_keep_their_own_range() -> None:
    batch = 40 * torch.rand(8, 1, 6, 6, generator=stream()) - 10
    least, greatest = value_range(batch)
    assert (least, greatest) == (batch.min().item(), batch.max().item())
    found = view(batch, stream(), Recipe())
    assert found.min() >= least and found.max() <= greatest
    assert value_range(torch.zeros(2, 1, 3, 3)) == (-1.0, 1.0)
    flat = torch.full((2, 1, 3, 3), 7.0)
    assert torch.isfinite(view(flat, stream(), Recipe())).all()
