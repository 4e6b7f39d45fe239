"""Small data files and models that the tests of the trainer share."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split

VIT_BODY: Mapping[str, object] = {
    "in_channels": 1,
    "image_size": 4,
    "patch": 2,
    "width": 8,
    "heads": 2,
    "layers": 2,
    "inner": 6,
    "group": 4,
}
"""A vision transformer of a few hundred parameters."""

IDX_NAMES = {
    ("train", "images"): "train-images-idx3-ubyte",
    ("train", "labels"): "train-labels-idx1-ubyte",
    ("test", "images"): "t10k-images-idx3-ubyte",
    ("test", "labels"): "t10k-labels-idx1-ubyte",
}


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def images_and_labels(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random 6 x 5 images of three classes."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 6, 5), dtype=np.uint8)
    return images, (np.arange(count) % 3).astype(np.uint8)


def write_idx_directory(directory: Path, *, train: int = 30, test: int = 12) -> None:
    """The four files of the MNIST family; the training ones compressed."""
    directory.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("test", test)):
        images, labels = images_and_labels(count, seed=count)
        for what, array in (("images", images), ("labels", labels)):
            path = directory / IDX_NAMES[part, what]
            if part == "train":
                path = path.with_name(f"{path.name}.gz")
                path.write_bytes(gzip.compress(idx_bytes(array)))
            else:
                path.write_bytes(idx_bytes(array))


def window(layout: Layout, *, start: int, cells: int) -> Split:
    """``cells`` grid cells of every axis, from ``start`` on, around its end."""
    return Split.of(
        {
            axis.name: axis.cells(IndexSet.cyclic(start, cells, axis.cell_count))
            for axis in layout.axes
        }
    )


def torchs_layer(
    block: nn.Module, *, width: int, heads: int, inner: int
) -> nn.TransformerEncoderLayer:
    """Torch's own pre-norm layer, in float64, with the values of one of our blocks."""
    layer = nn.TransformerEncoderLayer(
        width, heads, inner, 0.0, "gelu", batch_first=True, norm_first=True
    ).double()
    names = {
        "norm1": "norm1",
        "norm2": "norm2",
        "up": "linear1",
        "down": "linear2",
        "attention.out": "self_attn.out_proj",
    }
    values = {
        f"{torchs}.{kind}": block.get_parameter(f"{ours}.{kind}").data
        for ours, torchs in names.items()
        for kind in ("weight", "bias")
    }
    for kind in ("weight", "bias"):
        projection = block.get_parameter(f"attention.qkv.{kind}").data
        values[f"self_attn.in_proj_{kind}"] = projection
    layer.load_state_dict(values)
    return layer


def change(module: nn.Module, seed: int) -> None:
    """Gives all parameters random values."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5, generator=random)
