"""The task objective: cross-entropy on the peer's own labels, or on its next tokens.

With ``label_mask``, the logits of classes that this peer does not have are set to 0
while it trains (HeteroFL, ICLR 2021, masked cross-entropy; docs/methods.md):
they get no gradient, so a peer does not push down classes that it has never seen. In
running text the classes are the tokens of the vocabulary.

With ``logit_adjustment`` t, t times the logarithm of how common a class is at this peer
is added to its logit while training (Menon et al., ICLR 2021, equation 10, with the
peer's own classes, as Zhang et al., ICML 2022, do for label skew). What the network
itself has to learn then is the same at every peer, however its labels are mixed, and
means of sub-models or of their logits are means of like things. A class counts one
example more than there are, so that absent ones have a logarithm.

Differs: HeteroFL also averages the classifier's rows only over clients that have the
class; here all holders of a row count, those without the class with the value that they
received (and weight decay, where it is on).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.data.records import NO_ANSWER
from p2pfusion.training.objectives.options import truth


@dataclass(frozen=True)
class TaskObjective:
    """Cross-entropy; ``absent`` marks the classes whose logits are masked, and
    ``prior`` is added to the logits."""

    absent: Tensor | None = None
    prior: Tensor | None = None

    @property
    def labelled(self) -> bool:
        """Answers are labels, or the next tokens."""
        return True

    @classmethod
    def create(
        cls,
        options: Mapping[str, object],
        class_counts: Sequence[int],
        device: torch.device,
        layout: Layout,
    ) -> TaskObjective:
        """From the manifest's options and the peer's answers per class; good for the
        layout of any model."""
        masked = truth(options, "label_mask", False)
        counts = torch.tensor(class_counts, device=device)
        objective = cls(counts == 0) if masked else cls()
        strength = options.get("logit_adjustment", 0.0)
        if not isinstance(strength, (int, float)) or isinstance(strength, bool):
            raise ConfigError(f"objective.logit_adjustment: {strength!r} is no number")
        if not strength:
            return objective
        shares = (counts + 1) / (counts + 1).sum()
        return replace(objective, prior=strength * shares.log())

    def begin(
        self, module: nn.Module, split: Split, generator: torch.Generator
    ) -> tuple[Split, ...]:
        """Nothing is remembered, and nothing runs beside the module."""
        return ()

    def after_step(self, module: nn.Module) -> None:
        """Nothing follows the module."""

    def end(self, module: nn.Module, split: Split) -> None:
        """Nothing is remembered."""

    def loss(self, module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over the batch's targets, a scalar with gradient."""
        return self.loss_of(module(inputs), targets)

    def loss_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The same of logits, (B, classes) for targets (B,), or (B, T, classes) for
        (B, T)."""
        if self.absent is not None:
            logits = logits.masked_fill(self.absent, 0.0)
        if self.prior is not None:
            logits = logits + self.prior
        return self.measure(logits.flatten(0, -2), targets.flatten())

    def measure(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of logits (N, classes) for targets (N,)."""
        return functional.cross_entropy(logits, targets, ignore_index=NO_ANSWER)
