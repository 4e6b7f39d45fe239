"""A small file system of one test's own, which can be filled and emptied.

A program runs in a mount namespace of its own, with a tmpfs of so many MiB at a
directory; nobody else sees it, and it is gone with the program. That takes root.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MOUNTED = (
    'mount --make-rprivate / && mount -t tmpfs -o size="$0" none "$1" && shift '
    '&& exec "$@"'
)
ROOT = Path(__file__).resolve().parents[1]
BLOCK = bytes(1 << 14)


def _can_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    probe = "mount --make-rprivate / && mount -t tmpfs none /tmp"
    done = subprocess.run(["unshare", "-m", "sh", "-c", probe], capture_output=True)
    return done.returncode == 0


needs_small_disk = pytest.mark.skipif(
    not _can_mount(), reason="needs root, to mount a small file system"
)


def run_on_small_disk(directory: Path, size_mib: int, module: str) -> None:
    """Runs ``python -m module DIRECTORY`` there; what it says if it fails."""
    command = [sys.executable, "-m", module, str(directory)]
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "sh",
            "-c",
            MOUNTED,
            f"{size_mib}m",
            str(directory),
            *command,
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def fill(directory: Path, *, but_bytes: int = 0) -> Path:
    """Fills the file system but for so much; the file that does it."""
    filler = directory / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(BLOCK)
        except OSError as error:
            assert error.errno == errno.ENOSPC
        if but_bytes:
            file.truncate(max(0, file.tell() - but_bytes))
    return filler
