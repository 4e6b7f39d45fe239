"""What a model of the swarm must offer, and what the models here share.

A model is a value with four things: its default arguments, the arguments that data of a
given shape asks for, its layout, and the dense module for any widths of its axes. The
contract (tests/contracts/test_models.py): the module's parameters have the names, the
order and, for any split, the shapes that the layout gives; and the small module, told
which indices it has (``place``), computes what the full one computes with every other
hidden unit silenced. A model that can do without its last layers says so:
``is_deep = True``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.split.indices import IndexSet
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.traits import Traits

MAX_WIDTH = 1 << 16
"""Units of one hidden width, from a manifest that somebody else may have written."""

MAX_LAYERS = 256
"""Hidden layers, for the same reason."""

ROOMY = ("classes", "vocabulary", "length")
"""Arguments that may be larger than the data needs: the rest is never used."""


class Model(Protocol):
    """A model of the table: a pure function from arguments to layout and module."""

    @property
    def defaults(self) -> Mapping[str, object]:
        """Every argument with its default."""
        ...

    def suited(self, traits: Traits) -> dict[str, object]:
        """The arguments that such data needs; ``DataError`` for a task it is not for.

        ``classes`` is among them: how many logits there are.
        """
        ...

    def layout(self, arguments: Mapping[str, object]) -> Layout:
        """The full model's axes and parameters; ``ConfigError`` names the argument."""
        ...

    def build(
        self, arguments: Mapping[str, object], sizes: Mapping[str, int]
    ) -> nn.Module:
        """The dense module with these widths per axis, values not yet meaningful."""
        ...


def is_deep(model: Model) -> bool:
    """Whether a model can do without its last layers."""
    return bool(getattr(model, "is_deep", False))


def held(model: Model, arguments: Mapping[str, object]) -> list[str]:
    """What of a traced model is whole in every sub-model, each with the reason."""
    found = getattr(model, "held", None)
    return [] if found is None else list(found(arguments))


def statistics(model: Model, arguments: Mapping[str, object]) -> frozenset[str]:
    """Parameters of a traced model that are measured: running means and variances."""
    found = getattr(model, "statistics", None)
    return frozenset() if found is None else frozenset(found(arguments))


class Width(nn.Module):
    """Marks the activations of one axis, and keeps their sum's scale when it is cut.

    A layer without a norm after it sums over its inputs; with w of K inputs present the
    sum is multiplied by K / w (HeteroFL's scaler, ICLR 2021, applied to its inputs).
    Where a norm follows, ``scaled`` is False, because the norm undoes any factor.
    ``dim``: the dimension of the activations that follows the axis. ``across``: what
    reads them sums over all blocks of the axis, also in a model that begins silent
    between them; elsewhere a sum over one block is then as large as the whole.
    """

    def __init__(
        self,
        axis: str,
        *,
        size: int,
        full_size: int,
        scaled: bool,
        dim: int = 1,
        across: bool = False,
    ) -> None:
        super().__init__()
        self.axis = axis
        self.dim = dim
        self.across = across
        self.scaled = scaled
        self.full_size = full_size
        self.factor = full_size / size if scaled else 1.0

    def forward(self, activations: Tensor) -> Tensor:  # (B, w, ...)
        """The activations, times the factor."""
        return activations if self.factor == 1.0 else activations * self.factor

    def place(self, indices: IndexSet) -> None:
        """Which of the axis' indices these are; nothing to most, who read them all."""


class Located(nn.Module):
    """A module that needs to know all indices of its split at once."""

    def locate(self, split: Split) -> None:
        """Which indices it has."""
        raise NotImplementedError


def place(module: nn.Module, split: Split) -> None:
    """Tells the parts of a sub-model where in the whole model they stand.

    A width that is no axis of the layout is whole in every sub-model.
    """
    if isinstance(module, Located):
        module.locate(split)
    indices = dict(split.sets)
    for part in module.modules():
        if isinstance(part, Width) and part.axis in indices:
            part.place(indices[part.axis])


def settle(model: Model, arguments: Mapping[str, object]) -> dict[str, object]:
    """All arguments of the model: the given ones and the defaults of the others."""
    for key in arguments:
        if key not in model.defaults:
            close = difflib.get_close_matches(key, model.defaults, 1)
            raise ConfigError(
                f"model argument {key!r} is unknown",
                hint=f"did you mean {close[0]!r}?"
                if close
                else f"known: {', '.join(model.defaults)}",
            )
    return {**model.defaults, **arguments}


def check_fit(model: Model, arguments: Mapping[str, object], traits: Traits) -> None:
    """``DataError`` if the data does not fit the model. More room than needed does."""
    settled = settle(model, arguments)
    for key, needed in model.suited(traits).items():
        have = settled[key]
        enough = key in ROOMY and isinstance(have, int) and have >= needed  # type: ignore[operator]
        if have != needed and not enough:
            raise DataError(
                f"the data needs the model argument {key} = {needed}, the model has "
                f"{have}",
                hint="use other data, or found the swarm with that argument",
            )


def image_shape(traits: Traits, model: str) -> tuple[int, int, int]:
    """(C, H, W) of the images that a model shall be for; ``DataError`` for others."""
    check_task(traits, "image", model)
    channels, height, width = traits.shape
    return channels, height, width


def check_task(traits: Traits, task: str, model: str) -> None:
    """``DataError`` if the data is for another task than the model."""
    if traits.task != task:
        raise DataError(
            f"model {model!r} is for data of the kind {task!r}, and this data is of "
            f"the kind {traits.task!r}",
            hint="choose a model for that kind of data",
        )


def check_group(width: int, group: int, argument: str) -> None:
    """``ConfigError`` if a width is not made of whole norm groups."""
    if width % group:
        raise ConfigError(
            f"model argument {argument!r}: {width} is not a multiple of the norm "
            f"group, {group} channels",
            hint="choose multiples of group, or another group",
        )


def whole(
    arguments: Mapping[str, object], key: str, most: int = MAX_WIDTH, *, least: int = 1
) -> int:
    """A whole number, positive unless told; ``ConfigError`` names the argument."""
    value = arguments[key]
    good = isinstance(value, int) and not isinstance(value, bool)
    if not good or not least <= value <= most:  # type: ignore[operator]
        raise ConfigError(
            f"model argument {key!r}: {value!r} is not a whole number from {least} "
            f"to {most}"
        )
    return int(value)  # type: ignore[call-overload, no-any-return]


def wholes(
    arguments: Mapping[str, object], key: str, most: int = MAX_WIDTH
) -> tuple[int, ...]:
    """A list of positive whole numbers; ``ConfigError`` names the argument."""
    values = arguments[key]
    if not isinstance(values, (list, tuple)) or not 1 <= len(values) <= MAX_LAYERS:
        raise ConfigError(
            f"model argument {key!r}: {values!r} is not a list of whole numbers",
            hint="one number per hidden layer, for example [128, 128]",
        )
    return tuple(whole({key: value}, key, most) for value in values)


def cut_width(
    sizes: Mapping[str, int], axis: str, full_size: int, unit: int = 1
) -> int:
    """The width of an axis in a sub-model; ``ConfigError`` if it cannot be built."""
    width = sizes[axis]
    if not 0 < width <= full_size or width % unit:
        raise ConfigError(
            f"axis {axis!r} cannot be cut to {width} of {full_size}: it is not a "
            f"positive multiple of {unit}"
        )
    return width
