"""The experiment runner: its result, its sameness, its errors."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.errors import ConfigError, P2PFusionError
from p2pfusion.methods import METHODS, Member, PlanContext, build_method
from p2pfusion.simulation.design import Experiment
from p2pfusion.simulation.experiment import run, serve
from p2pfusion.simulation.swarm import Swarm
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import plan_round
from tests.end_to_end.programs import ROOT

Data = dict[str, object]
Capture = pytest.CaptureFixture[str]

SPECIFICATION: Data = {
    "model": "mlp",
    "model_arguments": {"hidden": [16, 16]},
    "data": {"kind": "digits"},
    "partition": {"rule": "dirichlet", "alpha": 0.5},
    "peers": 3,
    "split_fraction": "1/2",
    "rounds": 2,
    "seed": 3,
    "limit": 300,
    "limit_test": 200,
    "learning_rate": 0.1,
    "method": "msfusion",
}
FIELDS = {
    "method", "model", "data", "peers", "rounds", "split_fraction", "seed", "accuracy",
    "curve", "ever_trained_fraction", "bytes_per_peer_round",
    "train_flops_per_peer_round", "peak_activation_bytes", "seconds",
}  # fmt: skip


def result(**changes: object) -> Data:
    """Runs an experiment."""
    return run({**SPECIFICATION, **changes}, lambda message: None)


def planned_bytes(specified: Data) -> float:
    """Mean bytes per peer and round, from the plans alone."""
    manifest = Experiment.of(specified).manifest
    roster = tuple(
        Member(f"peer-{n:04}", fraction)
        for n, fraction in enumerate(Experiment.of(specified).split_fractions)
    )
    method = build_method(manifest.method, manifest.method_arguments)
    context = PlanContext(manifest.seed, manifest.rounds, manifest.layout, roster)
    homes, elements = Homes.initial(manifest.layout), 0
    for number in range(manifest.rounds):
        now, then = (
            {m.peer: method.split(context, t, rank) for rank, m in enumerate(roster)}
            for t in (number, number + 1)
        )
        plan = plan_round(
            manifest.layout,
            seed=manifest.seed,
            round_index=number,
            current=now,
            following=then,
            homes=homes,
        )
        homes = plan.homes_after()
        elements += sum(plan.elements_sent(peer) for peer in plan.peers)
    return elements * 4 / (3 * manifest.rounds)


def test_the_result_has_every_promised_field() -> None:
    told: list[Data] = []
    found = run({**SPECIFICATION, "data_name": "digits"}, told.append)
    assert found.keys() >= FIELDS
    expected = {"method": "msfusion", "model": "mlp", "data": "digits", "peers": 3}
    expected |= {"rounds": 2, "split_fraction": 0.5, "seed": 3}
    assert {key: found[key] for key in expected} == expected
    curve = found["curve"]
    assert isinstance(curve, list) and [p["round"] for p in curve] == [1, 2]
    assert found["accuracy"] == curve[-1]["accuracy"]
    assert told == [{"event": "round", "rounds": 2, **point} for point in curve]
    assert found["bytes_per_peer_round"] == planned_bytes(SPECIFICATION)
    assert 0 < float(str(found["ever_trained_fraction"])) <= 1
    assert found["train_flops_per_peer_round"] and found["peak_activation_bytes"]
    json.dumps(found, allow_nan=False)


def test_the_same_seed_gives_the_same_curve_and_another_does_not() -> None:
    first, again, other = result(), result(), result(seed=4)
    assert first["curve"] == again["curve"] != other["curve"]


IN_DEPTH = ("layer-finetune", "lw-fedssl", "prog-fedssl")
DEEP: Data = {
    "model": "vit",
    "model_arguments": {
        **{"image_size": 8, "patch": 4, "width": 16, "heads": 4, "layers": 2},
        **{"inner": 16, "group": 4},
    },
    **{"optimiser": "adamw", "learning_rate": 0.005},
}


LAYERWISE: Data = {**DEEP, "method": "lw-fedssl"}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_trains_two_rounds_of_the_digits(method: str) -> None:
    fraction = "1" if method == "fedavg" else "1/2"
    model = DEEP if method in IN_DEPTH else {}
    if method == "co-s2p":
        model = {**DEEP, "method_arguments": {"quorum": 1}, "learning_rate": 0.01}
    found = result(method=method, split_fraction=fraction, local_epochs=4, **model)
    _, last = found["curve"]  # type: ignore[misc]
    # Better than saying nothing, of all the classes alike.
    assert last["test_loss"] < math.log(10)
    assert last["accuracy"] > 0.15


def test_what_is_frozen_stays_as_it_is_bit_for_bit(tmp_path: Path) -> None:
    two = {"layers_per_stage": 1}
    specified = {**SPECIFICATION, **DEEP, "method": "lw-fedssl", "weight_decay": 0.1}
    swarm = Swarm.create(
        Experiment.of({**specified, "method_arguments": two}), tmp_path
    )
    states = [swarm.values()]
    for number in range(2):
        swarm.round(number)
        states.append(swarm.values())
    first, second = (
        {n: states[t + 1][n] != states[t][n] for n in states[0]} for t in (0, 1)
    )
    layers = {p.name: p.layer for p in swarm.experiment.manifest.layout.parameters}
    for name, layer in layers.items():
        assert first[name].any() == (layer in (0, 1, 3))
        assert second[name].any() == (layer in (2, 3))


def test_who_calibrates_moves_frozen_layers_for_all(tmp_path: Path) -> None:
    """And they are the elected peer's own, as nobody else trains them."""
    arguments = {"layers_per_stage": 1, "calibration": "elected"}
    specified = {**SPECIFICATION, **DEEP, "method": "lw-fedssl", "rounds": 4}
    swarm = Swarm.create(
        Experiment.of({**specified, "method_arguments": arguments}), tmp_path
    )
    layout = swarm.experiment.manifest.layout
    for number in range(4):
        before = swarm.values()
        swarm.round(number)
        elected = [p for p, s in swarm.splits(number).items() if not s.frozen]
        assert len(elected) == (3 if number < 2 else 1)
        if number < 2:
            continue
        after = swarm.values()
        assert all((after[p.name] != before[p.name]).any() for p in layout.parameters)
        work = swarm.works[int(elected[0].removeprefix("peer-"))]
        own = np.fromfile(work.path, np.float32)
        assert own.size == layout.size
        start = 0
        for parameter in layout.parameters:
            size = parameter.size
            is_own = own[start : start + size] == after[parameter.name].ravel()
            assert is_own.all() == (parameter.layer in (0, 1))
            start += size


def test_calibration_costs_the_frozen_layers_way_to_everybody() -> None:
    arguments = {"layers_per_stage": 1, "calibration": "elected"}
    plain, calibrated = (
        result(**DEEP, method="lw-fedssl", method_arguments=told)
        for told in ({"layers_per_stage": 1}, arguments)
    )
    assert plain["curve"] != calibrated["curve"]
    for key in ("bytes_per_peer_round", "train_flops_per_peer_round"):
        assert float(str(plain[key])) < float(str(calibrated[key]))


def test_depth_dropout_repeats_and_saves_flops_of_frozen_layers() -> None:
    def layerwise(**arguments: object) -> Data:
        told = {"layers_per_stage": 1, **arguments}
        return result(**DEEP, method="lw-fedssl", method_arguments=told)

    plain, none = layerwise(), layerwise(depth_dropout=0)
    some, again = layerwise(depth_dropout=0.5), layerwise(depth_dropout=0.5)
    assert plain["curve"] == none["curve"] != some["curve"] == again["curve"]
    first, last = plain["curve"], some["curve"]
    assert first[0] == last[0]  # type: ignore[index]
    assert flops(some) == flops(again) < flops(plain) == flops(none)
    assert plain["bytes_per_peer_round"] == some["bytes_per_peer_round"]


def test_depth_dropout_is_for_objectives_without_labels_too() -> None:
    arguments = {**NARROW, "layers": 2, "head_hidden": 8, "head_output": 4}
    specified = {**QUICK, "method": "lw-fedssl", "model_arguments": arguments}
    specified["objective_arguments"] = {"alignment": 1}
    plain, some, again = (
        result(**specified, method_arguments={"layers_per_stage": 1, **told})
        for told in ({}, {"depth_dropout": 0.5}, {"depth_dropout": 0.5})
    )
    assert plain["curve"] != some["curve"] == again["curve"]
    key = "one_view_flops_per_peer_round"
    assert flops(some) < flops(plain)
    assert float(str(some[key])) < float(str(plain[key]))


def test_running_text_has_a_perplexity_at_every_point(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("to be or not to be\n" * 100)
    narrow = {"length": 8, "width": 16, "heads": 4, "layers": 1, "inner": 16}
    found = result(
        model="transformer",
        model_arguments={**narrow, "group": 2},
        data={"kind": "text", "path": str(path)},
        vocabulary={"level": "character"},
        partition={},
    )
    first, last = found["curve"]  # type: ignore[misc]
    assert found["perplexity"] == last["perplexity"] == math.exp(last["test_loss"])
    assert first["perplexity"] > last["perplexity"]
    assert "perplexity" not in result()


def test_images_are_augmented_where_the_manifest_says_so() -> None:
    plain, again = result(), result(augment="none")
    assert plain["curve"] == again["curve"]
    augmented = result(augment="flip-crop")
    assert augmented["curve"] == result(augment="flip-crop")["curve"] != plain["curve"]


PROJECTED = {"hidden": [16, 16], "projection": 8}


def test_clipping_each_tensor_is_another_curve() -> None:
    assert result(clip_relative=0.0)["curve"] == result()["curve"]
    assert result(clip_relative=0.01)["curve"] != result()["curve"]


def test_a_proximal_term_is_another_curve_and_one_of_zero_is_none() -> None:
    plain, none, some = result(), result(proximal=0.0), result(proximal=2)
    assert plain["curve"] == none["curve"] != some["curve"]
    assert flops(plain) == flops(some)
    assert plain["bytes_per_peer_round"] == some["bytes_per_peer_round"]


def test_a_contrast_is_another_curve_from_the_second_round_on() -> None:
    task = result(model_arguments=PROJECTED, rounds=3)
    found = result(model_arguments=PROJECTED, rounds=3, objective="contrastive")
    assert (task["objective"], found["objective"]) == ("task", "contrastive")
    first, second, third = zip(found["curve"], task["curve"], strict=True)  # type: ignore[call-overload]
    assert first[0] == first[1]
    assert second[0]["loss"] > second[1]["loss"]
    assert third[0]["test_loss"] != third[1]["test_loss"]
    none = {"weight": 0}
    without = result(
        model_arguments=PROJECTED,
        rounds=3,
        objective="contrastive",
        objective_arguments=none,
    )
    assert without["curve"] == task["curve"]
    assert flops(without) == flops(task)


@pytest.mark.parametrize("rounds", [1, 2, 4])
@pytest.mark.parametrize("previous", [1, 2])
def test_a_contrast_costs_its_passes(rounds: int, previous: int) -> None:
    """Half of both widths: 64 pixels to 8, to 8, to 10 classes or 8 outputs."""
    hidden, head, projection = 64 * 8 + 8 * 8, 8 * 10, 8 * 8
    task = 3 * (hidden + head)
    costs = [
        task
        if number == 0
        else task + 3 * projection + (1 + min(number, previous)) * (hidden + projection)
        for number in range(rounds)
    ]
    plain = result(model_arguments=PROJECTED, rounds=rounds, eval_every=9)
    found = result(
        model_arguments=PROJECTED,
        rounds=rounds,
        eval_every=9,
        objective="contrastive",
        objective_arguments={"previous": previous},
    )
    assert flops(plain) == 100 * 2 * task  # each peer's share of the 300 examples
    assert flops(found) == pytest.approx(flops(plain) * sum(costs) / (task * rounds))
    assert found["peak_activation_bytes"] >= plain["peak_activation_bytes"]  # type: ignore[operator]


WITHOUT_LABELS: Data = {
    "model": "vit",
    "model_arguments": {
        **{"width": 32, "heads": 4, "layers": 2, "inner": 64, "group": 4, "patch": 7},
        **{"head_hidden": 32, "head_output": 16},
    },
    "data": {"kind": "fashion-mnist"},
    "objective": "moco",
    "split_fraction": "1",
    "method": "fedavg",
    "partition": {"rule": "iid"},
    "rounds": 3,
    "limit": 300,
    "limit_test": 100,
    "probe_labels": 100,
    "batch": 32,
    "optimiser": "adamw",
    "learning_rate": 0.002,
}


@pytest.mark.slow
def test_a_swarm_learns_without_labels(benchmark_data: Path) -> None:
    """Its loss, that is: what encoders are worth, more data and rounds would show."""
    found, again = result(**WITHOUT_LABELS), result(**WITHOUT_LABELS)
    first, _, last = found["curve"]  # type: ignore[misc]
    assert last["loss"] < first["loss"] - 0.1
    found.pop("seconds"), again.pop("seconds")
    assert found == again
    assert found["probe_labels"] == 100
    assert found["accuracy"] == last["accuracy"] and found["loss"] == last["test_loss"]
    one_view = float(str(found["one_view_flops_per_peer_round"]))
    # Two views, and two forward passes of the other branch, without the predictor.
    assert 2.6 < flops(found) / one_view < 8 / 3


NARROW = {"width": 8, "heads": 2, "layers": 1, "inner": 8, "group": 4, "patch": 4}
QUICK: Data = {
    **WITHOUT_LABELS,
    "model_arguments": {**NARROW, "head_hidden": 8, "head_output": 4},
    "data": {"kind": "digits"},
    "rounds": 2,
}


@pytest.mark.parametrize("objective", ["byol", "moco", "simclr"])
def test_encoders_are_looked_at_beside_a_random_one(objective: str) -> None:
    sub = {"method": "heterofl", "split_fraction": "1/2", "objective": objective}
    found = result(**{**QUICK, **sub})
    other = result(**{**QUICK, **sub, "learning_rate": 1e-12})
    for name in ("accuracy", "random_encoder_accuracy"):
        assert 0 < float(str(found[name])) < 1
    assert other["random_encoder_accuracy"] == found["random_encoder_accuracy"]
    assert other["accuracy"] == other["random_encoder_accuracy"]
    assert "fine_tuned_accuracy" not in found
    assert "random_encoder_accuracy" not in result()


def test_an_alignment_is_another_curve_and_is_counted() -> None:
    plain, none, some = (
        result(**QUICK, objective_arguments=arguments)
        for arguments in ({}, {"alignment": 0.0}, {"alignment": 2})
    )
    assert plain["curve"] == none["curve"] != some["curve"]
    assert flops(plain) < flops(some)
    key = "one_view_flops_per_peer_round"
    assert plain[key] == some[key]


def test_encoders_are_fine_tuned_where_it_is_asked_for() -> None:
    found = result(**{**QUICK, "rounds": 1, "fine_tune_labels": 1})
    for name in ("fine_tuned_accuracy", "random_encoder_fine_tuned_accuracy"):
        assert 0 < float(str(found[name])) < 1


def flops(found: Data) -> float:
    return float(str(found["train_flops_per_peer_round"]))


def test_half_precision_on_the_wire_halves_the_bytes() -> None:
    whole, half = result(), result(wire_dtype="float16")
    assert half["bytes_per_peer_round"] == whole["bytes_per_peer_round"] / 2  # type: ignore[operator]
    assert half["accuracy"] == pytest.approx(whole["accuracy"], abs=0.1)


@pytest.mark.parametrize(
    ("wire_dtype", "most"), [("bfloat16", 0.5), ("int8", 0.45), ("top-k", 0.4)]
)
def test_fewer_bytes_train_as_well(wire_dtype: str, most: float) -> None:
    """With the outer momentum, and windows that move."""
    told = {"outer_momentum": 0.6, "rounds": 6}
    whole, less = result(**told), result(**told, wire_dtype=wire_dtype)
    share = float(str(less["bytes_per_peer_round"])) / float(
        str(whole["bytes_per_peer_round"])
    )
    assert 0.25 < share <= most
    assert less["accuracy"] == pytest.approx(whole["accuracy"], abs=0.06)


def test_contributions_count_by_samples_where_the_manifest_says_so() -> None:
    uniform = result(method="fedavg")
    assert result(method="fedavg", weighting="uniform")["curve"] == uniform["curve"]
    assert result(method="fedavg", weighting="samples")["curve"] != uniform["curve"]
    # Of one peer there is nothing to weigh against.
    alone = result(method="fedavg", peers=1)
    weighed = result(method="fedavg", peers=1, weighting="samples")
    assert weighed["accuracy"] == pytest.approx(alone["accuracy"])


def test_evaluations_are_as_rare_as_asked_and_one_is_at_the_end() -> None:
    curve = result(rounds=5, eval_every=2, local_steps=1)["curve"]
    assert [point["round"] for point in curve] == [2, 4, 5]  # type: ignore[attr-defined]


def test_every_record_is_dealt_to_one_peer(tmp_path: Path) -> None:
    swarm = Swarm.create(Experiment.of(SPECIFICATION), tmp_path)
    assert sum(trainer.samples for trainer in swarm.trainers) == 300
    assert len(swarm.test) == 200


def test_one_peer_of_many_shares_trains_on_its_own_only(tmp_path: Path) -> None:
    whole = Swarm.create(Experiment.of(SPECIFICATION), tmp_path)
    alone = Experiment.of({**SPECIFICATION, "peers": 1, "shares": 3})
    (trainer,) = Swarm.create(alone, tmp_path, 1).trainers
    assert trainer.samples == whole.trainers[0].samples
    assert trainer.class_counts == whole.trainers[0].class_counts


def test_participants_are_drawn_anew_for_each_round_and_cost_nothing_else(
    tmp_path: Path,
) -> None:
    chosen = {**SPECIFICATION, "participants": 2, "rounds": 20}
    swarm = Swarm.create(Experiment.of(chosen), tmp_path)
    drawn = [frozenset(swarm.splits(number)) for number in range(20)]
    assert {len(peers) for peers in drawn} == {2}
    assert len(set(drawn)) == 3
    everybody, some = result(method="fedavg"), result(method="fedavg", participants=1)
    # One of three trains in a round; shares differ in size, so the ratio is no third.
    ratio = some["train_flops_per_peer_round"] / everybody["train_flops_per_peer_round"]  # type: ignore[operator]
    assert 0 < ratio < 0.8 and some["curve"] != everybody["curve"]


def test_an_ensemble_costs_as_much_as_its_members() -> None:
    one = result(method="fedavg", local_epochs=2)
    three = result(method="fedavg", local_epochs=2, ensemble=3)
    for key in ("bytes_per_peer_round", "train_flops_per_peer_round"):
        assert three[key] == 3 * one[key]  # type: ignore[operator]
    single = result(method="fedavg", local_epochs=2, ensemble=1)
    assert single["curve"] == one["curve"] != three["curve"]


def test_a_full_forward_pass_of_the_full_split_is_the_plain_training() -> None:
    plain = result(method="fedavg")
    control = result(method="fedavg", full_forward=True)
    assert plain["curve"] == control["curve"]


def test_a_full_forward_pass_trains_no_layer_that_is_frozen() -> None:
    """Who finetunes holds all layers, so it is what finetuning does anyway."""
    tuned: Data = {**DEEP, "method": "layer-finetune", "split_fraction": "1/2"}
    plain, forward = result(**tuned), result(**tuned, full_forward=True)
    for one, other in zip(plain["curve"], forward["curve"], strict=True):  # type: ignore[call-overload]
        assert one["test_loss"] == pytest.approx(other["test_loss"], rel=1e-5)


def test_a_full_forward_pass_costs_what_the_whole_model_costs() -> None:
    cost = "train_flops_per_peer_round"
    whole, control = result(method="fedavg"), result(full_forward=True)
    assert control[cost] == whole[cost] > result()[cost]  # type: ignore[operator]
    assert control["bytes_per_peer_round"] == result()["bytes_per_peer_round"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "nope"}, "nope"),
        ({"method": "nope"}, "nope"),
        ({"method_arguments": {"nope": 1}}, "nope"),
        ({"data": {"kind": "nope"}}, "nope"),
        ({"data": "digits"}, "data"),
        ({"peers": 0}, "peers"),
        ({"peers": "three"}, "peers"),
        ({"rounds": 0}, "rounds"),
        ({"rounds": "two"}, "rounds"),
        ({"split_fraction": "1/1000"}, "too small"),
        ({"split_fraction": 2}, "split fraction"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"schedule": "weekly"}, "schedule"),
        ({"objective": "rest"}, "objective.name: 'rest' is unknown"),
        ({"objective": "contrastive"}, "projection"),
        ({"objective_arguments": {"weight": 1}}, "weight"),
        ({"objective_arguments": "none"}, "objective_arguments"),
        ({"eval_every": 0}, "eval_every"),
        ({"learning_rat": 0.1}, "learning_rat"),
        ({"partition": {"rule": "nope"}}, "nope"),
        ({"shares": 2}, "too few for 3"),
        ({"participants": 4}, "only 3 peers"),
        ({"ensemble": 0}, "ensemble"),
        ({**LAYERWISE, "method_arguments": {"depth_dropout": 1}}, "from 0 to below 1"),
        ({**LAYERWISE, "method_arguments": {"depth_dropout": 0.3}}, "there are none"),
        ({**LAYERWISE, "method_arguments": {"calibration": "all"}}, "none, elected"),
        (
            {
                **{**LAYERWISE, "full_forward": True},
                "method_arguments": {"layers_per_stage": 1, "depth_dropout": 0.3},
            },
            "a full forward pass leaves out no layers",
        ),
        ({"proximal": -1}, "'proximal' is -1.0"),
        (
            {**QUICK, "objective_arguments": {"alignment": "near"}},
            "alignment is 'near'",
        ),
        ({"full_forward": "yes"}, "full_forward"),
        ({"split_fraction": "1/2,2"}, "split fraction"),
        ({"split_fraction": "1/2,"}, "split fraction"),
        ({"split_fraction": "1,1,1,1"}, "4 split fractions are too many for 3"),
        ({"save": 3}, "'save'"),
        ({"save": "/nowhere/at/all.safetensors"}, "/nowhere/at"),
        ({"save": "all.safetensors", "ensemble": 2}, "ensemble"),
        ({"pretrained": ""}, "'pretrained'"),
        ({"pretrained": "/nowhere/at/all.safetensors"}, "no such file"),
        ({"objective": "moco"}, "'moco' needs a model with heads"),
        ({"probe_labels": 5}, "'task' has them"),
        ({"fine_tune_labels": 0}, "fine_tune_labels"),
        ({**QUICK, "ensemble": 2}, "do not answer as an ensemble"),
        ({**QUICK, "full_forward": True}, "for the objective 'task' only"),
    ],
)
def test_a_bad_specification_names_what_is_wrong(changes: Data, told: str) -> None:
    with pytest.raises(P2PFusionError, match=told):
        result(**changes)


@pytest.mark.parametrize("key", ["model", "peers", "split_fraction", "data"])
def test_a_missing_key_is_named(key: str) -> None:
    fields = {k: v for k, v in SPECIFICATION.items() if k != key}
    with pytest.raises(ConfigError, match=f"lacks the key '{key}'"):
        run(fields, lambda message: None)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (json.dumps({**SPECIFICATION, "model": "nope"}), "nope"),
        ("[1]", "not a JSON object"),
    ],
    ids=["model", "list"],
)
def test_what_cannot_be_run_is_said(
    line: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(line + "\n"))
    serve(run)
    (answer,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert answer["failed"]["name"] == "bad-configuration"
    assert told in answer["failed"]["message"]


DIVERGING = {**SPECIFICATION, "learning_rate": 900, "weight_decay": 1, "clip": 0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "name", "told"),
    [
        ("no json", "bad-configuration", "not JSON"),
        (json.dumps(DIVERGING), "non-finite", "diverged"),
    ],
    ids=["text", "diverged"],
)
def test_the_process_says_what_failed(line: str, name: str, told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "p2pfusion.simulation.experiment"],
        input=line + "\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    (answer,) = (json.loads(each) for each in done.stdout.splitlines()[-1:])
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert answer["failed"]["name"] == name
    assert told in answer["failed"]["message"]
