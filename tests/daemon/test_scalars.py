"""The event file of TensorBoard, read by TensorBoard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from p2pfusion.daemon.scalars import CONTRIBUTORS, TAGS, ScalarFile, scalars
from p2pfusion.errors import ConfigError

numbers = st.none() | st.floats(0, 1e9, width=32) | st.integers(0, 2**40)


def row(number: int, **known: object) -> dict[str, object]:
    """A round of ``p2pfusion rounds``, as far as it matters here."""
    return {
        **dict.fromkeys(TAGS.values()),
        "number": number,
        "contributors": ["ann", "bob"],
        **known,
    }


def read(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every tag."""
    found = EventAccumulator(str(directory))
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_what_is_noted_is_read_back(tmp_path: Path) -> None:
    for first in (0, 2):  # a daemon that is started again writes another file
        file = ScalarFile(tmp_path / "new")
        for number in (first, first + 1):
            file.note(row(number, loss=0.5 / (1 + number), sent_bytes=1 << 30))
        file.close()
        for path in (tmp_path / "new").iterdir():
            path.rename(path.with_name(f"{path.name}.{first}"))
    found = read(tmp_path / "new")
    assert found.keys() == {"loss", "traffic/sent_bytes", CONTRIBUTORS}
    assert found["loss"] == [(n, float(np.float32(0.5 / (1 + n)))) for n in range(4)]
    assert found[CONTRIBUTORS] == [(number, 2.0) for number in range(4)]


def test_what_is_known_later_is_read_back_too(tmp_path: Path) -> None:
    file = ScalarFile(tmp_path)
    for number in (0, 1):
        file.note(row(number, loss=0.5))
    file.note({"number": 0, "accuracy": 0.25})
    file.close()
    found = read(tmp_path)
    assert found["accuracy"] == [(0, 0.25)]
    assert found["loss"] == [(0, 0.5), (1, 0.5)]


@given(st.fixed_dictionaries({key: numbers for key in TAGS.values()}))
def test_known_numbers_and_no_others(known: dict[str, object]) -> None:
    found = dict(scalars(row(3, **known)))
    assert found.pop(CONTRIBUTORS) == 2
    assert found == {t: known[k] for t, k in TAGS.items() if known[k] is not None}


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match="--tensorboard: cannot write to"):
        ScalarFile(tmp_path / "taken")


def test_a_disk_that_is_full_later_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = ScalarFile(tmp_path)
    with open("/dev/full", "wb", buffering=0) as full:
        file._file.close()
        file._records._writer = full
        file.note(row(0))
        file.note(row(1))
    assert caplog.text.count("cannot write") == 1, "said once"


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )


def test_it_takes_neither_torch_nor_tensorflow() -> None:
    done = run(
        "import sys, p2pfusion.daemon.scalars\n"
        "assert not {'torch', 'tensorflow', 'grpc'} & set(sys.modules)"
    )
    assert done.returncode == 0, done.stderr


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    done = run(
        "import sys\n"
        "sys.modules['tensorboard'] = None\n"
        "from p2pfusion.cli.main import main\n"
        f"sys.exit(main(['--home', {str(tmp_path / 'home')!r}, 'start', "
        f"'--tensorboard', {str(tmp_path / 'tb')!r}]))"
    )
    assert done.returncode == 8
    assert "pip install 'p2pfusion[tensorboard]'" in done.stderr.splitlines()[-1]
