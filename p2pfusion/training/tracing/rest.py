"""What a module's state dictionary has beside the parameters of its layout.

A layout has every parameter once, under its first name. A file that the module itself
can load needs the other names of tied ones, too, and the buffers that it keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Rest:
    """Other names of parameters, by the name in the layout, and buffers."""

    tied: Mapping[str, str]
    buffers: Mapping[str, Tensor]


def rest_of(module: nn.Module, names: Iterable[str]) -> Rest:
    """All of the state dictionary but what has these names."""
    known = {**dict(module.named_buffers()), **dict(module.named_parameters())}
    first = {id(known[name]): name for name in names}
    tied, buffers = {}, {}
    for name, value in module.state_dict(keep_vars=True).items():
        owner = first.get(id(value))
        if owner is None and isinstance(value, Tensor):
            buffers[name] = value.detach().clone().contiguous()
        elif owner is not None and owner != name:
            tied[name] = owner
    return Rest(tied, buffers)
