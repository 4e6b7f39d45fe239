"""Files decode to what was encoded, and damage is named by file and place."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from p2pfusion.errors import DataError
from p2pfusion.training.data import formats
from p2pfusion.training.data.formats import read_csv, read_idx, read_npz
from tests.training.samples import idx_bytes

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


@given(array=hnp.arrays(np.uint8, SHAPES), compressed=st.booleans())
def test_idx_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, compressed: bool
) -> None:
    path = tmp_path_factory.mktemp("idx") / ("images.gz" if compressed else "images")
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content) if compressed else content)
    found = read_idx(path)
    assert found.shape == array.shape
    assert (found == array).all()


WHOLE = idx_bytes(np.arange(12).reshape(3, 2, 2))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "offset 0: nothing"),
        (b"PK\3\4" + WHOLE, "offset 0: 504b0304"),
        (b"\0\0\x0d\3" + WHOLE[4:], "offset 0"),
        (b"\0\0\x08\5" + WHOLE[4:], "offset 3: 5 dimensions"),
        (WHOLE[:10], "offset 10: the header is cut short"),
        (WHOLE[:-5], "record 1 of 3"),
        (WHOLE + b"x", "goes on after its last record, 2"),
        (b"\0\0\x08\3" + b"\xff" * 12, "more than"),
    ],
)
def test_damaged_idx_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "train-images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_idx(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("cut", [5, 20, -4])
def test_damaged_gzip_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.arange(200)))[:cut])
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_idx(path)
    assert str(path) in caught.value.message


def test_a_gzip_name_over_plain_bytes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(WHOLE)
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (read_idx, read_csv, lambda path: read_npz(path, ("a",))):
        with pytest.raises(DataError, match="nothing-here: no such file"):
            read(tmp_path / "nothing-here")


@given(content=st.binary(max_size=60))
def test_any_bytes_decode_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "file"
    for head in (b"", b"\0\0\x08\1", b"PK\3\4"):
        path.write_bytes(head + content)
        for read in (read_idx, lambda path: read_npz(path, ("images",))):
            try:
                read(path)
            except DataError as error:
                assert str(path) in error.message


def test_npz_gives_the_arrays_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, images=np.arange(6), other=np.zeros(2))
    found = read_npz(path, ("images", "labels"))
    assert list(found) == ["images"]
    assert found["images"].tolist() == list(range(6))


def test_npz_never_unpickles(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, images=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="array 'images' cannot be read"):
        read_npz(path, ("images",))


def test_npz_with_a_member_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    array = io.BytesIO()
    np.save(array, np.zeros(100))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", array.getvalue()[:-30])
    with pytest.raises(DataError, match=r"data\.npz"):
        read_npz(path, ("images",))


def test_npz_that_unpacks_to_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, images=np.zeros(100_000))
    monkeypatch.setattr(formats, "MAX_DATA_BYTES", 10_000)
    with pytest.raises(DataError, match=r"images.npy unpacks to \d+ bytes"):
        read_npz(path, ("images",))


@pytest.mark.parametrize(
    ("text", "said"),
    [("1,2\n3,x\n", "record 1 is not"), ("1,2\n3\n", "record 1 has 1 fields")],
)
def test_damaged_csv_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(DataError, match=said):
        read_csv(path)


def test_csv_gives_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"1,-2\n3,4\n"))
    assert read_csv(path).tolist() == [[1, -2], [3, 4]]
