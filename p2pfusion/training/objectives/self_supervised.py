"""Objectives without labels: two views of one image should be embedded alike.

Of each image x of a batch of B, two random views are made (``data/views.py``). With F
the sub-model up to what its classifier reads, H its projector and P its predictor
(``models/heads.py``), z = H(F(view)), q = P(z), and k = Hk(Fk(view)) of the *momentum
branch*; all of them made unit vectors.

    moco     con(q1, k2) + con(q2, k1)
             con(q, k) = mean over i of -log( e(q_i, k_i) / sum over j of e(q_i, k_j) )
    byol     mean over the batch of |q1 - k2|^2 + |q2 - k1|^2 = 4 - 2 q1.k2 - 2 q2.k1
    simclr   mean over all 2B views v of -log( e(z_v, z_v') / sum over u != v of
             e(z_v, z_u) ), v' the other view of v's image; no predictor, no momentum
             branch
    e(a, b) = exp( a.b / temperature )

The momentum branch is a copy of the sub-model as it was received when the round began.
No gradient reaches it. After every step of the optimiser Fk and Hk move,
x_k <- momentum x_k + (1 - momentum) x, and at the round's end they are thrown away.
Parameters that are not trained (``requires_grad`` False) are the same in both branches:
the copy shares them. Labels are never looked at, and the classifier learns nothing.

With ``alignment`` lambda above 0, each of these losses has

    lambda mean over all 2B views v of 1 - z_v.z0_v

more: z0 = H0(F0(view)) of another copy, which stays as it was received. A peer is so
held near what the swarm has agreed on, as the representations of MOON (Li et al., CVPR
2021) are. LW-FedSSL has such a term as an add-on (RA, table 6), whose formula is not
known to us: the form here is a reconstruction, without negatives and on the projector's
embeddings.

A batch of one image, such as the last one of an epoch may be, has nothing to tell
apart: moco and simclr then are 0 and have a gradient of exactly 0, whatever the image.
Byol and the alignment need no other images.

Sources: MoCo v3 (Chen, Xie and He, ICCV 2021, algorithm 1), BYOL (Grill et al., NeurIPS
2020, equation 2), SimCLR (Chen et al., ICML 2020, equation 1); the momentum branch that
is made afresh in every round, and ``con`` without a factor: LW-FedSSL (Tun et al.,
arXiv 2401.11647, algorithm 2, equation 2).

Differs: MoCo v3's published code multiplies its loss by 2 temperature; its momentum and
BYOL's grow to 1 over the training, and here it is constant.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import ConfigError
from p2pfusion.limits import (
    MAX_CONTRAST_TEMPERATURE,
    MAX_CONTRAST_WEIGHT,
    MIN_CONTRAST_TEMPERATURE,
    MIN_VIEW_CROP,
)
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.data.views import Recipe, two_views
from p2pfusion.training.models.heads import PREDICTOR, PROJECTOR, Embedding
from p2pfusion.training.objectives.options import number

_ALL = {**asdict(Recipe()), "alignment": 0.0}

DEFAULTS: dict[str, dict[str, float]] = {
    "byol": {"momentum": 0.99, **_ALL},
    "moco": {"temperature": 0.2, "momentum": 0.99, **_ALL},
    "simclr": {"temperature": 0.5, **_ALL},
}
"""Every option of every such objective, with its default."""

_BOUNDS = {
    "momentum": (0.0, 1.0),
    "temperature": (MIN_CONTRAST_TEMPERATURE, MAX_CONTRAST_TEMPERATURE),
    "crop": (MIN_VIEW_CROP, 1.0),
    "solarize": (0.0, 1.0),
    "alignment": (0.0, MAX_CONTRAST_WEIGHT),
}


class SelfSupervised:
    """What all of them share: two views of every image, and no labels."""

    name = ""
    needs_predictor = False

    def __init__(self, settings: Mapping[str, float]) -> None:
        """``settings``: a value for every option."""
        self._settings = settings
        self._recipe = Recipe(settings["crop"], settings["solarize"])
        self._generator = torch.Generator()
        self.received: Embedding | None = None
        """The sub-model as it was received, during a round that aligns with it."""

    @classmethod
    def create(
        cls,
        options: Mapping[str, object],
        class_counts: Sequence[int],
        device: torch.device,
        layout: Layout,
    ) -> Self:
        """From the manifest's options; ``ConfigError`` for a model without heads."""
        names = {parameter.name for parameter in layout.parameters}
        if PROJECTOR not in names:
            raise _no_heads(cls.name)
        if cls.needs_predictor and PREDICTOR not in names:
            raise _no_predictor(cls.name)
        settings = {
            key: number(options, key, *_BOUNDS[key], default)
            for key, default in DEFAULTS[cls.name].items()
        }
        return cls(settings)

    @property
    def absent(self) -> None:
        """No class is treated in another way than the others."""
        return None

    @property
    def labelled(self) -> bool:
        """Never."""
        return False

    def begin(
        self, module: nn.Module, split: Split, generator: torch.Generator
    ) -> tuple[Split, ...]:
        """A round begins: its views come from this generator. Copies the sub-model as
        it was received, if the round aligns with it."""
        if not isinstance(module, Embedding) or module.heads is None:
            raise _no_heads(self.name)
        if self.needs_predictor and not module.predicts:
            raise _no_predictor(self.name)
        self._generator = generator
        aligns = self._settings["alignment"] > 0
        self.received = frozen_copy(module) if aligns else None
        return (split,) if aligns else ()

    def loss(self, module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of two new views of every image, a scalar with gradient."""
        assert isinstance(module, Embedding)
        views = two_views(inputs, self._generator, self._recipe)
        return self.loss_of(module, views)

    def loss_of(self, module: Embedding, views: Tensor) -> Tensor:
        """The same of views (2B, C, H, W), as ``two_views`` orders them."""
        embedded = module.embed(module.last(views))
        loss = self.compared(self.answers(module, embedded), views)
        if self.received is None:
            return loss
        apart = misalignment(embedded, embeddings(self.received, views))
        return loss + self._settings["alignment"] * apart

    def compared(self, answers: Tensor, views: Tensor) -> Tensor:
        """The objective's own loss of what the trained branch makes of views."""
        raise NotImplementedError

    def online(self, module: Embedding, views: Tensor) -> Tensor:
        """What the trained branch makes of views."""
        return self.answers(module, module.embed(module.last(views)))

    def answers(self, module: Embedding, embedded: Tensor) -> Tensor:
        """What it makes of its embeddings."""
        return embedded

    @property
    def copies(self) -> tuple[Embedding, ...]:
        """What runs beside the trained branch on all views, without gradients."""
        return () if self.received is None else (self.received,)

    def after_step(self, module: nn.Module) -> None:
        """Nothing follows the module."""

    def end(self, module: nn.Module, split: Split) -> None:
        """The round is over, and nothing is remembered."""
        self.received = None


class SimclrObjective(SelfSupervised):
    """SimCLR's loss: every view against all others of the batch."""

    name = "simclr"

    def compared(self, answers: Tensor, views: Tensor) -> Tensor:
        """Of the embeddings of both views."""
        return nt_xent(answers, self._settings["temperature"])


class TwoBranches(SelfSupervised):
    """Predictions of the one view against the momentum branch's embeddings of the
    other."""

    needs_predictor = True

    def __init__(self, settings: Mapping[str, float]) -> None:
        """``settings``: a value for every option."""
        super().__init__(settings)
        self.branch: Embedding | None = None
        """The momentum branch, from a round's beginning to its end."""

    def begin(
        self, module: nn.Module, split: Split, generator: torch.Generator
    ) -> tuple[Split, ...]:
        """A round begins: the momentum branch is the sub-model as it was received."""
        beside = super().begin(module, split, generator)
        assert isinstance(module, Embedding)
        self.branch = frozen_copy(module)
        return (split, *beside)

    def compared(self, answers: Tensor, views: Tensor) -> Tensor:
        """Symmetric: each view foretells the other."""
        assert self.branch is not None
        queries, later_queries = answers.chunk(2)
        keys, later_keys = embeddings(self.branch, views).chunk(2)
        return self.compare(queries, later_keys) + self.compare(later_queries, keys)

    def answers(self, module: Embedding, embedded: Tensor) -> Tensor:
        """What is foretold of the other view."""
        return module.predict(embedded)

    @property
    def copies(self) -> tuple[Embedding, ...]:
        """The momentum branch first."""
        return super().copies if self.branch is None else (self.branch, *super().copies)

    def compare(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The loss of predictions (B, E) that should be the embeddings (B, E)."""
        raise NotImplementedError

    @torch.no_grad()
    def after_step(self, module: nn.Module) -> None:
        """The momentum branch follows what has been trained."""
        assert self.branch is not None
        momentum = self._settings["momentum"]
        pairs = zip(self.branch.parameters(), module.parameters(), strict=True)
        for slow, fast in pairs:
            if fast.requires_grad:
                slow.mul_(momentum).add_(fast, alpha=1 - momentum)

    def end(self, module: nn.Module, split: Split) -> None:
        """The round is over, and the momentum branch with it."""
        super().end(module, split)
        self.branch = None


class MocoObjective(TwoBranches):
    """MoCo v3's loss: the other images of the batch are the negatives."""

    name = "moco"

    def compare(self, queries: Tensor, keys: Tensor) -> Tensor:
        """InfoNCE."""
        return info_nce(queries, keys, self._settings["temperature"])


class ByolObjective(TwoBranches):
    """BYOL's loss: there are no negatives."""

    name = "byol"

    def compare(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Mean squared distance of unit vectors."""
        return (2 - 2 * functional.cosine_similarity(queries, keys)).mean()


def frozen_copy(module: Embedding) -> Embedding:
    """A copy of a sub-model that takes no gradients. What is not trained is shared."""
    shared = {id(p): p for p in module.parameters() if not p.requires_grad}
    return copy.deepcopy(module, shared).requires_grad_(False)


@torch.no_grad()
def embeddings(copied: Embedding, views: Tensor) -> Tensor:
    """What such a copy makes of views: (2B, E)."""
    return copied.embed(copied.last(views))


def misalignment(own: Tensor, received: Tensor) -> Tensor:
    """Mean of one minus the cosine of embeddings (2B, E) of the same views."""
    return 1 - functional.cosine_similarity(own, received).mean()


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """``con`` of predictions (B, E) and embeddings (B, E)."""
    queries, keys = (functional.normalize(each, dim=1) for each in (queries, keys))
    scores = queries @ keys.T / temperature
    own = torch.arange(len(scores), device=scores.device)
    return functional.cross_entropy(scores, own)


def nt_xent(embeddings: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss of embeddings (2B, E): first views, then second ones."""
    units = functional.normalize(embeddings, dim=1)
    count = len(units)
    itself = torch.eye(count, dtype=torch.bool, device=units.device)
    scores = (units @ units.T / temperature).masked_fill(itself, -torch.inf)
    other = torch.arange(count, device=units.device).roll(count // 2)
    return functional.cross_entropy(scores, other)


def _no_heads(name: str) -> ConfigError:
    return ConfigError(
        f"the objective {name!r} needs a model with heads",
        hint="set the model arguments head_hidden and head_output, for example to 128 "
        "and 64; vit has them",
    )


def _no_predictor(name: str) -> ConfigError:
    return ConfigError(
        f"the objective {name!r} needs a model with a predictor",
        hint="leave the model argument predictor at true",
    )
