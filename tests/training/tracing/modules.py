"""Ordinary modules, without a word about splits, and records for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

TOKENS, LENGTH, CLASSES = 11, 6, 7


@dataclass(frozen=True)
class Case:
    """A module and records like those it is for."""

    make: Callable[[], nn.Module]
    records: Callable[[], Tensor]
    axes: tuple[int, ...]
    """The sizes of the axes that tracing has to find, sorted."""


def images(size: int = 8) -> Tensor:
    return torch.randn(3, 1, size, size)


def tokens() -> Tensor:
    return torch.randint(TOKENS, (3, LENGTH))


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 12),
        nn.ReLU(),
        nn.Linear(12, 8),
        nn.GELU(),
        nn.Linear(8, CLASSES),
    )


class Residual(nn.Module):
    """Convolutions, both norms, a residual sum, a concatenation, a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.inside = nn.Conv2d(16, 8, 3, padding=1, bias=False)
        self.back = nn.Conv2d(8, 16, 1)
        self.groups = nn.GroupNorm(8, 16)
        self.deep = nn.Conv2d(16, 16, 3, groups=16, padding=1)
        self.wide = nn.Linear(32 * 4 * 4, 12)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        first = self.norm(self.stem(images)).relu_()
        second = first + self.groups(self.back(self.inside(first).relu()))
        both = torch.cat([second, self.deep(second)], dim=1)
        small = nn.functional.max_pool2d(both, 2)
        return self.head(self.wide(small.flatten(1)).relu())


class Encoder(nn.Module):
    """Torch's own transformer, with the mean over tokens behind it."""

    def __init__(self, *, first: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(TOKENS, 16)
        layer = nn.TransformerEncoderLayer(
            16, 4, 24, dropout=0.0, batch_first=True, norm_first=first
        )
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.blocks(self.table(tokens)).mean(1))


class Both(nn.Module):
    """Torch's encoder and decoder, whose second attention has another input."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(TOKENS, 16)
        self.inside = nn.Transformer(16, 4, 1, 1, 24, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        stream = self.table(tokens)
        return self.head(self.inside(stream, stream)[:, 0])


class Attention(nn.Module):
    """Written by hand: views and transposes, a causal mask, a table of positions that
    is a buffer, and the table of tokens as the head."""

    mask: Tensor
    positions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.table = nn.Embedding(TOKENS, 16)
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, TOKENS, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("mask", torch.ones(LENGTH, LENGTH).tril() == 0)
        self.register_buffer("positions", torch.randn(LENGTH, 16))

    def forward(self, tokens: Tensor) -> Tensor:
        count, length = tokens.shape
        stream = self.table(tokens) * 4.0 + self.positions[:length]
        parts = self.qkv(self.norm(stream)).view(count, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        scores = scores.masked_fill(self.mask, float("-inf")).softmax(-1)
        found = (scores @ value).transpose(1, 2).reshape(count, length, -1)
        return self.head(stream + self.out(found))


class Squeezing(nn.Module):
    """Means over channels as gates, and a norm written out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 12, 3)
        self.less = nn.Linear(12, 4)
        self.more = nn.Linear(4, 12)
        self.scale = nn.Parameter(torch.ones(12))
        self.head = nn.Linear(12, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        values = self.stem(images).relu()
        gates = self.more(self.less(values.mean((2, 3))).relu()).sigmoid()
        values = (values * gates[:, :, None, None]).sum((-2, -1))
        size = values.square().mean(-1, keepdim=True)
        return self.head(values * torch.rsqrt(size + 1e-6) * self.scale)


CASES = {
    "perceptron": Case(perceptron, images, (8, 12)),
    "residual": Case(Residual, images, (8, 8, 12)),
    "encoder": Case(lambda: Encoder(first=True), tokens, (4, 4, 16, 24, 24)),
    "encoder-post": Case(lambda: Encoder(first=False), tokens, (4, 4, 16, 24, 24)),
    "both": Case(Both, tokens, (4, 4, 4, 16, 24, 24)),
    "attention": Case(Attention, tokens, (4, 16)),
    "squeezing": Case(Squeezing, images, (4, 12)),
}
