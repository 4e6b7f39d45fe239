"""Large arrays stay in their file, and give what reading would give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from p2pfusion.errors import DataError
from p2pfusion.training.data import mapping
from p2pfusion.training.data.formats import read_idx, read_npz
from p2pfusion.training.data.images import npz
from p2pfusion.training.data.mapping import MAPPED_FROM_BYTES, is_mapped, map_npz_member
from tests.end_to_end.programs import ROOT
from tests.training.samples import idx_bytes

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 7, 5, 3), np.uint8)
LABELS = np.arange(60) % 4


def lies_in(tensor: torch.Tensor, directory: Path) -> bool:
    """Whether its values are pages of a file of this directory."""
    place = tensor.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= place < end:
            return str(directory) in line
    raise AssertionError("the tensor is nowhere")


@pytest.fixture
def small_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the arrays of these tests large ones."""
    monkeypatch.setattr(mapping, "MAPPED_FROM_BYTES", 1000)


@pytest.mark.usefixtures("small_threshold")
@pytest.mark.parametrize("form", ["stored", "packed", "directory", "floats", "fortran"])
def test_images_are_the_same_mapped_or_read(form: str, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    images = IMAGES / np.float32(255) if form == "floats" else IMAGES
    if form == "directory":
        np.save(tmp_path / "images.npy", images)
        np.save(tmp_path / "labels.npy", LABELS)
        path = tmp_path
    elif form == "packed":
        np.savez_compressed(path, images=images, labels=LABELS)
    else:
        ordered = np.asfortranarray(images) if form == "fortran" else images
        np.savez(path, images=ordered, labels=LABELS)
    found = npz(str(path), "train")
    assert found is not None
    in_file = form in ("stored", "directory", "floats")
    assert lies_in(found.images, tmp_path) == in_file == (found.rows is not None)
    batch, labels = found.batch(torch.tensor([3, 59]), CPU)
    expected = torch.from_numpy(images[[3, 59]]).permute(0, 3, 1, 2).float()
    if form != "floats":
        expected = expected * (2.0 / 255) - 1.0
    torch.testing.assert_close(batch, expected)
    assert batch.is_contiguous()
    assert labels.tolist() == [3, 3]


@pytest.mark.usefixtures("small_threshold")
def test_a_share_of_mapped_images_is_a_list_of_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=LABELS)
    found = npz(str(tmp_path / "data.npz"), "train")
    assert found is not None
    share = found.select(np.arange(10, 50)).select(np.array([7, 0]))
    assert share.images is found.images
    assert len(share) == 2
    assert torch.equal(
        share.batch(torch.arange(2), CPU)[0],
        found.batch(torch.tensor([17, 10]), CPU)[0],
    )
    assert share.labels.tolist() == [1, 2]


@pytest.mark.usefixtures("small_threshold")
def test_a_plain_idx_file_is_mapped_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(idx_bytes(IMAGES[..., 0]))
    found = read_idx(path)
    assert is_mapped(found)
    assert (found == IMAGES[..., 0]).all()
    path.write_bytes(idx_bytes(IMAGES[..., 0]) + b"\0")
    with pytest.raises(DataError, match="goes on after its last record"):
        read_idx(path)
    path.write_bytes(idx_bytes(IMAGES[..., 0])[:-1])
    with pytest.raises(DataError, match="ends inside record 59"):
        read_idx(path)


@pytest.mark.usefixtures("small_threshold")
def test_what_cannot_be_mapped_is_left_to_reading(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, words=np.array(["a" * 300] * 10), images=IMAGES)
    assert map_npz_member(path, "words") is None
    assert map_npz_member(path, "nothing") is None
    (tmp_path / "images.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(DataError, match=r"images\.npy: cannot be read"):
        read_npz(tmp_path, ("images",))


def test_small_arrays_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=LABELS)
    found = npz(str(tmp_path / "data.npz"), "train")
    assert found is not None and found.rows is None
    assert not is_mapped(found.images.numpy())


BOUNDED = """
import resource, sys
import torch
from p2pfusion.training.data import DataOptions, load, own_records
from p2pfusion.training.data.partition import Partition
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
options = DataOptions("npz", sys.argv[1], Partition("iid", 0, 2))
records, _ = own_records(load(options, "train"), options, 0)
for chosen in torch.arange(512).split(32):
    records.batch(chosen, torch.device("cpu"))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(records), (after - before) * 1024)
"""


def test_a_share_of_a_large_set_takes_little_memory(tmp_path: Path) -> None:
    """Half of 128 MiB of images: copying or reading them would take at least 64 MiB."""
    path = tmp_path / "images.npy"
    shape = (1 << 15, 64, 64)
    made = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    made[:: 1 << 10] = 200
    del made
    np.save(tmp_path / "labels.npy", np.arange(shape[0]) % 10)
    assert np.prod(shape) > MAPPED_FROM_BYTES
    run = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    count, grown_bytes = (int(word) for word in run.stdout.split())
    assert count == 1 << 14
    assert grown_bytes < 40 << 20
