"""LoRA, for comparison: a network whose linear maps get additions of low rank.

Source: Hu et al., arXiv 2106.09685, on every linear map. This is a package of its own
that adds a model to p2pfusion by an entry point, as anybody's would: ``transformer``,
whose layout has two small matrices more for each linear map. They lie in the model's
last layer, so ``layer-finetune`` with no block trained trains them, with the last norm,
and the swarm averages the two factors each (as in FedIT, arXiv 2305.05644; Differs from
training with the sum of their products, which has no factors of that rank).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from p2pfusion.split.layout import Dimension, Initial, Layout, ParameterSpec
from p2pfusion.training.models import MODELS
from p2pfusion.training.models.base import Model, whole
from p2pfusion.training.models.cut import uniform
from p2pfusion.training.traits import Traits

HEADS = ("classifier", "projection")
"""Linear maps that are trained as they are."""


class LoRA(nn.Module):
    """A network, and an addition of low rank for each of its linear maps.

    Parameters have the network's names, then the additions'.
    """

    def __init__(self, network: nn.Module, rank: int) -> None:
        super().__init__()
        self.network = network
        self.additions = nn.ModuleList()
        self._by_weight: dict[int, nn.Module] = {}
        for name, part in network.named_modules():
            if isinstance(part, nn.Linear) and name not in HEADS:
                down = nn.Linear(part.in_features, rank, bias=False)
                up = nn.Linear(rank, part.out_features, bias=False)
                nn.init.zeros_(up.weight)
                addition = nn.Sequential(down, up)
                self.additions.append(addition)
                self._by_weight[id(part.weight)] = addition

    def forward(self, inputs: Tensor) -> Tensor:
        """The network's, with the additions."""
        with _Adding(self._by_weight):
            outputs: Tensor = self.network(inputs)
        return outputs

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """The network's own come under the names that they have in it."""
        for name, parameter in super().named_parameters(
            prefix, recurse, remove_duplicate
        ):
            yield name.removeprefix("network."), parameter


class _Adding(TorchFunctionMode):
    """Adds to what the linear maps of some weights give, wherever they are called."""

    def __init__(self, additions: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self._additions = additions

    def __torch_function__(
        self,
        func: Callable[..., Tensor],
        types: object,
        args: tuple[Tensor, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Tensor:
        result = func(*args, **(kwargs or {}))
        if func is functional.linear and id(args[1]) in self._additions:
            return result + self._additions[id(args[1])](args[0])
        return result


@dataclass(frozen=True)
class WithLoRA:
    """A model of the table with additions; argument ``rank``, 0 for none."""

    base: Model
    is_deep: ClassVar[bool] = True

    @property
    def defaults(self) -> Mapping[str, object]:
        """The base's arguments, and the rank."""
        return {**self.base.defaults, "rank": 8}

    def suited(self, traits: Traits) -> dict[str, object]:
        """What the base needs for such data."""
        return self.base.suited(traits)

    def layout(self, arguments: Mapping[str, object]) -> Layout:
        """The base's, and the additions in its last layer; widths cannot be cut."""
        own, rank = self._split(arguments)
        layout = self.base.layout(own)
        sizes = {axis.name: axis.size for axis in layout.axes}
        network = LoRA(self.base.build(own, sizes), rank)
        last = layout.layers[-1]
        additions = (
            ParameterSpec(
                f"additions.{name}",
                tuple(Dimension(size) for size in parameter.shape),
                uniform(1 / parameter.shape[1]) if ".0." in name else Initial("zeros"),
                last,
            )
            for name, parameter in _of_additions(network)
        )
        fixed = (
            ParameterSpec(
                p.name, tuple(Dimension(n) for n in p.shape), p.initial, p.layer
            )
            for p in layout.parameters
        )
        return Layout((), (*fixed, *additions))

    def build(
        self, arguments: Mapping[str, object], sizes: Mapping[str, int]
    ) -> nn.Module:
        """The whole network: it has no axes."""
        own, rank = self._split(arguments)
        full = {axis.name: axis.size for axis in self.base.layout(own).axes}
        return LoRA(self.base.build(own, full), rank)

    def _split(self, arguments: Mapping[str, object]) -> tuple[dict[str, object], int]:
        own = {**self.defaults, **arguments}
        return own, whole({"rank": own.pop("rank")}, "rank")


def _of_additions(network: LoRA) -> Iterator[tuple[str, nn.Parameter]]:
    """Two matrices for each linear map: "3.0.weight" goes down, "3.1.weight" up."""
    return network.additions.named_parameters()


TRANSFORMER_LORA = WithLoRA(MODELS["transformer"])
