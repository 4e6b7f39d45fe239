"""Stochastic gradient descent with momentum, weight decay and gradient clipping.

Differs from ``torch.optim.SGD`` in nothing but cost: constructing a torch optimiser
imports torch's compiler, which takes a second or two and 70 MB in every trainer
process. The update is the same, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from p2pfusion.errors import ConfigError


@dataclass(frozen=True)
class Optimiser:
    """The optimiser settings of the manifest."""

    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float | None = 1.0
    """Largest norm of the gradient of all parameters together; None or 0: no limit."""

    @classmethod
    def from_data(cls, data: Mapping[str, object]) -> Optimiser:
        """From plain data; ``ConfigError`` names the key."""
        unknown = set(data) - {"momentum", "weight_decay", "clip"}
        if unknown:
            raise ConfigError(f"optimiser.{min(unknown)}: unknown key")
        clip = data.get("clip", 1.0)
        return cls(
            _number(data.get("momentum", 0.9), "momentum", below=1.0),
            _number(data.get("weight_decay", 0.0), "weight_decay"),
            None if clip is None else _number(clip, "clip"),
        )


def _number(value: object, key: str, below: float = float("inf")) -> float:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not 0 <= value < below:  # type: ignore[operator]
        raise ConfigError(f"optimiser.{key}: {value!r} is not a number in [0, {below})")
    return float(value)  # type: ignore[arg-type]


class Descent:
    """One round's optimiser state: a momentum buffer per parameter."""

    def __init__(self, parameters: Sequence[Tensor], settings: Optimiser) -> None:
        self._parameters = list(parameters)
        self._settings = settings
        self._velocities: list[Tensor] | None = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Moves the parameters along their gradients, then forgets the gradients."""
        settings = self._settings
        gradients = [_gradient(parameter) for parameter in self._parameters]
        if settings.clip:
            torch.nn.utils.clip_grad_norm_(self._parameters, settings.clip)
        if settings.weight_decay:
            torch._foreach_add_(
                gradients, self._parameters, alpha=settings.weight_decay
            )
        if settings.momentum:
            gradients = self._accelerated(gradients)
        torch._foreach_add_(self._parameters, gradients, alpha=-learning_rate)
        for parameter in self._parameters:
            parameter.grad = None

    def _accelerated(self, gradients: list[Tensor]) -> list[Tensor]:
        if self._velocities is None:
            # The first gradients become the buffers: step() lets go of them anyway.
            self._velocities = gradients
        else:
            torch._foreach_mul_(self._velocities, self._settings.momentum)
            torch._foreach_add_(self._velocities, gradients)
        return self._velocities


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
