"""Steps of training: ``sgd`` with momentum, or ``adamw``; both clip and decay.

Differ from ``torch.optim.SGD`` and ``AdamW`` in nothing but cost: constructing a torch
optimiser imports torch's compiler, which takes a second or two and 70 MB in every
trainer process. The updates are the same, and a test compares them.

A *proximal* term holds what is trained near what the round began with (FedProx: Li et
al., MLSys 2020, equation 2): with the values w0 of the beginning, the local loss has
(mu / 2) |w - w0|^2 more. Its gradient mu (w - w0) is added to the parameters' own where
a step is taken, before anything is clipped; no graph is built for it, and the loss that
training tells of is without it.

*Relative clipping* bounds the norm of each parameter's gradient by a part of the norm
of the parameter itself, so that small and large tensors, and narrow sub-models and wide
ones, move alike (adaptive gradient clipping: Brock et al., ICML 2021, equation 3; for
each unit there, for each tensor here). It comes before the bound on all gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import sqrt

import torch
from torch import Tensor

from p2pfusion.errors import ConfigError

RULES = ("sgd", "adamw")
SQUARES_DECAY, TINY = 0.999, 1e-8
"""Adam's second coefficient, and what keeps its quotient finite: the usual ones."""

LEAST_ROOT_MEAN_SQUARE = 1e-3
"""What relative clipping takes a smaller tensor's elements for, or biases that begin as
zero would stay there: the paper's epsilon."""


@dataclass(frozen=True)
class Optimiser:
    """The optimiser settings of the manifest."""

    momentum: float = 0.9
    """Of ``adamw``, its first coefficient."""
    weight_decay: float = 0.0
    clip: float | None = 1.0
    """Largest norm of the gradient of all parameters together; None or 0: no limit."""
    rule: str = "sgd"
    proximal: float = 0.0
    """mu: how strongly parameters are held where they began; 0: not at all."""
    clip_relative: float = 0.0
    """Largest norm of one parameter's gradient, in the parameter's own; 0: no limit."""

    @classmethod
    def from_data(cls, data: Mapping[str, object]) -> Optimiser:
        """From plain data; ``ConfigError`` names the key."""
        known = {each.name for each in fields(cls)}
        unknown = set(data) - known
        if unknown:
            raise ConfigError(f"optimiser.{min(unknown)}: unknown key")
        clip, rule = data.get("clip", 1.0), data.get("rule", "sgd")
        if rule not in RULES:
            raise ConfigError(f"optimiser.rule: {rule!r} is none of {', '.join(RULES)}")
        return cls(
            _number(data.get("momentum", 0.9), "momentum", below=1.0),
            _number(data.get("weight_decay", 0.0), "weight_decay"),
            None if clip is None else _number(clip, "clip"),
            str(rule),
            _number(data.get("proximal", 0.0), "proximal"),
            _number(data.get("clip_relative", 0.0), "clip_relative"),
        )


def _number(value: object, key: str, below: float = float("inf")) -> float:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not 0 <= value < below:  # type: ignore[operator]
        raise ConfigError(f"optimiser.{key}: {value!r} is not a number in [0, {below})")
    return float(value)  # type: ignore[arg-type]


class Descent:
    """One round's optimiser state: one buffer per parameter, two with ``adamw``, and
    one more for the values of the beginning where these hold the parameters back."""

    def __init__(self, parameters: Sequence[Tensor], settings: Optimiser) -> None:
        self._parameters = list(parameters)
        self._settings = settings
        self._velocities: list[Tensor] | None = None
        self._squares: list[Tensor] = []
        self._steps = 0
        self._begun: list[Tensor] = []
        if settings.proximal:
            self._begun = [each.detach().clone() for each in parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Moves the parameters along their gradients, then forgets the gradients."""
        settings = self._settings
        gradients = [_gradient(parameter) for parameter in self._parameters]
        if settings.proximal:
            self._hold_back(gradients)
        if settings.clip_relative:
            self._clip_each(gradients)
        if settings.clip:
            torch.nn.utils.clip_grad_norm_(self._parameters, settings.clip)
        self._steps += 1
        if settings.rule == "adamw":
            self._adamw(gradients, learning_rate)
        else:
            self._sgd(gradients, learning_rate)
        for parameter in self._parameters:
            parameter.grad = None

    def _hold_back(self, gradients: list[Tensor]) -> None:
        # One after the other: differences of all would be one more copy of them.
        for gradient, parameter, begun in zip(
            gradients, self._parameters, self._begun, strict=True
        ):
            gradient.add_(parameter - begun, alpha=self._settings.proximal)

    def _clip_each(self, gradients: list[Tensor]) -> None:
        for gradient, parameter in zip(gradients, self._parameters, strict=True):
            least = LEAST_ROOT_MEAN_SQUARE * sqrt(parameter.numel())
            allowed = self._settings.clip_relative * parameter.norm().clamp(min=least)
            gradient.mul_((allowed / gradient.norm().clamp(min=TINY)).clamp(max=1.0))

    def _sgd(self, gradients: list[Tensor], learning_rate: float) -> None:
        settings = self._settings
        if settings.weight_decay:
            torch._foreach_add_(
                gradients, self._parameters, alpha=settings.weight_decay
            )
        if settings.momentum:
            gradients = self._accelerated(gradients)
        torch._foreach_add_(self._parameters, gradients, alpha=-learning_rate)

    def _accelerated(self, gradients: list[Tensor]) -> list[Tensor]:
        if self._velocities is None:
            # The first gradients become the buffers: step() lets go of them anyway.
            self._velocities = gradients
        else:
            torch._foreach_mul_(self._velocities, self._settings.momentum)
            torch._foreach_add_(self._velocities, gradients)
        return self._velocities

    def _adamw(self, gradients: list[Tensor], learning_rate: float) -> None:
        """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""
        settings = self._settings
        if self._velocities is None:
            self._velocities = [torch.zeros_like(each) for each in gradients]
            self._squares = [torch.zeros_like(each) for each in gradients]
        torch._foreach_lerp_(self._velocities, gradients, 1 - settings.momentum)
        torch._foreach_mul_(self._squares, SQUARES_DECAY)
        torch._foreach_addcmul_(
            self._squares, gradients, gradients, value=1 - SQUARES_DECAY
        )
        if settings.weight_decay:
            keep = 1 - learning_rate * settings.weight_decay
            torch._foreach_mul_(self._parameters, keep)
        # Both means start at zero; the corrections undo that.
        first = 1 - settings.momentum**self._steps
        second = 1 - SQUARES_DECAY**self._steps
        roots = torch._foreach_sqrt(self._squares)
        torch._foreach_div_(roots, sqrt(second))
        torch._foreach_add_(roots, TINY)
        torch._foreach_addcdiv_(
            self._parameters, self._velocities, roots, value=-learning_rate / first
        )


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
