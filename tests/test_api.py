"""Python's way in, beside what the examples show of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import p2pfusion
from p2pfusion.api import named
from p2pfusion.errors import ConfigError, NotRunningError, P2PFusionError
from p2pfusion.training.tracing import trace

TINY = {"data": "digits", "limit": 60, "limit_test": 40, "peers": 2, "rounds": 1}


def test_a_layout_is_traced_from_a_module() -> None:
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    found = p2pfusion.Layout.trace(module, torch.randn(2, 6))  # type: ignore[attr-defined]
    assert found == trace(module, torch.randn(2, 6)).layout
    assert [(axis.name, axis.size) for axis in found.axes] == [("0", 8)]


@pytest.mark.slow
def test_a_swarm_is_simulated_with_the_command_s_options(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    found = p2pfusion.simulate(
        model="mlp",
        model_arguments={"hidden": [16]},
        split_fraction="1,0.5",
        full_forward=True,
        label_mask=False,
        save=file,
        **TINY,
    )
    assert (found["peers"], found["split_fraction"]) == (2, 0.75)
    assert found["full_model_parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    manifest = json.loads((tmp_path / "model.manifest.json").read_text())
    assert manifest["model_arguments"]["hidden"] == [16] and file.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ({"model": "mlp", "no_such": 3}, 1, "--no-such"),
        ({"model": "none"}, 8, "model 'none' is unknown"),
        ({"model": "mlp", "data": "nothing"}, 8, "nothing"),
    ],
)
def test_what_the_command_refuses_is_raised(
    options: dict[str, object], code: int, text: str
) -> None:
    with pytest.raises(P2PFusionError, match=text) as raised:
        p2pfusion.simulate(**options)  # type: ignore[arg-type]
    assert raised.value.exit_code == code


def test_functions_are_named_as_a_profile_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shed" / "deep").mkdir(parents=True)
    for path in ("__init__.py", "nets.py", "deep/__init__.py"):
        (tmp_path / "shed" / path).write_text("def build():\n    ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    import shed.deep  # type: ignore[import-not-found]
    import shed.nets  # type: ignore[import-not-found]

    here = (str(tmp_path),)
    assert named(shed.nets.build) == ("shed.nets:build", here)
    assert named(shed.deep.build) == ("shed.deep:build", here)
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", str(tmp_path / "script.py"), raising=False)
    monkeypatch.setattr(shed.nets.build, "__module__", "__main__")
    assert named(shed.nets.build) == ("script:build", here)
    with pytest.raises(ConfigError, match="cannot be imported by another process"):
        named(lambda: nn.Identity())


@pytest.mark.slow
def test_a_peer_that_cannot_start_leaves_nothing() -> None:
    peer = p2pfusion.Peer({"data": {"kind": "digits"}, "peer": {"memory": "much"}})
    with pytest.raises(P2PFusionError, match="it must be a size"), peer:
        pytest.fail("the block was entered")
    assert not peer.home.exists()
    with pytest.raises(NotRunningError):
        p2pfusion.connect(peer.home).call("status")


@pytest.mark.slow
def test_a_peer_with_a_home_of_its_own_keeps_it(tmp_path: Path) -> None:
    profile = tmp_path / "peer.toml"
    profile.write_text('[peer]\nname = "me"\n')
    home = tmp_path / "home"
    with p2pfusion.Peer(profile, home=home) as peer:
        status = p2pfusion.connect(home).call("status")
        assert isinstance(status, dict) and status["self"]["id"] == peer.id
    assert (home / "device.key").exists()
    with pytest.raises(NotRunningError):
        peer.ask("status")
