"""The heads of self-supervised learning: what compares two views of an image.

The *projector* is three layers that read what the classifier reads, scaler included,
and give a record's *embedding*; the *predictor* is two more, which foretell from it the
embedding of another view. Only the projector's first matrix follows an axis, on its
input side. All else is whole in every sub-model, as a ``projection``'s outputs are, so
embeddings of different windows mean the same. The model argument ``head_hidden`` is the
width inside both and ``head_output`` the size of an embedding; 0 leaves both heads out,
which changes nothing about the model. ``predictor`` false leaves out the predictor
alone: SimCLR has none.

Source: the MLP heads of MoCo v3 (Chen, Xie and He, ICCV 2021).

Differs: where MoCo v3 has batch norm behind every layer, there is LayerNorm over the
hidden layers' outputs here, and nothing behind the last layer, whose outputs are made
unit vectors by every loss. Running statistics would have to be averaged between peers
that never trained them together, and statistics of a batch make a record's embedding
depend on its neighbours. Without any norm three layers with ReLU train slowly.
LayerNorm undoes any factor of what it reads, so no layer here has a scaler of its own;
its shift stands in for a layer's bias, and none has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Axis, Dimension, Initial, ParameterSpec
from p2pfusion.training.models.base import whole
from p2pfusion.training.models.cut import along, uniform
from p2pfusion.training.models.projection import Projecting

HEAD_ARGUMENTS: Mapping[str, object] = {
    "head_hidden": 0,
    "head_output": 0,
    "predictor": True,
}
"""Every argument of the heads, with the defaults that leave them out."""

NAME = "heads"

PROJECTOR = f"{NAME}.projector.layers.0.weight"
PREDICTOR = f"{NAME}.predictor.layers.0.weight"
"""By these parameters a layout shows that it has them."""


class Head(nn.Module):
    """Linear layers; LayerNorm and ReLU between them."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(*both, bias=False) for both in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes[1:-1])

    def forward(self, values: Tensor) -> Tensor:  # (B, first size) -> (B, last size)
        """What the last layer says."""
        *inner, last = self.layers
        for layer, norm in zip(inner, self.norms, strict=True):
            values = functional.relu(norm(layer(values)))
        found: Tensor = last(values)
        return found


class Heads(nn.Module):
    """A projector, and a predictor behind it if there is one."""

    def __init__(self, width: int, hidden: int, output: int, *, predicts: bool) -> None:
        super().__init__()
        self.projector = Head((width, hidden, hidden, output))
        self.predictor = Head((output, hidden, output)) if predicts else None


class Embedding(Projecting):
    """A network that may have heads; ``heads`` is the last module that it makes."""

    heads: Heads | None

    def embed(self, last: Tensor) -> Tensor:  # (B, w) -> (B, output)
        """The embedding of what ``last`` gives; only for a network with heads."""
        assert self.heads is not None
        embedded: Tensor = self.heads.projector(self.features(last))
        return embedded

    def predict(self, embedded: Tensor) -> Tensor:  # (B, output) to the same
        """What the predictor makes of embeddings; only for a network with one."""
        assert self.heads is not None and self.heads.predictor is not None
        predicted: Tensor = self.heads.predictor(embedded)
        return predicted

    @property
    def predicts(self) -> bool:
        """Whether there is a predictor."""
        return self.heads is not None and self.heads.predictor is not None


def head_layers(settled: Mapping[str, object], width: int) -> Heads | None:
    """The heads that a model's arguments ask for, on a last width of a sub-model."""
    sizes = _sizes(settled)
    if sizes is None:
        return None
    return Heads(width, *sizes, predicts=bool(settled["predictor"]))


def head_parameters(
    settled: Mapping[str, object], axis: Axis, layer: int
) -> list[ParameterSpec]:
    """Their parameters in the layout, behind all others; none without heads."""
    sizes = _sizes(settled)
    if sizes is None:
        return []
    hidden, output = map(Dimension, sizes)
    heads = {"projector": [along(axis), hidden, hidden, output]}
    if settled["predictor"]:
        heads["predictor"] = [output, hidden, output]
    return [
        spec
        for name, dimensions in heads.items()
        for spec in _head_specs(f"{NAME}.{name}", dimensions, layer)
    ]


def _head_specs(
    name: str, dimensions: Sequence[Dimension], layer: int
) -> list[ParameterSpec]:
    last = len(dimensions) - 2
    matrices = [
        ParameterSpec(
            f"{name}.layers.{number}.weight",
            (outputs, inputs),
            uniform((1 if number == last else 2) / inputs.size),
            layer,
        )
        for number, (inputs, outputs) in enumerate(pairwise(dimensions))
    ]
    norms = [
        ParameterSpec(f"{name}.norms.{number}.{what}", (size,), Initial(kind), layer)
        for number, size in enumerate(dimensions[1:-1])
        for what, kind in (("weight", "ones"), ("bias", "zeros"))
    ]
    return [*matrices, *norms]


def _sizes(settled: Mapping[str, object]) -> tuple[int, int] | None:
    """Hidden width and output, checked; None without heads."""
    hidden = whole(settled, "head_hidden", least=0)
    output = whole(settled, "head_output", least=0)
    if not isinstance(settled["predictor"], bool):
        raise ConfigError(
            f"model argument 'predictor': {settled['predictor']!r} is not true or false"
        )
    if bool(hidden) != bool(output):
        raise ConfigError(
            f"model arguments 'head_hidden' and 'head_output': {hidden} and {output}",
            hint="both are 0 for a model without heads; neither is for one with them",
        )
    return (hidden, output) if hidden else None
