"""Models of other programs: matched by name, converted, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

from p2pfusion.errors import ConfigError, P2PFusionError, VerificationError
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.store import read_checkpoint
from p2pfusion.store.foreign import Wanted, import_model, renamed

LAYOUT = Layout(
    (Axis("a", 8),),
    (
        ParameterSpec("body.w", (Dimension(8, "a"), Dimension(5)), Initial("zeros"), 0),
        ParameterSpec("body.s", (Dimension(1),), Initial("ones"), 0),
        ParameterSpec("head.w", (Dimension(3), Dimension(8, "a")), Initial("zeros"), 1),
    ),
)
WANTED = Wanted(LAYOUT, {"head.tied": "body.w"}, frozenset({"body.mask"}))


def tensors() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "body.w": random.normal(size=(8, 5)).astype(np.float32),
        "body.s": np.array(2.5, np.float32),
        "head.w": random.normal(size=(3, 8)).astype(np.float32),
    }


def imported(tmp_path: Path, **options: object) -> dict[str, np.ndarray]:
    target = tmp_path / "target"
    import_model(tmp_path / "source", target, WANTED, {"model": "m"}, **options)  # type: ignore[arg-type]
    values, metadata = read_checkpoint(target)
    assert metadata["model"] == "m"
    return values


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16"])
def test_values_of_any_precision_become_float32(tmp_path: Path, kind: str) -> None:
    given = {
        name: torch.from_numpy(np.array(value)).to(getattr(torch, kind))
        for name, value in tensors().items()
    }
    save_torch(given, tmp_path / "source")
    found = imported(tmp_path)
    for name, value in given.items():
        assert np.array_equal(found[name].reshape(value.shape), value.float().numpy())


@pytest.mark.parametrize(
    "prefix", ["module.", "model.net.", "_orig_mod."], ids=lambda text: text
)
def test_a_prefix_is_taken_away(tmp_path: Path, prefix: str) -> None:
    given = {prefix + name: value for name, value in tensors().items()}
    given[f"{prefix}body.mask"] = np.ones(3, np.bool_)  # type: ignore[assignment]
    given[f"{prefix}head.tied"] = given[f"{prefix}body.w"]
    save_file(given, tmp_path / "source")
    assert set(imported(tmp_path)) == set(tensors())


@given(
    st.sets(st.from_regex(r"[ab]\.[cd](\.[ef])?", fullmatch=True), min_size=2),
    st.sampled_from(["", "x.", "x.y."]),
    st.booleans(),
)
def test_one_prefix_makes_all_names_known(
    names: set[str], prefix: str, is_added: bool
) -> None:
    longer = {prefix + name for name in names}
    given, known = (names, longer) if is_added else (longer, names)
    assert set(renamed(given, known).values()) == known


def test_a_tied_parameter_may_have_its_other_name_alone(tmp_path: Path) -> None:
    given = tensors()
    given["head.tied"] = given.pop("body.w")
    save_file(given, tmp_path / "source")
    assert np.array_equal(imported(tmp_path)["body.w"], given["head.tied"])


def test_a_head_for_other_classes_begins_anew(tmp_path: Path) -> None:
    given = {**tensors(), "head.w": np.ones((7, 8), np.float32)}
    save_file(given, tmp_path / "source")
    fresh = import_model(tmp_path / "source", tmp_path / "target", WANTED, {})
    assert fresh == ["head.w"]
    assert set(load_file(tmp_path / "target")) == {"body.w", "body.s"}


def test_a_file_in_several_parts_is_read_by_its_index(tmp_path: Path) -> None:
    given, weights = tensors(), {}
    for name, value in given.items():
        save_file({name: value}, tmp_path / f"part-{name}.safetensors")
        weights[name] = f"part-{name}.safetensors"
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weights}))
    import_model(index, tmp_path / "target", WANTED, {})
    found = load_file(tmp_path / "target")
    assert all(np.array_equal(found[n].reshape(v.shape), v) for n, v in given.items())
    index.write_text("{}")
    with pytest.raises(VerificationError, match="is not the index"):
        import_model(index, tmp_path / "target", WANTED, {})


def _without(name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in tensors().items() if key != name}


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (_without("body.w"), ConfigError, r"lacks 1 \(first: body.w of \(8, 5\)\)"),
        (
            {**tensors(), "body.w": np.ones((5, 8), np.float32)},
            ConfigError,
            r"another shape 1 \(first: body.w is \(5, 8\), not \(8, 5\)\)",
        ),
        (
            {**tensors(), "more": np.ones(3, np.float32)},
            ConfigError,
            r"does not know 1 \(first: more\)",
        ),
        (
            {**tensors(), "body.w": np.ones((8, 5), np.int64)},
            ConfigError,
            "body.w is I64, which is none of F64, F32",
        ),
        (
            {**tensors(), "body.s": np.array(np.nan, np.float32)},
            VerificationError,
            "body.s has values that are not finite",
        ),
        (
            {**tensors(), "body.s": np.array(1e300)},
            VerificationError,
            "body.s has values that are not finite",
        ),
    ],
    ids=["lacks", "shape", "unknown", "type", "nan", "large"],
)
def test_what_does_not_fit_is_told(
    tmp_path: Path,
    given: dict[str, np.ndarray],
    error: type[P2PFusionError],
    text: str,
) -> None:
    save_file(given, tmp_path / "source")
    with pytest.raises(error, match=text) as raised:
        imported(tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "target").exists()


def test_what_is_too_much_can_be_left_out(tmp_path: Path) -> None:
    given = {**tensors(), "old.mask": np.ones(3, np.float32)}
    save_file(given, tmp_path / "source")
    assert set(imported(tmp_path, ignored=["old.*"])) == set(tensors())


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "source")
    raw = (tmp_path / "source").read_bytes()
    for length in range(0, len(raw), 7):
        (tmp_path / "source").write_bytes(raw[:length])
        with pytest.raises(VerificationError):
            imported(tmp_path)
