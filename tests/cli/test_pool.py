"""``pool add`` and ``pool ls``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from p2pfusion.cli.main import main
from p2pfusion.daemon.home import Home
from p2pfusion.store.checksum import file_hash

Capture = pytest.CaptureFixture[str]


def test_a_file_is_added_and_listed(tmp_path: Path, capsys: Capture) -> None:
    file, home = tmp_path / "any.safetensors", Home(tmp_path / "home")
    save_file({"w": np.ones(1234, np.float32)}, file, {"model": "vit"})
    name = file_hash(file)
    assert main(["pool", "ls", "--home", str(home.root)]) == 0
    assert f"Nothing in {home.pool}" in capsys.readouterr().out
    assert main(["pool", "add", str(file), "--home", str(home.root)]) == 0
    assert capsys.readouterr().out == f"{name}\n"
    assert main(["pool", "add", str(file), "--json", "--home", str(home.root)]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert data == {"hash": name, "path": str(home.pool / f"{name}.safetensors")}
    assert main(["pool", "ls", "--home", str(home.root)]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in (name[:16], "vit", "1,234", "yes"))
    Path(data["path"]).write_bytes(b"something else")
    assert main(["pool", "ls", "--home", str(home.root)]) == 0
    assert "NO: damaged" in capsys.readouterr().out
    assert main(["pool", "ls", "--json", "--home", str(home.root)]) == 0
    (row,) = json.loads(capsys.readouterr().out)["data"]["pool"]
    assert (row["hash"], row["verified"]) == (name, False)


def test_a_file_that_cannot_be_used_is_one_line(
    tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "any.safetensors"
    file.write_bytes(b"nothing of the kind")
    home = ["--home", str(tmp_path / "home")]
    assert main(["pool", "add", str(file), *home]) == 11
    assert main(["pool", "add", str(tmp_path / "absent"), *home]) == 8
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "no such file" in lines[1]
