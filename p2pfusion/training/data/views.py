"""Random views of images, for objectives that compare two views of one image.

The recipe is that of MoCo v3, BYOL and SimCLR for photographs, without what needs an
image library: a random crop that is stretched to the whole image, a flip from left to
right, jitter of brightness and contrast and, of colour images, saturation, colour
images turned grey, blur, and solarization where it is asked for. Every image of a batch
gets its own draws, all from the given generator on the processor: the same generator
state gives the same views, on any device.

Cropping, flipping and blurring are products with small matrices, one pair for each
image: an output row is a weighted sum of input rows, and a column of columns. A crop of
the whole image is then exactly the image, and no pixel comes in from outside: what is
blank in a batch plays no part, and a view never has a value that its images could not.

Differs: no jitter of hue; brightness, contrast and saturation come in this order,
where torchvision shuffles them; both views are drawn alike, where BYOL blurs one
always and solarizes the other; a crop's borders lie between pixels, and a side that
would be longer than the image is as long as the image, where torchvision draws again;
blur reaches as many pixels, in proportion to the image's side, as it does in images
of 224 pixels, but up to half a pixel at least.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from p2pfusion.errors import DataError

ASPECT = math.log(4 / 3)
"""Crops are at most a third wider than high, or higher than wide."""

JITTER, JITTER_CHANCE = (0.4, 0.4, 0.2), 0.8
"""How far factors of brightness, contrast and saturation are from 1, at most."""

GREY_CHANCE, BLUR_CHANCE = 0.2, 0.5

LEAST_BLUR, MOST_BLUR = 0.1 / 224, 2 / 224
"""Standard deviations, in sides of the image."""

LEAST_MOST_BLUR_PIXELS = 0.5
"""On small images the above would be no blur at all."""

LUMA = (0.299, 0.587, 0.114)
"""How bright red, green and blue are (ITU-R BT.601)."""

DRAWS = 13
"""Random numbers for each view."""


@dataclass(frozen=True)
class Recipe:
    """What can be chosen of the views."""

    crop: float = 0.2
    """The smallest part of an image's area that a crop may have."""
    solarize: float = 0.0
    """The chance that bright pixels are inverted."""


def two_views(images: Tensor, generator: torch.Generator, recipe: Recipe) -> Tensor:
    """Views (2B, C, H, W) of images (B, C, H, W): a first of each, then a second."""
    if images.dim() != 4:
        raise DataError(
            "a self-supervised objective compares views of images, and this data is "
            "none",
            hint="use images, or another objective",
        )
    return view(images.repeat(2, 1, 1, 1), generator, recipe)


def view(images: Tensor, generator: torch.Generator, recipe: Recipe) -> Tensor:
    """One view of each image, of the same shape."""
    count, channels, height, width = images.shape
    drawn = torch.rand(DRAWS, count, generator=generator).to(images)
    areas = recipe.crop + (1 - recipe.crop) * drawn[0]
    sides = crop_sides(areas, ASPECT * (2 * drawn[1] - 1))
    views = crop(images, sides, drawn[2:4], flipped=drawn[4] < 0.5)
    black, white = value_range(images)
    pixels = (views - black) / (white - black)
    factors = 1 + (2 * drawn[5:8] - 1) * drawn.new_tensor(JITTER)[:, None]
    pixels = torch.where(
        _each(drawn[8] < JITTER_CHANCE), jitter(pixels, factors), pixels
    )
    if channels == len(LUMA):
        grey = brightness(pixels).expand_as(pixels)
        pixels = torch.where(_each(drawn[9] < GREY_CHANCE), grey, pixels)
    blurred = blur(pixels, _deviations(drawn[10], max(height, width)))
    pixels = torch.where(_each(drawn[11] < BLUR_CHANCE), blurred, pixels)
    chosen = _each(drawn[12] < recipe.solarize)
    pixels = torch.where(chosen & (pixels >= 0.5), 1 - pixels, pixels)
    return (black + pixels * (white - black)).clamp(black, white)


def value_range(images: Tensor) -> tuple[float, float]:
    """The values of black and white: -1 and 1, as bytes become, or, of float images
    that have others, the least and the greatest of the batch."""
    least, greatest = float(images.min()), float(images.max())
    if least >= -1 and greatest <= 1:
        return -1.0, 1.0
    return least, greatest if greatest > least else least + 1


def crop_sides(areas: Tensor, aspects: Tensor) -> Tensor:
    """Height and width (2, N) of crops, as parts of the image's: of these areas, and
    with these logarithms of width to height."""
    roots = areas.sqrt()
    sides = torch.stack([roots * (-aspects / 2).exp(), roots * (aspects / 2).exp()])
    return sides.clamp(max=1)


def crop(images: Tensor, sides: Tensor, places: Tensor, *, flipped: Tensor) -> Tensor:
    """Crops of images (N, C, H, W), stretched to (H, W) by bilinear interpolation.

    ``sides`` (2, N): height and width of each, as parts of the image's; ``places``
    (2, N): where in the room that is left it begins, from 0 to 1; ``flipped`` (N):
    which of them are flipped from left to right.
    """
    height, width = images.shape[2:]
    rows = _stretching(sides[0], places[0], height)
    columns = _stretching(sides[1], places[1], width)
    columns = torch.where(flipped[:, None, None], columns.flip(1), columns)
    return _combined(images, rows, columns)


def brightness(pixels: Tensor) -> Tensor:
    """How bright each pixel is, (N, 1, H, W)."""
    if pixels.shape[1] != len(LUMA):
        return pixels.mean(1, keepdim=True)
    return (pixels * pixels.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def jitter(pixels: Tensor, factors: Tensor) -> Tensor:
    """Pixels from 0 to 1 with other brightness, contrast and, of colour images,
    saturation; ``factors`` (3, N) of these."""
    pixels = (pixels * _each(factors[0])).clamp(0, 1)
    means = brightness(pixels).mean((2, 3), keepdim=True)
    pixels = (means + (pixels - means) * _each(factors[1])).clamp(0, 1)
    if pixels.shape[1] != len(LUMA):
        return pixels
    grey = brightness(pixels)
    return (grey + (pixels - grey) * _each(factors[2])).clamp(0, 1)


def blur(pixels: Tensor, deviations: Tensor) -> Tensor:
    """Means of neighbours, with Gaussian weights of these deviations (N), in pixels.

    At the borders the weights are of the neighbours that are there.
    """
    height, width = pixels.shape[2:]
    rows, columns = (_gaussian(deviations, size) for size in (height, width))
    return _combined(pixels, rows, columns)


def _deviations(drawn: Tensor, side: int) -> Tensor:
    least = LEAST_BLUR * side
    most = max(MOST_BLUR * side, LEAST_MOST_BLUR_PIXELS)
    return least + (most - least) * drawn


def _stretching(parts: Tensor, places: Tensor, size: int) -> Tensor:
    """Weights (N, size, size): which pixels of a line make each pixel of the crop."""
    pixels = torch.arange(size, device=parts.device, dtype=parts.dtype)
    starts = places * (1 - parts) * size
    centres = starts[:, None] + (pixels + 0.5) * parts[:, None] - 0.5
    # Between the outermost centres and the border there is nothing to interpolate.
    centres = centres.clamp(0, size - 1)
    return (1 - (centres[:, :, None] - pixels).abs()).clamp(min=0)


def _gaussian(deviations: Tensor, size: int) -> Tensor:
    pixels = torch.arange(size, device=deviations.device, dtype=deviations.dtype)
    distances = (pixels[:, None] - pixels).square()
    return (-distances / (2 * deviations[:, None, None].square())).softmax(2)


def _combined(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Weighted sums of rows, then of columns: weights (N, H, H) and (N, W, W)."""
    return rows[:, None] @ images @ columns.transpose(1, 2)[:, None]


def _each(values: Tensor) -> Tensor:
    """One value for each image, beside its pixels."""
    return values[:, None, None, None]
