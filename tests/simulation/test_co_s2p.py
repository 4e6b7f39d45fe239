"""Co-S2P in the experiment runner: masks, shares of changes, quorum, virtual time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.errors import ConfigError
from p2pfusion.methods.base import Update
from p2pfusion.methods.co_s2p import LearnedShared
from p2pfusion.simulation.design import Experiment
from p2pfusion.simulation.experiment import run
from p2pfusion.simulation.swarm import Swarm, Work
from tests.simulation.test_experiment import SPECIFICATION

Data = dict[str, object]
Values = dict[str, np.ndarray]

UNITS: Data = {
    **SPECIFICATION,
    "model": "vit-units",
    "model_arguments": {
        **{"image_size": 8, "patch": 4, "width": 16, "heads": 4, "layers": 4},
        **{"inner": 16, "exits": 2},
    },
    **{"optimiser": "adamw", "learning_rate": 0.005, "method": "co-s2p"},
    **{"peers": 3, "split_fraction": "1,1/2,1/4", "limit": 120, "limit_test": 100},
    **{"objective": "exits", "method_arguments": {"mask_epochs": 1}},
}


def result(**changes: object) -> Data:
    return run({**UNITS, **changes}, lambda message: None)


def swarm_of(directory: Path, **changes: object) -> Swarm:
    return Swarm.create(Experiment.of({**UNITS, **changes}), directory)


def test_it_learns(tmp_path: Path) -> None:
    how = {"mask_epochs": 2, "quorum": 1}
    found = result(
        rounds=4, limit=600, local_epochs=3, method_arguments=how, partition={}
    )
    curve = found["curve"]
    assert isinstance(curve, list)
    assert curve[-1]["accuracy"] > 0.4
    assert curve[-1]["test_loss"] < math.log(10)


def changes_of(swarm: Swarm, work: Work, absent: float = 0.0) -> Values:
    """What a peer has offered, in the shape of the whole model."""
    layout = swarm.experiment.manifest.layout
    flat, start = np.fromfile(work.path, np.float32), 0
    found = {}
    pairs = zip(layout.parameters, work.split.trained.segments(layout), strict=True)
    for parameter, segment in pairs:
        whole = np.full(parameter.shape, absent)
        values = flat[start : start + segment.size].reshape(segment.shape)
        whole[np.ix_(*map(list, segment.sets))] = values
        start += segment.size
        found[parameter.name] = whole
    assert start == flat.size
    return found


def l1(values: Values) -> float:
    return sum(float(np.abs(each).sum(dtype=np.float64)) for each in values.values())


@pytest.mark.parametrize("slowness", ["1,4,9", "1,1.5,16"])
def test_values_move_by_the_shares_of_changes(slowness: str, tmp_path: Path) -> None:
    """All equations by hand, with updates that come rounds after their base."""
    swarm = swarm_of(
        tmp_path, slowness=slowness, rounds=5, max_staleness=4, local_steps=2
    )
    assert isinstance(swarm.method, LearnedShared)
    fractions = swarm.experiment.split_fractions
    models, ages = [whole_shapes(swarm)], []
    for number in range(5):
        swarm.round(number)
        models.append(whole_shapes(swarm))
        arrived = sorted(set(range(3)) - swarm.clock.at_work)
        assert len(arrived) == 2
        updates, changes = [], []
        for peer in arrived:
            work = swarm.works[peer]
            change = changes_of(swarm, work)
            ages.append(number - work.base_round)
            moved = [
                l1({k: models[t + 1][k] - models[t][k] for k in models[t]})
                for t in range(work.base_round, number)
            ]
            updates.append(Update(fractions[peer], l1(change), ages[-1], sum(moved)))
            changes.append(change)
        shares = swarm.method.shares(updates)
        for name, old in models[-2].items():
            expected = old + sum(
                share * change[name]
                for share, change in zip(shares, changes, strict=True)
            )
            np.testing.assert_allclose(models[-1][name], expected, atol=1e-6)
    assert (max(ages) > 0) and swarm.too_late == 0


def whole_shapes(swarm: Swarm) -> Values:
    """The model in the layout's shapes."""
    layout = swarm.experiment.manifest.layout
    values = swarm.values()
    return {p.name: values[p.name].reshape(p.shape).copy() for p in layout.parameters}


def test_a_mean_with_a_quorum_has_stale_values(tmp_path: Path) -> None:
    """A control: each entry is the mean of those that are in, old or new."""
    swarm = swarm_of(
        tmp_path,
        method_arguments={"merge": "mean", "mask": "static"},
        **{"quorum": 2, "slowness": "1,4,9", "max_staleness": 4, "local_steps": 1},
    )
    ages = []
    for number in range(3):
        before = whole_shapes(swarm)
        swarm.round(number)
        arrived = sorted(set(range(3)) - swarm.clock.at_work)
        works = [swarm.works[peer] for peer in arrived]
        ages += [number - work.base_round for work in works]
        values = [changes_of(swarm, work, absent=np.nan) for work in works]
        for name, found in whole_shapes(swarm).items():
            stack = np.stack([each[name] for each in values])
            counts = (~np.isnan(stack)).sum(0)
            mean = np.nansum(stack, 0) / np.maximum(counts, 1)
            expected = np.where(counts > 0, mean, before[name])
            np.testing.assert_allclose(found, expected, atol=1e-6)
    assert max(ages) > 0


def test_an_update_that_is_too_old_counts_nowhere(tmp_path: Path) -> None:
    swarm = swarm_of(
        tmp_path, slowness="1,9999,1", rounds=3, max_staleness=1, local_steps=1
    )
    for number in range(3):
        swarm.round(number)
    assert swarm.clock.at_work and swarm.too_late == 0
    swarm.clock = type(swarm.clock)([1.0] * 3)
    swarm.clock.begin(1, 1.0)  # has finished at last, with what it began in round 0
    swarm.round(3)
    assert swarm.too_late == 1


def test_masks_are_of_each_peers_own_data(tmp_path: Path) -> None:
    swarm = swarm_of(
        tmp_path, split_fraction="1/2", method_arguments={"mask_epochs": 3}
    )
    announced = [member.announced for member in swarm.context.roster]
    assert len(set(announced)) == 3 and all(announced)
    splits = swarm.splits(0)
    assert len({split.digest for split in splits.values()}) == 3
    assert len({tuple(split.sizes().items()) for split in splits.values()}) == 1
    again = swarm_of(
        tmp_path / "again", split_fraction="1/2", method_arguments={"mask_epochs": 3}
    )
    assert [member.announced for member in again.context.roster] == announced
    static = swarm_of(tmp_path / "static", method_arguments={"mask": "static"})
    assert not any(member.announced for member in static.context.roster)


def test_time_is_that_of_the_slowest_who_is_waited_for() -> None:
    how = {"mask": "static", "quorum": 1}
    together = result(method_arguments=how, split_fraction="1", local_steps=1)
    slow = result(
        method_arguments=how, split_fraction="1", local_steps=1, slowness="1,1,4"
    )
    assert slow["curve"] != together["curve"]  # the times are in it
    assert float(str(slow["virtual_seconds"])) == pytest.approx(
        4 * float(str(together["virtual_seconds"]))
    )
    assert together["utilisation"] == pytest.approx(1)
    assert slow["utilisation"] == pytest.approx((1 + 1 + 4) / (3 * 4))
    hasty = result(
        method_arguments={"mask": "static"},
        **{"split_fraction": "1", "local_steps": 1, "slowness": "1,1,4"},
    )
    assert hasty["virtual_seconds"] == together["virtual_seconds"]
    assert hasty["utilisation"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"slowness": "1,0"}, "slowness: '1,0' is not of numbers above 0"),
        ({"slowness": "1,x"}, "slowness"),
        ({"slowness": "nan"}, "slowness"),
        ({"slowness": "1,2,3,4"}, "4 slownesses are too many for 3 peers"),
        ({"weighting": "samples"}, "weighting means nothing to the method 'co-s2p'"),
        ({"quorum": 2}, "quorum means nothing to the method 'co-s2p'"),
        ({"method_arguments": {"merge": "mean"}, "quorum": 4}, "only 3 peers train"),
        ({"outer_momentum": 0.5}, "no outer momentum where changes are added"),
        ({"method": "fedavg", "method_arguments": {}, "max_staleness": 4},
         "max_staleness means nothing to the method 'fedavg'"),
        ({"model": "mlp", "model_arguments": {}, "objective": "task"},
         "choose vit, vit-units"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(
    changes: Data, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refused:
        swarm_of(tmp_path, **changes)
    assert words in f"{refused.value.message} {refused.value.hint}"
