"""A Python that has torch, numpy and safetensors, and has never heard of p2pfusion."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

_ALONE = """
import importlib.util, sys
sys.path.extend(sys.argv.pop(1).split(":"))
assert importlib.util.find_spec("p2pfusion") is None
"""


def run_clean(code: str, directory: Path, *arguments: str, path: Path) -> str:
    """What the code prints. ``directory``: room for links; ``path``: to import from."""
    links = directory / "site"
    links.mkdir(exist_ok=True)
    for found in Path(sysconfig.get_path("purelib")).iterdir():
        ours = "p2pfusion" in found.name.lower() or found.suffix == ".pth"
        link = links / found.name
        if not ours and not link.exists():
            link.symlink_to(found)
    done = subprocess.run(
        # Isolated, and without the site module, which would bring all packages back.
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            _ALONE + code,
            f"{links}:{path}",
            *arguments,
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
