"""Operators whose sum goes over a part of a width only.

A sum over w of K entries is multiplied by a *factor*. With the factor 1 it is what the
full model computes where all other entries are zero. With K / w it keeps the scale of
the full sum, as everywhere in this package (``models/base.py``): means and norms are
then plain ones of the entries that are there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def times(values: Tensor, factor: float) -> Tensor:
    """The values times the factor."""
    return values if factor == 1.0 else values * factor


def mean_factor(values: Tensor, factor: float, present: float) -> Tensor:
    """A mean over what is there, as one over the whole width, times the factor.

    ``present``: the part of the width that is there, w / K.
    """
    return times(values, factor * present)


def layer_norm(
    values: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    factor: float,
    full_size: int,
) -> Tensor:  # (..., w) to the same
    """LayerNorm with the statistics of a width of which w entries are there."""
    size = values.shape[-1]
    if factor * size == full_size:
        return functional.layer_norm(values, (size,), weight, bias, eps)
    mean = factor * values.sum(-1, keepdim=True) / full_size
    squares = (values - mean).square().sum(-1, keepdim=True)
    absent = (full_size - factor * size) * mean.square()
    variance = (factor * squares + absent) / full_size
    normal = (values - mean) * torch.rsqrt(variance + eps)
    if weight is not None:
        normal = normal * weight
    return normal if bias is None else normal + bias


def rms_norm(
    values: Tensor,
    weight: Tensor | None,
    eps: float | None,
    factor: float,
    full_size: int,
) -> Tensor:  # (..., w) to the same
    """RMSNorm with the mean square of a width of which w entries are there."""
    least = torch.finfo(values.dtype).eps if eps is None else eps
    square = factor * values.square().sum(-1, keepdim=True) / full_size
    normal = values * torch.rsqrt(square + least)
    return normal if weight is None else normal * weight
