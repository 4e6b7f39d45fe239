"""Training in less memory: activations computed again, batches in parts, bfloat16."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from p2pfusion.errors import ConfigError
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split
from p2pfusion.training.cost import saved_activation_bytes
from p2pfusion.training.data import DataOptions, load
from p2pfusion.training.data.records import NO_ANSWER
from p2pfusion.training.descent import Optimiser
from p2pfusion.training.description import describe
from p2pfusion.training.devices import PRECISIONS, computing_in, find_device
from p2pfusion.training.loop import Schedule, batch_generator, evaluate, train_round
from p2pfusion.training.models import find_model
from p2pfusion.training.models.own import Own
from p2pfusion.training.objectives import create_objective
from p2pfusion.training.recomputing import recomputing
from p2pfusion.training.setup import Setup
from p2pfusion.training.submodel import build
from p2pfusion.training.trainer import Trainer

CPU = torch.device("cpu")
TOKENS = torch.arange(6 * 16).reshape(6, 16) % 7


def deep(classes: int = 10) -> nn.Module:
    """A module of one's own, whose last layers have dropout and running statistics."""
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(64, 32), nn.ReLU()]
    for _ in range(6):
        layers += [nn.Linear(32, 32), nn.LayerNorm(32), nn.GELU()]
    layers += [nn.BatchNorm1d(32), nn.Dropout(0.3), nn.Linear(32, classes)]
    return nn.Sequential(*layers)


def own() -> tuple[nn.Module, Tensor]:
    model = Own("deep", deep)
    module = model.build({}, {axis.name: axis.size for axis in model.layout({}).axes})
    return _filled(module), torch.randn(8, 1, 8, 8)


def transformer() -> tuple[nn.Module, Tensor]:
    model = find_model("transformer")
    arguments = {"vocabulary": 7, "classes": 7, "length": 16, "layers": 3, "width": 32}
    arguments |= {"heads": 4, "inner": 64}
    layout = model.layout(arguments)
    return _filled(build(model, arguments, layout, Split.full(layout))), TOKENS


def resnet() -> tuple[nn.Module, Tensor]:
    model = find_model("resnet18")
    arguments = {"width": 8}
    layout = model.layout(arguments)
    return _filled(build(model, arguments, layout, Split.full(layout))), torch.randn(
        4, 3, 8, 8
    )


def _filled(module: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.rand_like(parameter) * 0.2 + 0.01)
    return module.train()


def gradients(module: nn.Module, inputs: Tensor) -> list[Tensor]:
    torch.manual_seed(5)
    module(inputs).square().mean().backward()
    found = [p.grad for p in module.parameters() if p.grad is not None]
    for parameter in module.parameters():
        parameter.grad = None
    return found


@pytest.mark.parametrize("make", [own, transformer, resnet])
def test_gradients_are_the_same_and_less_is_kept(
    make: Callable[[], tuple[nn.Module, Tensor]],
) -> None:
    module, inputs = make()
    start = {name: value.clone() for name, value in module.state_dict().items()}
    plain, kept = gradients(module, inputs), saved_activation_bytes(module, inputs)
    moved = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(start)
    with recomputing(module):
        again, less = gradients(module, inputs), saved_activation_bytes(module, inputs)
    assert plain and all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert less < 0.7 * kept
    module.load_state_dict(start)
    gradients(module, inputs)
    after = module.state_dict()  # no running statistic was moved twice
    assert moved.keys() == after.keys()
    module.load_state_dict(start)
    with recomputing(module):
        gradients(module, inputs)
    for name, value in module.state_dict().items():
        assert torch.equal(value, after[name]), name


def test_afterwards_the_module_is_what_it_was() -> None:
    module, inputs = transformer()
    kept = saved_activation_bytes(module, inputs)
    with recomputing(module), contextlib.suppress(ValueError):
        raise ValueError
    assert saved_activation_bytes(module, inputs) == kept


@pytest.mark.parametrize(
    ("model", "arguments"), [("mlp", {"hidden": [8]}), ("vit", {})]
)
def test_a_model_without_parts_says_so(
    model: str, arguments: dict[str, object]
) -> None:
    """When the trainer is set up, not in its first round."""
    data = DataOptions("digits", limit_train=40)
    described = describe(model, arguments, data)
    setup = Setup(
        model=model,
        arguments=described.arguments,
        layout=described.layout,
        seed=0,
        schedule=Schedule(batch=8),
        data=data,
        checkpointing=True,
    )
    if model == "vit":
        Trainer(setup)
        return
    with pytest.raises(ConfigError, match="no blocks"):
        Trainer(setup)


def test_parts_of_a_batch_are_not_for_what_compares_its_records() -> None:
    arguments = {"head_hidden": 8, "head_output": 8}
    data = DataOptions("digits", limit_train=40)
    described = describe("vit", arguments, data)
    setup = Setup(
        model="vit",
        arguments=described.arguments,
        layout=described.layout,
        seed=0,
        schedule=Schedule(batch=8, parts=2),
        objective={"name": "simclr"},
        data=data,
    )
    with pytest.raises(ConfigError, match="cannot be computed in parts"):
        Trainer(setup)


# --- Batches in parts ----------------------------------------------------------------


def trained(parts: int, precision: str = "float32", batch: int = 25) -> nn.Module:
    """A perceptron after two steps on the digits."""
    torch.manual_seed(0)
    layers = nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)
    module = nn.Sequential(nn.Flatten(), *layers)
    records = load(DataOptions("digits", limit_train=100), "train")
    assert records is not None
    train_round(
        module,
        records,
        objective=create_objective({}, [1] * 10, CPU, Layout((), ())),
        optimiser=Optimiser(),
        schedule=Schedule(batch=batch, steps=2, parts=parts),
        learning_rate=0.1,
        generator=batch_generator(0, 0, 0),
        device=CPU,
        precision=precision,
    )
    return module


@pytest.mark.parametrize("parts", [2, 3, 25])
def test_parts_of_a_batch_have_the_gradient_of_the_whole(parts: int) -> None:
    """Also where they are not equally large."""
    whole, several = trained(1), trained(parts)
    for one, other in zip(whole.parameters(), several.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


class Places:
    """Running text of which some places have no answer."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.inputs = torch.randn(4, 5, 3)
        self.targets = torch.randint(3, (4, 5))
        self.targets[0, 1:] = NO_ANSWER
        self.targets[3] = NO_ANSWER

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, chosen: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        return self.inputs[chosen], self.targets[chosen]


@pytest.mark.parametrize("parts", [2, 4])
def test_every_answer_counts_alike_in_whatever_part_it_is(parts: int) -> None:
    def run(parts: int) -> list[Tensor]:
        torch.manual_seed(0)
        module = nn.Linear(3, 3)
        found = train_round(
            module,
            Places(),  # type: ignore[arg-type]
            objective=create_objective({}, [1] * 3, CPU, Layout((), ())),
            optimiser=Optimiser(),
            schedule=Schedule(batch=4, steps=1, parts=parts),
            learning_rate=0.5,
            generator=batch_generator(0, 0, 0),
            device=CPU,
        )
        return [*module.parameters(), torch.tensor(found.loss)]

    for one, other in zip(run(1), run(parts), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


# --- Precision -----------------------------------------------------------------------


def test_bfloat16_is_what_products_are_computed_in() -> None:
    seen: list[torch.dtype] = []
    module = nn.Linear(8, 8)
    module.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    for precision in PRECISIONS:
        with computing_in(precision, CPU):
            module(torch.ones(2, 8))
    assert seen == [torch.float32, torch.bfloat16]


def test_what_is_trained_in_bfloat16_is_near_and_stays_float32() -> None:
    exact, rounded = trained(1), trained(1, "bfloat16")
    pairs = list(zip(exact.parameters(), rounded.parameters(), strict=True))
    assert all(other.dtype == torch.float32 for _, other in pairs)
    assert not all(torch.equal(one, other) for one, other in pairs)
    for one, other in pairs:
        assert torch.allclose(one, other, atol=0.02)
    records = load(DataOptions("digits", limit_test=50), "test")
    assert records is not None
    found = evaluate(rounded, records, CPU, precision="bfloat16")
    assert found.loss == pytest.approx(evaluate(rounded, records, CPU).loss, rel=0.05)


def test_a_traced_model_trains_in_bfloat16() -> None:
    module, inputs = own()
    with computing_in("bfloat16", CPU):
        half = module(inputs)
    assert half.dtype == torch.bfloat16
    kept, less = saved_activation_bytes(module, inputs), 0
    with computing_in("bfloat16", CPU):
        less = saved_activation_bytes(module, inputs)
    assert less != kept


@pytest.mark.parametrize("name", ["mps", "cuda", "xpu", "nothing"])
def test_a_device_that_is_not_here_is_named(name: str) -> None:
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has one")
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ConfigError, match=f"device '{name}'"):
        find_device(name)
