"""Hostile peers of an experiment: what each attack makes, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pfusion.errors import ConfigError, RemoteProtocolError
from p2pfusion.fusion import check
from p2pfusion.simulation.attacks import ATTACKS, Hostile
from p2pfusion.simulation.attacks.table import LITTLE, NOISE, OPPOSITE, Sight
from p2pfusion.simulation.design import Experiment
from p2pfusion.simulation.experiment import run
from p2pfusion.simulation.swarm import Swarm
from p2pfusion.split.forms import FORMS
from p2pfusion.split.segment import Segment, Split
from p2pfusion.store import Offer, write_offer
from tests.protocol.stage import small_layout

SPECIFICATION: dict[str, object] = {
    "model": "mlp",
    "model_arguments": {"hidden": [16, 16]},
    "data": {"kind": "digits"},
    "partition": {"rule": "dirichlet", "alpha": 5.0},
    "local_epochs": 4,
    "peers": 5,
    "split_fraction": "1",
    "rounds": 3,
    "seed": 3,
    "limit": 300,
    "limit_test": 200,
    "learning_rate": 0.1,
    "method": "fedavg",
}


def result(**changes: object) -> dict[str, object]:
    return run({**SPECIFICATION, **changes}, lambda message: None)


def sight() -> Sight:
    drawn = np.random.default_rng(1)

    def arrays() -> list[np.ndarray]:
        return [
            drawn.normal(size=shape).astype(np.float32) for shape in ((40, 50), (50,))
        ]

    return Sight(arrays(), arrays(), [abs(each) for each in arrays()], arrays(), drawn)


def made(attack: str, seen: Sight) -> list[np.ndarray]:
    found = ATTACKS[attack].change(seen)
    for array, own in zip(found, seen.own, strict=True):
        assert (array.shape, array.dtype) == (own.shape, np.float32)
    return found


@pytest.mark.parametrize(
    ("attack", "times"),
    [
        *(("sign-flip", -1), ("scale-10", 10), ("scale-1000", 1000)),
        *(("free-rider", 0), ("label-flip", 1), ("samples", 1), ("reducer", 1)),
    ],
)
def test_multiples_of_the_own_change(attack: str, times: float) -> None:
    seen = sight()
    for array, own in zip(made(attack, seen), seen.own, strict=True):
        assert np.array_equal(array, np.float32(times) * own)


def test_noise_is_as_large_as_it_says() -> None:
    seen = sight()
    for array, own in zip(made("noise", seen), seen.own, strict=True):
        ratio = np.sqrt(np.mean(array**2) / np.mean(own**2))
        assert 0.5 * NOISE < ratio < 2 * NOISE


def test_what_is_made_of_others_changes() -> None:
    seen = sight()
    little, opposite = made("little-is-enough", seen), made("inner-product", seen)
    for at, mean in enumerate(seen.mean):
        assert np.allclose(little[at], mean - LITTLE * seen.deviation[at])
        assert np.allclose(opposite[at], -OPPOSITE * mean)
    assert made("stale", seen) == seen.first


def test_wrong_coordinates_are_the_same_values_elsewhere() -> None:
    seen = sight()
    for array, own in zip(made("wrong-coordinates", seen), seen.own, strict=True):
        assert not np.array_equal(array, own)
        assert np.array_equal(np.sort(array.ravel()), np.sort(own.ravel()))


@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: form.name)
@pytest.mark.parametrize("attack", ["nan", "inf"])
def test_bytes_that_are_no_numbers_are_refused_in_every_form(
    attack: str, form: object
) -> None:
    send = ATTACKS[attack].sent
    assert send is not None
    payload = send(form, 2 * form.block_bytes)  # type: ignore[arg-type, attr-defined]
    with pytest.raises(RemoteProtocolError, match="not a finite number"):
        check(payload, form.name)  # type: ignore[attr-defined]


def test_a_lying_reducer_goes_the_other_way_and_stays_finite() -> None:
    lie = ATTACKS["reducer"].fused
    assert lie is not None
    old, new = np.array([1, 1], np.float32), np.array([2, 3e38], np.float32)
    assert lie(old, new)[0] == -9
    assert np.isfinite(lie(old, new)).all()


# --- Who is hostile, and what it knows -----------------------------------------------


@pytest.mark.parametrize("changes", [True, False])
def test_attackers_offer_in_the_form_that_all_do(tmp_path: Path, changes: bool) -> None:
    """Changes, or the received values with these added."""
    layout = small_layout()
    split = Split.full(layout)
    received = [np.full(p.shape, 5, np.float32) for p in layout.parameters]
    offered = {}
    for number in range(3):
        path = tmp_path / str(number)
        base = 0 if changes else 5
        arrays = [
            np.full(p.shape, base + number + 1, np.float32) for p in layout.parameters
        ]
        write_offer(path, arrays)
        offered[str(number)] = split, path

    def read(segment: Segment) -> np.ndarray:
        return received[segment.parameter]

    hostile = Hostile("inner-product", ["2"], seed=0, layout=layout, changes=changes)
    hostile.tamper(0, offered, read)
    for peer, change in (("0", 1.0), ("1", 2.0), ("2", -OPPOSITE * 1.5)):
        found = Offer.open(offered[peer][1], layout, split).read_array(0)
        assert np.allclose(found, change if changes else 5 + change)


def test_a_replay_is_what_was_offered_first(tmp_path: Path) -> None:
    layout = small_layout()
    hostile = Hostile("stale", ["0"], seed=0, layout=layout, changes=True)
    split, path = Split.full(layout), tmp_path / "offer"
    for round_index in range(3):
        arrays = [np.full(p.shape, round_index + 1.0) for p in layout.parameters]
        write_offer(path, arrays)
        hostile.tamper(round_index, {"0": (split, path)}, lambda segment: None)  # type: ignore[arg-type, return-value]
        assert (Offer.open(path, layout, split).read_array(0) == 1).all()


def test_attackers_are_drawn_from_the_seed_and_the_same_every_time() -> None:
    peers, layout = [str(number) for number in range(10)], small_layout()

    def drawn(seed: int) -> frozenset[str]:
        found = Hostile.drawn(
            "sign-flip", 2, peers, seed=seed, layout=layout, changes=True
        )
        assert len(found.peers) == 2
        return found.peers

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(5)}) > 1


def test_labels_are_flipped_of_attackers_only(tmp_path: Path) -> None:
    told = {**SPECIFICATION, "attack": "label-flip"}
    swarm = Swarm.create(Experiment.of(told), tmp_path)
    honest = Swarm.create(Experiment.of(SPECIFICATION), tmp_path, 1)
    assert swarm.hostile is not None
    for number, (one, other) in enumerate(
        zip(swarm.trainers, honest.trainers, strict=True)
    ):
        assert one.records.labels is not None and other.records.labels is not None
        wanted = other.records.labels
        if f"peer-{number:04}" in swarm.hostile.peers:
            wanted = 9 - wanted
        assert one.records.labels.tolist() == wanted.tolist()


# --- Experiments ---------------------------------------------------------------------


@pytest.mark.parametrize("fusion", ["clipped", "trimmed", "median", "centred"])
def test_a_thousandfold_change_breaks_the_mean_and_no_rule(fusion: str) -> None:
    attack = {"attack": "sign-flip:1", "rounds": 6}
    honest = float(str(result(fusion=fusion, rounds=6)["accuracy"]))
    held = float(str(result(fusion=fusion, **attack)["accuracy"]))
    broken = result(attack="scale-1000", rounds=6)
    assert honest - held < 0.15
    assert float(str(broken["accuracy"])) < held - 0.15
    assert broken["fusion"] == "mean"


def test_liars_are_found_and_put_out_and_the_same_run_repeats() -> None:
    told = {"fusion": "trimmed", "attack": "sign-flip:1", "quarantine": True}
    first, again = (result(**told, rounds=8) for _ in range(2))
    assert first["attackers"] == first["quarantined"]
    assert first["curve"] == again["curve"]
    without = result(**{**told, "quarantine": False}, rounds=8)
    assert without["quarantined"] == []
    assert without["curve"] != first["curve"]


@pytest.mark.parametrize("attack", ["nan", "inf"])
def test_what_is_no_number_reaches_no_store_and_is_found_at_once(
    tmp_path: Path, attack: str
) -> None:
    told = {**SPECIFICATION, "attack": attack, "fusion": "median", "quarantine": True}
    swarm = Swarm.create(Experiment.of(told), tmp_path)
    assert swarm.hostile is not None
    swarm.round(0)
    assert all(np.isfinite(values).all() for values in swarm.values().values())
    assert swarm.watch.put_out == swarm.hostile.peers


def test_a_lying_reducer_is_found_by_asking_again(tmp_path: Path) -> None:
    told = {**SPECIFICATION, "attack": "reducer", "fusion": "median"}
    told["second_opinions"] = True
    swarm = Swarm.create(Experiment.of({**told, "quarantine": True}), tmp_path)
    assert swarm.hostile is not None
    for number in range(3):
        swarm.round(number)
    assert swarm.watch.put_out == swarm.hostile.peers


MOVING = {"method": "msfusion", "split_fraction": "1/2", "peers": 6, "seed": 1}
"""What half of the peers train others train in the next round; some nobody does."""


def test_what_nobody_needs_next_is_compared_all_the_same(tmp_path: Path) -> None:
    told = {**SPECIFICATION, **MOVING, "fusion": "median", "second_opinions": True}
    swarms = [
        Swarm.create(Experiment.of({**told, **attack}), tmp_path / name)
        for name, attack in (("peace", {}), ("war", {"attack": "reducer"}))
    ]
    old = swarms[0].values()
    for swarm in swarms:
        swarm.round(0)
    peace, war = (swarm.values() for swarm in swarms)
    for name, before in old.items():
        way, apart = peace[name] - before, war[name] - peace[name]
        assert np.abs(apart).max() <= np.abs(way).max(), name


PAIRED = {**MOVING, "peers": 10, "fusion": "trimmed", "seed": 4}
"""Of two liars each backs up, and keeps, some of what the other one reduces."""


def test_what_two_lying_reducers_confirm_to_each_other_is_taken_back(
    tmp_path: Path,
) -> None:
    told = {**SPECIFICATION, **PAIRED, "second_opinions": True, "quarantine": True}
    lying = {**told, "attack": "reducer", "attackers": 2}
    peaceful = Swarm.create(Experiment.of(told), tmp_path / "peace")
    swarm = Swarm.create(Experiment.of(lying), tmp_path / "war")
    old = swarm.values()
    peaceful.round(0)
    swarm.round(0)
    assert swarm.hostile is not None
    assert swarm.watch.put_out == swarm.hostile.peers
    peace, war, kept = peaceful.values(), swarm.values(), 0
    for name, before in old.items():
        way, apart = peace[name] - before, war[name] - peace[name]
        assert np.abs(apart).max() <= np.abs(way).max(), name
        kept += int(((war[name] == before) & (way != 0)).sum())
    assert kept, "nobody else keeps it, or has made it"


@pytest.mark.parametrize("method", [{}, MOVING])
def test_who_repeats_itself_is_found_and_put_out(method: dict[str, object]) -> None:
    told = {"attack": "stale", "fusion": "median", "quarantine": True, "rounds": 8}
    found = result(**method, **told)
    assert found["quarantined"] == found["attackers"]


def test_with_nobody_hostile_nobody_is_a_liar(tmp_path: Path) -> None:
    told = {**SPECIFICATION, "fusion": "median", "quarantine": True, "rounds": 6}
    told["second_opinions"] = True
    swarm = Swarm.create(Experiment.of(told), tmp_path)
    for number in range(6):
        swarm.round(number)
    assert not swarm.watch.put_out


def test_a_broken_model_is_told_without_numbers_that_are_none() -> None:
    found = result(attack="scale-1000:2", rounds=12)
    assert found["accuracy"] is not None
    assert all(
        value is None or np.isfinite(value)
        for point in found["curve"]  # type: ignore[attr-defined]
        for value in point.values()
    )


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"attack": "nonsense"}, "'nonsense' is unknown"),
        ({"attack": "sign-flip:0"}, "does not say how many"),
        ({"attack": "sign-flip:1", "attackers": 2}, "does not say how many"),
        ({"attack": "sign-flip:5"}, "leave nobody else"),
        ({"attackers": 2}, "without an attack"),
        ({"attack": "samples"}, "samples do not count"),
        ({"quarantine": True}, "the mean finds nobody out"),
        ({"quarantine": "yes"}, "no truth value"),
        ({"second_opinions": True}, "does not go with fusion = 'mean'"),
        ({"second_opinions": 1, "fusion": "median"}, "true or false"),
        ({"fusion": "krum"}, "one of mean, clipped"),
        ({"fusion": "median", "method": "co-s2p"}, "fusion means nothing"),
    ],
)
def test_what_means_nothing_is_refused(told: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Experiment.of({**SPECIFICATION, **told})
