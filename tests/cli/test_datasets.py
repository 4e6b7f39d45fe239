"""What ``--data`` means."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfusion.cli.datasets import named_data
from p2pfusion.daemon.config import DataSettings
from p2pfusion.errors import DataError


def test_a_word_is_a_kind() -> None:
    assert named_data("fashion-mnist") == DataSettings(kind="fashion-mnist")


def test_paths_show_their_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.npz").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert named_data(str(tmp_path)) == DataSettings(kind="idx", path=str(tmp_path))
    expected = DataSettings(kind="npz", path=str(tmp_path / "mine.npz"))
    assert named_data("mine.npz") == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train-images-idx3-ubyte.gz", "idx"),
        ("data_batch_1.bin", "cifar"),
        ("images.npy", "npz"),
        ("train.tsv.gz", "tsv"),
        ("train.csv", "csv"),
        ("mine.txt", "text"),
        ("cat/0.png", "image-folder"),
        ("train/dog/1.JPG", "image-folder"),
        ("elsewhere", "idx"),
    ],
)
def test_a_directory_shows_its_kind_by_what_it_holds(
    name: str, kind: str, tmp_path: Path
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    assert named_data(str(tmp_path)) == DataSettings(kind=kind, path=str(tmp_path))


def test_a_profile_says_where_a_function_s_data_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = 'partition = { share = "0/2" }\nlimit = 3'
    data = f'[data]\nkind = "garage.data:load"\npath = "mine"\n{share}\n'
    (tmp_path / "mine.toml").write_text(data)
    monkeypatch.chdir(tmp_path)
    expected = DataSettings(kind="garage.data:load", path=str(tmp_path / "mine"))
    assert named_data("mine.toml") == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.txt.gz", "text"), ("b.tsv", "tsv"), ("c.csv.gz", "csv"), ("d.txt", "text")],
)
def test_a_file_shows_its_kind_by_its_ending(
    name: str, kind: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"")
    found = named_data(str(tmp_path / name))
    assert found == DataSettings(kind=kind, path=str(tmp_path / name))


@pytest.mark.parametrize("text", ["no/such/place", "data.zip", "there.pdf"])
def test_anything_else_is_an_error_that_lists_what_works(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.pdf").write_text("")
    with pytest.raises(DataError) as caught:
        named_data(text)
    assert caught.value.message.startswith(f"{text}: ")
    assert ".npz" in caught.value.hint
