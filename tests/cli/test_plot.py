"""The picture of the windows."""

from __future__ import annotations

import builtins
from pathlib import Path

import pytest

from p2pfusion.cli.plot import plot_windows
from p2pfusion.errors import ConfigError
from tests.cli.test_splits import swarm


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")]
)
def test_a_picture_is_written(tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"windows{suffix}"
    plot_windows(swarm("msfusion", ["1/2"] * 3, rounds=4), path)
    content = path.read_bytes()
    assert content.startswith(start)
    if suffix == ".svg":
        # One patch per piece of a window: more than one per axis, round and peer.
        assert content.count(b"<path") > 12 * 4 * 3


def test_without_matplotlib_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError) as caught:
        plot_windows(swarm("fedavg", ["1"]), tmp_path / "x.png")
    assert "p2pfusion[plot]" in caught.value.hint
