"""Dense sub-modules: from a split of the stored model to a small module, and back.

A sub-model is really built small: its tensors have the widths of the split, and nothing
of the full model is in memory. Arrays are passed one parameter at a time, in the order
of the layout, so that at most one of them exists twice.

A layout that is cut in depth has a first dimension of one, which follows a layer's gate
(``split/depth.py``). Tensors have none: it goes and comes here. Of a layer that is not
in the split there is no tensor at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import sqrt

import numpy as np
import torch
from torch import nn

from p2pfusion.errors import IncompatibleError
from p2pfusion.split.depth import tensor_shape
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Segment, Split
from p2pfusion.training.models.base import Model, Width, place

Read = Callable[[Segment], np.ndarray]
"""Gives the values of a segment, shaped like it: ``Store.read``."""


def build(
    model: Model, arguments: Mapping[str, object], layout: Layout, split: Split
) -> nn.Module:
    """The dense module of a split; ``IncompatibleError`` if the layout is another's."""
    module = model.build(arguments, split.sizes())
    shapes = [(name, tuple(p.shape)) for name, p in module.named_parameters()]
    pairs = zip(layout.parameters, split.segments(layout), strict=True)
    expected = [
        (parameter.name, segment.shape[-len(tensor_shape(parameter)) :])
        for parameter, segment in pairs
        if segment.size
    ]
    if shapes != expected:
        raise IncompatibleError(
            f"the model's parameters are not those of the manifest's layout: {shapes} "
            f"and {expected}",
            hint="all peers need the same version of the model's code",
        )
    place(module, split)
    if layout.blocks > 1:
        _leave_silent_sums_alone(module)
    _freeze(module, layout, split)
    return module


def _freeze(module: nn.Module, layout: Layout, split: Split) -> None:
    """Layers that are held and not trained get no gradient, and where no trained layer
    is below them, nothing is kept for a backward pass."""
    parameters = dict(module.named_parameters())
    pairs = zip(layout.parameters, split.trained.segments(layout), strict=True)
    for parameter, segment in pairs:
        if parameter.name in parameters and not segment.size:
            parameters[parameter.name].requires_grad_(False)


def _leave_silent_sums_alone(module: nn.Module) -> None:
    """No scaler where a cut sum is as large as the whole one: all blocks but one begin
    silent in the whole model as well."""
    for part in module.modules():
        if isinstance(part, Width) and not part.across:
            part.factor = 1.0


def cut(read: Read, layout: Layout, split: Split) -> Iterator[np.ndarray]:
    """The split's dense array of each parameter that it has, one at a time."""
    for segment in split.segments(layout):
        if segment.size:
            yield read(segment)


def made(
    model: Model,
    arguments: Mapping[str, object],
    layout: Layout,
    split: Split,
    read: Read,
) -> nn.Module:
    """The dense module of a split with its values."""
    module = build(model, arguments, layout, split)
    load(module, cut(read, layout, split))
    return module


class SubModels:
    """The modules of one model, of which one is used at a time."""

    def __init__(
        self,
        model: Model,
        arguments: Mapping[str, object],
        layout: Layout,
        *,
        keeps: bool,
    ) -> None:
        """``keeps``: whether a module is filled anew for a split of the same shape. It
        must not remember anything but its parameters."""
        self._model, self._arguments, self._layout = model, arguments, layout
        self._keeps = keeps
        self._kept: tuple[object, nn.Module] | None = None

    def filled(self, split: Split, read: Read) -> nn.Module:
        """The module of a split with its values; the one before is over."""
        trained = split.trained.segments(self._layout)
        shape = split.sizes(), [segment.size > 0 for segment in trained]
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] == shape:
            module = kept[1]
            module.zero_grad()  # what a round has left that failed
            place(module, split)
            load(module, cut(read, self._layout, split))
        else:
            del kept  # first, so that no two of them are in memory
            module = made(self._model, self._arguments, self._layout, split, read)
        if self._keeps:
            self._kept = shape, module
        return module


@torch.no_grad()
def load(module: nn.Module, arrays: Iterable[np.ndarray]) -> None:
    """Sets the module's parameters, in order, in place."""
    for parameter, array in zip(module.parameters(), arrays, strict=True):
        # Torch refuses read-only views, as an offer's arrays are.
        values = np.require(array, np.float32, ("W",))
        parameter.copy_(torch.from_numpy(values).reshape(parameter.shape))


def extract(module: nn.Module, layout: Layout, split: Split) -> list[np.ndarray]:
    """What the module has trained: the split's array of each parameter of the layout,
    an empty one where nothing is trained; on the processor they are views."""
    tensors = dict(module.named_parameters())
    found = []
    pairs = zip(layout.parameters, split.trained.segments(layout), strict=True)
    for parameter, segment in pairs:
        if segment.size:
            array = tensors[parameter.name].detach().cpu().numpy()
            found.append(array.reshape(segment.shape))
        else:
            found.append(np.zeros(segment.shape, np.float32))
    return found


def update_sizes(
    before: Iterable[np.ndarray], after: Iterable[np.ndarray]
) -> tuple[float, float]:
    """Euclidean norm of the difference of all values, and the sum of magnitudes."""
    squares = magnitudes = 0.0
    for old, new in zip(before, after, strict=True):
        difference = (new - old).ravel()
        squares += float(np.einsum("i,i->", difference, difference, dtype=np.float64))
        magnitudes += float(np.abs(difference).sum(dtype=np.float64))
    return sqrt(squares), magnitudes
