"""What splits and plans amount to: coverage, bytes and memory, before anybody trains.

``coverage`` says how much of the model somebody holds in one round and how many hold
it, ``ever_trained`` how much somebody has held over several rounds; ``traffic`` and
``training_bytes`` price a plan and a sub-model. All work on grid cells, so the cost
does not depend on the number of elements. Numbers for people and for warnings: nothing
that peers must agree on is computed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from p2pfusion.split.forms import Wire
from p2pfusion.split.grid import (
    Counts,
    Mask,
    cell_elements,
    cell_lengths,
    cell_mask,
    grid_shape,
    outer_and,
)
from p2pfusion.split.layout import Layout
from p2pfusion.split.plan import ExchangePlan, Hop
from p2pfusion.split.segment import Split

TRAINING_ELEMENT_BYTES = 4
"""Parameters, gradients and optimiser states are float32."""


@dataclass(frozen=True)
class Held:
    """How much of something is held, and by how many.

    ``fraction``: of its entries, held by at least one; ``holders_min`` and
    ``holders_mean`` are over all its entries.
    """

    name: str
    fraction: float
    holders_min: int
    holders_mean: float


@dataclass(frozen=True)
class Coverage:
    """What the splits of one round cover: per axis, per parameter, and all in all."""

    axes: tuple[Held, ...]
    parameters: tuple[Held, ...]
    model: Held


@dataclass(frozen=True)
class EverTrained:
    """The share of entries that somebody has held: per parameter, and of the model."""

    parameters: tuple[float, ...]
    model: float


@dataclass(frozen=True)
class Traffic:
    """What one peer sends and receives in one round, without framing."""

    sent_bytes: int
    received_bytes: int


def coverage(layout: Layout, splits: Sequence[Split]) -> Coverage:
    """How the splits of one round cover the model."""
    masks = _axis_masks(layout, splits)
    axes = (
        _held(axis.name, masks[axis.name].sum(axis=0), cell_lengths(axis))
        for axis in layout.axes
    )
    parameters: dict[int, Held] = {}
    counts: list[Counts] = []
    sizes: list[Counts] = []
    for signature in layout.signatures:
        held = outer_and([masks[name] for name in signature.axes], len(splits))
        counts.append(held.sum(axis=0, dtype=np.int64).ravel())
        sizes.append(cell_elements(layout, signature).ravel())
        for parameter in signature.parameters:
            name = layout.parameters[parameter].name
            parameters[parameter] = _held(name, counts[-1], sizes[-1])
    return Coverage(
        tuple(axes),
        tuple(held for _, held in sorted(parameters.items())),
        _held("model", _joined(counts), _joined(sizes)),
    )


def _axis_masks(layout: Layout, splits: Sequence[Split]) -> dict[str, Mask]:
    """(splits, cells) of every axis."""
    return {
        axis.name: np.array(
            [cell_mask(axis, split[axis.name]) for split in splits], np.bool_
        ).reshape(len(splits), axis.cell_count)
        for axis in layout.axes
    }


def _joined(arrays: list[Counts]) -> Counts:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def _held(name: str, counts: Counts, sizes: Counts) -> Held:
    whole = max(int(sizes.sum()), 1)
    return Held(
        name,
        fraction=int(sizes[counts > 0].sum()) / whole,
        holders_min=int(counts.min()) if len(counts) else 0,
        holders_mean=int((counts * sizes).sum()) / whole,
    )


def ever_trained(layout: Layout, rounds: Iterable[Sequence[Split]]) -> EverTrained:
    """How much of the model somebody has in at least one of the rounds.

    The splits are of what is trained: of one with frozen layers, ``Split.trained``.
    """
    trained: list[Mask] = [
        np.zeros(grid_shape(layout, signature), np.bool_)
        for signature in layout.signatures
    ]
    for splits in rounds:
        masks = _axis_masks(layout, splits)
        for signature, mask in zip(layout.signatures, trained, strict=True):
            held = outer_and([masks[name] for name in signature.axes], len(splits))
            mask |= np.any(held, axis=0)
    shares: dict[int, float] = {}
    covered = 0
    for signature, mask in zip(layout.signatures, trained, strict=True):
        sizes = cell_elements(layout, signature)
        part, whole = int(sizes[mask].sum()), int(sizes.sum())
        covered += part
        shares.update((parameter, part / whole) for parameter in signature.parameters)
    return EverTrained(
        tuple(share for _, share in sorted(shares.items())),
        covered / max(layout.size, 1),
    )


def traffic(plan: ExchangePlan, peer: str, *, wire: Wire) -> Traffic:
    """What the plan lets the peer send and receive, to the byte."""
    given, taken = _contributions(plan, peer)
    size, value_bytes = wire.contribution.bytes_of, wire.value.bytes_of
    return Traffic(
        value_bytes(plan.elements_sent(peer) - sum(given)) + sum(map(size, given)),
        value_bytes(plan.elements_received(peer) - sum(taken)) + sum(map(size, taken)),
    )


def contributed_bytes(plan: ExchangePlan, peer: str, *, wire: Wire) -> int:
    """How much of what the peer sends are contributions."""
    given, _ = _contributions(plan, peer)
    return sum(map(wire.contribution.bytes_of, given))


def _contributions(plan: ExchangePlan, peer: str) -> tuple[list[int], list[int]]:
    """The lengths of the peer's streams of contributions, out and in, in elements."""
    hop, others = Hop.CONTRIBUTION, [other for other in plan.peers if other != peer]
    given = [plan.elements(hop, peer, other) for other in others]
    return given, [plan.elements(hop, other, peer) for other in others]


def training_bytes(
    layout: Layout, split: Split, *, optimiser_copies: int, activation_bytes: int
) -> int:
    """Memory to train a sub-model: all its float32 copies, and what activations take.

    ``optimiser_copies``: states per parameter beside its gradient (momentum 1, Adam 2).
    """
    copies = 2 + optimiser_copies
    return split.size(layout) * copies * TRAINING_ELEMENT_BYTES + activation_bytes
