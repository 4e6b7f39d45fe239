"""Models of one's own: a function that builds an ordinary module, traced.

``package.module:function`` is called with those of the model's arguments that it names,
and returns an ``nn.Module`` that takes one batch of records and gives logits. What data
asks of a model (``TRAITS``) is always among the arguments, because a module is traced
with records like those of the data; a function that wants to know ``classes`` or
``shape`` has a parameter of that name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Layout
from p2pfusion.training.models.base import settle, whole, wholes
from p2pfusion.training.outside import MODEL, foreign_code, lacking, parameters
from p2pfusion.training.tracing import Trace, trace
from p2pfusion.training.traits import TASKS, Traits

Builder = Callable[..., object]

TRAITS: Mapping[str, object] = {
    "task": "image",
    "shape": [1, 8, 8],
    "length": 0,
    "classes": 10,
    "vocabulary": 0,
}
"""What data asks of a model, with the values of the digits that ship with the package.
``shape``: of an image, (C, H, W), else empty; ``length``: of a text, in tokens, else 0;
``classes``: how many logits there are; ``vocabulary``: tokens are below it."""

SEED = 0
"""Of the values that a module is built with: they give the layout's rules for initial
values, and must be the same wherever it is built."""

RECORDS = 3
"""Records of the batch that is traced: more than one, which would be broadcast."""


@dataclass(frozen=True)
class Own:
    """A model of the contract in ``base.py``, from a function of its owner."""

    name: str
    builder: Builder
    is_deep: ClassVar[bool] = False
    _traces: dict[str, Trace] = field(default_factory=dict, compare=False)

    @property
    def defaults(self) -> Mapping[str, object]:
        """What data asks for, and what the function has defaults for."""
        known = parameters(MODEL, self.name, self.builder)
        missing = lacking(known, TRAITS)
        if missing is not None:
            raise ConfigError(
                f"model {self.name!r}: its parameter {missing!r} has no default",
                hint=f"give it one, or call it one of: {', '.join(TRAITS)}",
            )
        own = {
            name: each.default
            for name, each in known.items()
            if each.default is not each.empty
        }
        return {**own, **TRAITS}

    def suited(self, traits: Traits) -> dict[str, object]:
        """What such data is like."""
        is_image = traits.task == "image"
        return {
            "task": traits.task,
            "shape": list(traits.shape) if is_image else [],
            "length": 0 if is_image else traits.shape[0],
            "classes": traits.classes,
            "vocabulary": traits.vocabulary,
        }

    def layout(self, arguments: Mapping[str, object]) -> Layout:
        """Found by tracing; ``ConfigError`` says in one line why it cannot be."""
        return self.trace(arguments).layout

    def build(
        self, arguments: Mapping[str, object], sizes: Mapping[str, int]
    ) -> nn.Module:
        """The dense module with these widths."""
        return self.trace(arguments).build(sizes)

    def held(self, arguments: Mapping[str, object]) -> list[str]:
        """What is whole in every sub-model, each with the reason."""
        return [str(each) for each in self.trace(arguments).held]

    def statistics(self, arguments: Mapping[str, object]) -> frozenset[str]:
        """Running means and variances, which no gradient trains."""
        return self.trace(arguments).statistics

    def trace(self, arguments: Mapping[str, object]) -> Trace:
        """The trace for these arguments, made once in a process."""
        settled = settle(self, arguments)
        key = json.dumps(settled, sort_keys=True)
        if key not in self._traces:
            self._traces[key] = self._traced(settled)
        return self._traces[key]

    def _traced(self, settled: Mapping[str, object]) -> Trace:
        example = _example(settled)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            try:
                found = trace(self._module(settled), example)
            except ConfigError as error:
                text = f"model {self.name!r}: {error.message}"
                raise ConfigError(text, hint=error.hint) from error
        places = example.shape[1:] if settled["task"] == "language" else ()
        wanted = (*places, settled["classes"])
        if found.shape != wanted:
            raise ConfigError(
                f"model {self.name!r}: the logits of one record have the shape "
                f"{found.shape}, and the data needs {wanted}",
                hint="a parameter named classes is told how many there are",
            )
        return found

    def _module(self, settled: Mapping[str, object]) -> nn.Module:
        known = parameters(MODEL, self.name, self.builder)
        with foreign_code("it cannot be built"):
            module = self.builder(**{name: settled[name] for name in known})
        if not isinstance(module, nn.Module):
            raise ConfigError(f"it gives {type(module).__name__}, not an nn.Module")
        return module


def _example(settled: Mapping[str, object]) -> Tensor:
    """Some records like those of the data, drawn."""
    task = settled["task"]
    if task not in TASKS:
        raise ConfigError(
            f"model argument 'task': {task!r} is none of {', '.join(TASKS)}"
        )
    if task == "image":
        shape = wholes(settled, "shape")
        if len(shape) != TASKS["image"]:
            raise ConfigError(
                f"model argument 'shape': {list(shape)} is not channels, height, width"
            )
        return torch.randn(RECORDS, *shape)
    length, tokens = whole(settled, "length"), whole(settled, "vocabulary", 1 << 20)
    return torch.randint(tokens, (RECORDS, length))
