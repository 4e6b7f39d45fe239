"""How much memory tensors take while something runs, operator by operator.

Every operator that torch dispatches is seen, in the backward pass as well, and every
block of memory that its results lie in is counted from then on until nothing refers to
it. What a kernel takes and gives back by itself is not seen, and only counted where it
is large: convolutions on the processor compute on copies in a layout of their own.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from p2pfusion.training.uncompiled import Uncompiled


class Ledger(Uncompiled):
    """Counts what is allocated inside, and is still alive, after every operator."""

    def __init__(self, device: torch.device | None = None) -> None:
        """``device``: count what is there alone."""
        super().__init__()
        self._device = device
        self.bytes = 0
        self.timeline: list[int] = []
        """Bytes after each operator."""
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        given = {_key(each) for each in tree_leaves((args, kwargs)) if _is_real(each)}
        found = func(*args, **(kwargs or {}))
        for each in tree_leaves(found):
            if _is_real(each) and _key(each) not in given:
                self._add(each)
        self.timeline.append(self.bytes + _scratch(func, args, found))
        return found

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        elsewhere = self._device is not None and tensor.device != self._device
        if key in self._known or elsewhere:
            return
        self._known.add(key)
        self.bytes += storage.nbytes()
        weakref.finalize(storage, self._remove, key, storage.nbytes())

    def _remove(self, key: int, size_bytes: int) -> None:
        self._known.discard(key)
        self.bytes -= size_bytes


_CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten.convolution_backward)


def _scratch(
    func: torch._ops.OpOverload, args: tuple[object, ...], found: object
) -> int:
    """Bytes that a kernel has beside its arguments and results: of a convolution, what
    comes in and what goes out, once more."""
    if func.overloadpacket not in _CONVOLUTIONS:
        return 0
    first, second = args[0], args[1]
    if func.overloadpacket is _CONVOLUTIONS[0]:
        second = found
    assert isinstance(first, Tensor) and isinstance(second, Tensor)
    if first.device.type != "cpu":
        return 0
    return first.nbytes + second.nbytes


def _is_real(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
