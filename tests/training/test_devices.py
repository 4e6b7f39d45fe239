"""Where training computes: which devices there are, and that nothing of a step is left
on the processor. Tests that need a device run where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from p2pfusion.errors import ConfigError
from p2pfusion.methods import announcing, build_method
from p2pfusion.split.depth import cut_in_depth
from p2pfusion.split.segment import Split
from p2pfusion.store import Store
from p2pfusion.training.data import DataOptions, load
from p2pfusion.training.data.augment import augmentation
from p2pfusion.training.descent import Descent, Optimiser
from p2pfusion.training.description import describe
from p2pfusion.training.devices import (
    check_precision,
    find_device,
    find_devices,
    taken_bytes,
)
from p2pfusion.training.ledger import Ledger
from p2pfusion.training.loop import Schedule, evaluate, train_round
from p2pfusion.training.masks import Gates, Question, gated
from p2pfusion.training.models import MODELS, Model
from p2pfusion.training.objectives import OBJECTIVES, create_objective
from p2pfusion.training.objectives.task import TaskObjective
from p2pfusion.training.prediction import Predictor
from p2pfusion.training.request import failure
from p2pfusion.training.setup import Setup
from p2pfusion.training.submodel import build
from p2pfusion.training.tracing import trace
from p2pfusion.training.trainer import TrainedRound, Trainer
from p2pfusion.training.uncompiled import Uncompiled
from tests.contracts.test_models import CLASSES, arguments, inputs, models, traits
from tests.training.tracing import modules

META, CPU = torch.device("meta"), torch.device("cpu")
"""Tensors on the first one have no values; everything else of a device they have."""

ASKS_FOR_A_NUMBER = (torch.ops.aten._local_scalar_dense, torch.ops.aten.item)
HERE = {
    "cuda": torch.cuda.is_available(),
    "mps": torch.backends.mps.is_available(),
}
CARDS = torch.cuda.device_count() if HERE["cuda"] else 0
on_devices = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(not there, reason=f"no {name}"))
        for name, there in HERE.items()
    ],
)


class OneDevice(Uncompiled):
    """Refuses operators whose tensors are on several devices, as a graphics card does.
    Copies are for that, and positions may be on the processor; so may single numbers.
    Who asks for a number that has no value is told 1.
    """

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if func.overloadpacket in ASKS_FOR_A_NUMBER:
            return 1.0
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if "copy" not in name and not name.startswith(("index", "to")):
            leaves = tree_leaves((args, kwargs, found))
            real = [each for each in leaves if isinstance(each, Tensor) and each.dim()]
            assert len({each.device for each in real}) <= 1, name
        return found


def test_who_mixes_devices_is_found_out() -> None:
    weights, images = torch.zeros(3, 2), torch.zeros(4, 3, device=META)
    with OneDevice(), pytest.raises(AssertionError, match="mm"):
        images @ weights
    with OneDevice():
        assert (images @ weights.to(META) * torch.tensor(2.0)).device == META


@models
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_of_every_objective_is_on_one_device(name: str, model: Model) -> None:
    told = arguments(model, projection=4)
    layout = model.layout(told)
    split = Split.full(layout)
    module = build(model, told, layout, split).to(META)
    common = {"label_mask": True, "logit_adjustment": 1.0}
    try:
        objective = create_objective(
            {**common, "name": name}, [1] * CLASSES, META, layout
        )
    except ConfigError as error:
        pytest.skip(error.message)
    given = inputs(model).to(META)
    shape = given.shape if traits(model).task == "language" else given.shape[:1]
    targets = torch.zeros(shape, dtype=torch.int64, device=META)
    descent = Descent(list(module.parameters()), Optimiser(rule="adamw", proximal=0.1))
    with OneDevice():
        for _ in range(2):  # some compare with the round before
            objective.begin(module, split, torch.Generator())
            objective.loss(module, given, targets).backward()
            descent.step(0.1)
            objective.after_step(module)
            objective.end(module, split)
        module.eval()(given)


@pytest.mark.parametrize("name", modules.CASES)
@pytest.mark.parametrize("training", [False, True])
def test_a_traced_model_is_on_one_device(name: str, training: bool) -> None:
    case = modules.CASES[name]
    module, given = case.make(), case.records()
    found = trace(module, given)
    small = found.build(Split.full(found.layout).sizes()).to(META).train(training)
    with OneDevice():
        logits = small(given.to(META))
        logits.sum().backward()
    assert logits.device == META


def test_a_whole_round_is_on_one_device() -> None:
    digits = load(DataOptions("digits"), "train")
    assert digits is not None
    model, generator = MODELS["cnn"], torch.Generator()
    layout = model.layout({})
    module = build(model, {}, layout, Split.full(layout)).to(META)
    with OneDevice():
        found = train_round(
            module,
            digits,
            objective=TaskObjective(),
            optimiser=Optimiser(),
            schedule=Schedule(64, steps=2, parts=2),
            learning_rate=0.1,
            generator=generator,
            device=META,
            augment=augmentation("flip-crop", digits),
        )
        assert found.steps == 2
        evaluate(module, digits, META)
    vit = MODELS["vit"]
    told = vit.suited(digits.traits)
    layout = cut_in_depth(vit.layout(told))
    rule = announcing(build_method("co-s2p", {}))
    assert rule is not None
    asked = Question.from_data(rule.asks(layout, Fraction(1, 2)), layout)
    module = build(vit, told, layout, asked.split).to(META)
    inputs, _ = digits.batch(torch.arange(3), META)
    with OneDevice():
        gates = Gates(asked, generator, META)
        drawn = gates.draw()
        with gated(module, asked, drawn):
            (module(inputs).sum() + torch.cat(list(drawn.values())).sum()).backward()


def test_the_ledger_counts_one_device_alone() -> None:
    with Ledger(META) as ledger:
        here, there = torch.zeros(100), torch.zeros(50, device=META)
        both = there + 1
    assert ledger.bytes == 400 and here.nbytes == there.nbytes + both.nbytes


# --- Which there are -----------------------------------------------------------------


def test_processes_share_the_processor_or_have_a_card_each() -> None:
    assert find_devices("cpu", 3) == [CPU] * 3
    assert taken_bytes(CPU) > 0
    check_precision("bfloat16", CPU)
    for name, there in HERE.items():
        if not there:
            with pytest.raises(ConfigError, match=f"'{name}' is not available here"):
                find_devices(name, 2)
    if HERE["mps"]:
        with pytest.raises(ConfigError, match="needs 2 of them, and there are 1 here"):
            find_devices("mps", 2)
    with pytest.raises(ConfigError, match="not available here"):
        find_device(f"cuda:{CARDS}")


@pytest.mark.skipif(not CARDS, reason="no cuda")
def test_every_card_has_one_process() -> None:
    every = [torch.device("cuda", number) for number in range(CARDS)]
    assert find_devices("cuda", CARDS) == every or CARDS == 1
    if CARDS > 1:
        assert find_devices("cuda:1", CARDS - 1)[0].index == 1
    with pytest.raises(ConfigError, match=f"and there are {CARDS} here"):
        find_devices("cuda", CARDS + 1)


# --- Where there is one --------------------------------------------------------------


def trained(
    directory: Path, device: str, **changes: object
) -> tuple[TrainedRound, float]:
    """A round of a CNN on digits, and its accuracy."""
    found = describe("cnn", {}, DataOptions("digits"))
    setup = Setup(
        model="cnn",
        arguments=found.arguments,
        layout=found.layout,
        seed=0,
        schedule=Schedule(batch=64),
        data=DataOptions("digits", validation=0.1),
        device=device,
        **changes,  # type: ignore[arg-type]
    )
    path = directory / "store"
    if not path.exists():
        Store.create(path, found.layout, 0)
    read = Store.open(path, found.layout, 0).read
    trainer = Trainer(setup)
    done = trainer.train(
        round_index=0, split=Split.full(found.layout), learning_rate=0.05, read=read
    )
    return done, trainer.measure()


@on_devices
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_round_there_is_one_here(
    name: str, checkpointing: bool, tmp_path: Path
) -> None:
    there, accuracy = trained(tmp_path, name, checkpointing=checkpointing)
    here, expected = trained(tmp_path, "cpu")
    assert there.loss == pytest.approx(here.loss, rel=0.02)
    assert there.norm == pytest.approx(here.norm, rel=0.05)
    assert accuracy == pytest.approx(expected, abs=0.05)


@on_devices
def test_bfloat16_there_learns_too(name: str, tmp_path: Path) -> None:
    there, _ = trained(tmp_path, name, precision="bfloat16")
    here, _ = trained(tmp_path, "cpu")
    assert there.loss == pytest.approx(here.loss, rel=0.1)


@on_devices
def test_memory_that_runs_out_there_is_told(name: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 48, dtype=torch.uint8, device=name)
    error = failure("train", caught.value)["error"]
    assert isinstance(error, dict)
    assert error["message"] == "the trainer ran out of memory of the graphics card"


@pytest.mark.skipif(not CARDS, reason="no cuda")
def test_a_cards_memory_is_known_before(tmp_path: Path) -> None:
    found = describe("cnn", {}, DataOptions("digits"))
    setup = Setup(
        model="cnn", arguments=found.arguments, layout=found.layout, seed=0,
        schedule=Schedule(batch=1024), data=DataOptions("digits"), device="cuda",
    )  # fmt: skip
    trainer, split = Trainer(setup), Split.full(found.layout)
    trained(tmp_path, "cuda")  # what libraries take once
    predicted = Predictor(setup, trainer.records, 0).predict(split).total
    torch.cuda.reset_peak_memory_stats()
    read = Store.open(tmp_path / "store", found.layout, 0).read
    trainer.train(round_index=0, split=split, learning_rate=0.05, read=read)
    measured = torch.cuda.max_memory_allocated()
    assert predicted == pytest.approx(measured, rel=0.1)
