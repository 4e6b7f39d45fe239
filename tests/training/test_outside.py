"""Code from outside the package: who may be imported as what, what it gives, and of
which version it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p2pfusion.errors import ConfigError, DataError, IncompatibleError
from p2pfusion.split.layout import Layout
from p2pfusion.training.data import Coding, DataOptions, load
from p2pfusion.training.data.own import records_of
from p2pfusion.training.models import find_model
from p2pfusion.training.objectives import create_objective
from p2pfusion.training.objectives.own import own_objective
from p2pfusion.training.outside import (
    DATA,
    MODEL,
    OBJECTIVE,
    allow,
    check_versions,
    code_versions,
    find_own,
    told_versions,
)

CPU, NONE = torch.device("cpu"), Layout((), ())

MODULE = """
import numpy as np
from torch import nn

__version__ = "3.1"

def build(classes=10):
    layers = nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, classes)
    return nn.Sequential(nn.Flatten(), *layers)

def loss(weight=2.0):
    return lambda logits, targets: weight * nn.functional.cross_entropy(logits, targets)

def images(path, part):
    return np.zeros((4, 8, 8), "uint8"), np.arange(4)
"""


@pytest.fixture(autouse=True)
def lodger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package as pip leaves it: a module, and metadata with entry points."""
    (tmp_path / "lodger.py").write_text(MODULE)
    facts = tmp_path / "lodger-3.2.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: lodger\nVersion: 3.2")
    groups = {
        "models": "small = lodger:build",
        "objectives": "lodger.double = lodger:loss",
        "data": "black = lodger:images",
    }
    (facts / "entry_points.txt").write_text(
        "".join(f"[p2pfusion.{group}]\n{line}\n" for group, line in groups.items())
    )
    (tmp_path / "guest.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("lodger", "guest"):
        sys.modules.pop(name, None)


def test_a_name_that_was_allowed_as_one_thing_is_not_another() -> None:
    allow(MODEL, ["guest:build"])
    assert callable(find_own(MODEL, "guest:build"))
    with pytest.raises(ConfigError, match="objective 'guest:build' is code") as caught:
        find_own(OBJECTIVE, "guest:build")
    assert 'objectives = ["guest:build"]' in caught.value.hint
    with pytest.raises(ConfigError, match="data 'guest:build' is code"):
        find_own(DATA, "guest:build")


def test_entry_points_need_no_permission() -> None:
    assert find_model("small").layout({}).size == 64 * 8 + 8 + 8 * 10 + 10
    objective = create_objective({"name": "lodger.double"}, [1] * 10, CPU, NONE)
    logits = torch.zeros(5, 10)
    assert objective.labelled
    loss = objective.loss(nn.Identity(), logits, torch.zeros(5, dtype=torch.int64))
    assert loss == pytest.approx(2 * np.log(10))
    records = load(DataOptions("black"), "train")
    assert records is not None and len(records) == 4


def test_versions_are_those_of_what_the_code_comes_from() -> None:
    allow(OBJECTIVE, ["guest:loss"])
    find_own(OBJECTIVE, "guest:loss")
    names = {MODEL: "small", OBJECTIVE: "guest:loss"}
    here = code_versions(names)
    assert here == {"guest": "3.1", "lodger": "3.2"}
    assert code_versions({MODEL: "cnn", OBJECTIVE: "task"}) == {}
    check_versions(here, names)
    assert told_versions(here, names) == ""
    other = {**here, "lodger": "4"}
    with pytest.raises(
        IncompatibleError, match=r"'lodger' is version 3\.2 here, and 4"
    ):
        check_versions(other, names)
    assert told_versions(other, names).startswith("; 'lodger' is version 3.2 here")


# --- Objectives ----------------------------------------------------------------------


def weighted(class_counts: list[int], power: float = 1.0) -> nn.Module:
    weights = torch.tensor(class_counts, dtype=torch.float32) ** -power
    return nn.CrossEntropyLoss(weight=weights)


def test_an_objective_is_told_what_it_asks_for() -> None:
    options = {"name": "mine", "logit_adjustment": 0.0, "power": 0.5}
    made = own_objective("mine", weighted, options, [1, 4], CPU, NONE)
    logits, targets = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, -100, 1])
    wanted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0.5]))
    found = made.loss(nn.Identity(), logits, targets)  # type: ignore[attr-defined]
    kept = targets >= 0
    assert torch.equal(found, wanted(logits[kept], targets[kept]))


def test_it_sees_logits_with_the_mask_and_the_adjustment() -> None:
    seen: list[Tensor] = []

    def look(logits: Tensor, targets: Tensor) -> Tensor:
        seen.append(logits)
        return logits.sum()

    options = {"name": "mine", "label_mask": True, "logit_adjustment": 1.0}
    made = own_objective("mine", lambda: look, options, [3, 0, 5], CPU, NONE)
    made.loss(nn.Identity(), torch.ones(1, 3), torch.tensor([0]))  # type: ignore[attr-defined]
    counts = torch.tensor([4.0, 1.0, 6.0])
    masked = torch.tensor([1.0, 0.0, 1.0])
    assert torch.allclose(seen[-1], masked + (counts / counts.sum()).log())


def needy(temperature: float) -> object:
    return None


@pytest.mark.parametrize(
    ("function", "options", "text"),
    [
        (weighted, {"strength": 1}, "takes no argument 'strength'"),
        (needy, {}, "needs the argument 'temperature'"),
        (lambda: 3, {}, "gives int, which is no function"),
        (lambda: 1 / 0, {}, "cannot be made: ZeroDivisionError"),
        (lambda: lambda logits: logits, {}, "fails on logits of shape"),
        (lambda: lambda a, b: 1.0, {}, "gives float for a loss, not a tensor"),
        (lambda: lambda a, b: a.sum(1), {}, r"loss of shape \(3,\), not one number"),
        (lambda: lambda a, b: torch.ones(()), {}, "does not depend on the logits"),
    ],
)
def test_what_makes_no_loss_is_refused(
    function: object, options: dict[str, object], text: str
) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        own_objective("mine", function, options, [1, 1], CPU, NONE)  # type: ignore[arg-type]
    assert "'mine'" in caught.value.message and "\n" not in caught.value.message


def test_an_unknown_objective_is_named() -> None:
    with pytest.raises(ConfigError, match="'rest' is unknown"):
        create_objective({"name": "rest"}, [1], CPU, NONE)


# --- Data ----------------------------------------------------------------------------

SQUARES = np.zeros((3, 4, 5), np.float32)


class Pairs:
    """A data set as torch's are."""

    def __init__(self, images: Sequence[object]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[object, int]:
        return self.images[index], index % 2


def test_what_a_function_may_return_becomes_records() -> None:
    labels = torch.tensor([0, 1, 1])
    for images in (SQUARES, torch.from_numpy(SQUARES), list(SQUARES)):
        found = records_of((images, labels), "mine", Coding())
        assert found is not None
        assert found.traits.task == "image" and found.traits.shape == (1, 4, 5)
        assert found.labels is not None and found.labels.tolist() == [0, 1, 1]
    pairs = records_of(Pairs(list(torch.from_numpy(SQUARES))), "mine", Coding())
    assert pairs is not None and pairs.labels is not None
    assert pairs.labels.tolist() == [0, 1, 0]
    told = records_of((["good film", "bad film"], [1, 0]), "mine", Coding())
    assert told is not None and told.traits.task == "text"
    assert told.vocabulary is not None and len(told.vocabulary) == 3 + 3
    running = records_of(["to be or not to be", "a rose is"], "mine", Coding(length=3))
    assert running is not None and running.traits.task == "language"
    assert running.documents is not None and running.documents.max() == 1
    assert records_of(None, "mine", Coding()) is None
    assert records_of(told, "mine", Coding()) is told


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (3, "mine gives int"),
        ([1, 2], "record 0 is no pair"),
        ((list(SQUARES), [0, 1]), "3 images but 2 labels"),
        ((SQUARES, [0, -1, 1]), "record 1 has the label -1"),
        ((SQUARES, [0, 1, 1 << 30]), "record 2 has the label"),
        ((SQUARES, ["cat", "dog", "cat"]), "labels are <U3"),
        (([SQUARES[0], SQUARES[0][:3]], [0, 1]), r"record 1 has the shape \(3, 5\)"),
        (Pairs([SQUARES[0], SQUARES[0].T]), r"shape \(5, 4\), and that of record 0"),
        (([], []), "there are no records"),
        ((["a"], [0, 1]), "1 texts but 2 labels"),
        ("", "not two tokens"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(found: object, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        records_of(found, "mine", Coding())
    assert "mine" in caught.value.message and "\n" not in caught.value.message


def test_a_function_that_asks_for_what_nobody_knows_is_refused() -> None:
    module = sys.modules[__name__]
    with pytest.raises(ConfigError, match="'temperature' has no default"):
        load(DataOptions(f"{module.__name__}:needy"), "train")


def test_a_failing_function_is_named() -> None:
    with pytest.raises(DataError, match=r"data '.*:broken': ZeroDivisionError"):
        load(DataOptions(f"{__name__}:broken"), "train")
    assert load(DataOptions(f"{__name__}:broken"), "test") is None  # it has none


def broken() -> object:
    return 1 / 0
