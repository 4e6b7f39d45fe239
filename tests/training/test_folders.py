"""Folders of pictures: which file is which record, and what is wrong with others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.training.data import folders, mapping
from p2pfusion.training.data.examples import Examples
from p2pfusion.training.data.folders import image_folder
from p2pfusion.training.data.mapping import is_mapped

WIDTH, HEIGHT = 6, 4


def picture(light: int, *, grey: bool = False) -> np.ndarray:
    shape = (HEIGHT, WIDTH) if grey else (HEIGHT, WIDTH, 3)
    return np.random.default_rng(light).integers(0, 256, shape, np.uint8)


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def write(directory: Path, classes: str = "ab", count: int = 5) -> list[np.ndarray]:
    """So many pictures for each class; their pixels, in the order of the files."""
    pixels = [picture(number) for number in range(count * len(classes))]
    for number, each in enumerate(pixels):
        save(directory / classes[number // count] / f"{number:02}.png", each)
    return pixels


def loaded(directory: Path, part: str = "train", kept: Path | None = None) -> Examples:
    found = image_folder(str(directory), part, kept)
    assert found is not None
    return found


def test_a_class_is_the_place_of_its_directory(tmp_path: Path) -> None:
    pixels = write(tmp_path)
    train, test = loaded(tmp_path), loaded(tmp_path, "test")
    assert train.labels.tolist() == [0] * 4 + [1] * 4
    assert test.labels.tolist() == [0, 1]
    for found, numbers in ((train, [0, 1, 2, 3, 5, 6, 7, 8]), (test, [4, 9])):
        expected = np.stack([pixels[number] for number in numbers])
        assert np.array_equal(found.images.numpy(), expected.transpose(0, 3, 1, 2))
    inputs, _ = train.batch(torch.arange(8), torch.device("cpu"))
    assert inputs.min() >= -1 and inputs.max() <= 1


def test_the_owner_can_say_what_is_held_out(tmp_path: Path) -> None:
    pixels = write(tmp_path / "train")
    assert image_folder(str(tmp_path), "test") is None
    save(tmp_path / "test" / "b" / "other.png", pixels[0])
    assert len(loaded(tmp_path)) == 10
    assert loaded(tmp_path, "test").labels.tolist() == [1]
    save(tmp_path / "test" / "c" / "other.png", pixels[0])
    with pytest.raises(DataError, match="test/c: no class of that name"):
        loaded(tmp_path, "test")


def test_a_class_without_pictures_counts(tmp_path: Path) -> None:
    write(tmp_path, "bc")
    for name in ("a", "d", ".hidden"):
        (tmp_path / name).mkdir()
    found = loaded(tmp_path)
    assert set(found.labels.tolist()) == {1, 2}
    assert found.traits.classes == 4
    assert found.select(np.array([0])).traits.classes == 4


def test_other_files_are_passed_over_and_directories_inside_are_not(
    tmp_path: Path,
) -> None:
    pixels = write(tmp_path)
    (tmp_path / "notes.txt").write_text("about them")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"\0")
    (tmp_path / "a" / "._00.png").write_bytes(b"\0")
    save(tmp_path / "a" / "deep" / "er.PNG", pixels[0])
    assert len(loaded(tmp_path)) + len(loaded(tmp_path, "test")) == 11


@pytest.mark.parametrize("colours", [0, 1])
def test_pictures_are_grey_if_all_are(tmp_path: Path, colours: int) -> None:
    for number in range(5):
        save(tmp_path / "a" / f"{number}.png", picture(number, grey=number >= colours))
    found = loaded(tmp_path)
    assert found.images.shape == (4, 3 if colours else 1, HEIGHT, WIDTH)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:60])


def sixteen_bits(file: Path) -> None:
    save(file, np.zeros((HEIGHT, WIDTH), np.uint16))


def larger(file: Path) -> None:
    save(file, np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8))


def something_else(file: Path) -> None:
    file.write_text("no picture")


def of_another_form(file: Path) -> None:
    """Pillow would read it, if it were asked to."""
    Image.fromarray(picture(0)).save(file.with_suffix(".ico"))
    file.with_suffix(".ico").rename(file)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (truncate, "03.png: cannot be read"),
        (sixteen_bits, "03.png: has pixels of the form I;16"),
        (larger, "03.png: mixed image sizes: 7 x 4 pixels here, and 6 x 4 in "),
        (something_else, "03.png: cannot be read: UnidentifiedImageError"),
        (of_another_form, "03.png: cannot be read: UnidentifiedImageError"),
    ],
)
@pytest.mark.parametrize("keeps", [False, True])
def test_what_is_wrong_with_a_picture(
    spoil: Callable[[Path], None], told: str, keeps: bool, tmp_path: Path
) -> None:
    pictures, kept = tmp_path / "pictures", tmp_path / "kept"
    write(pictures)
    spoil(pictures / "a" / "03.png")
    with pytest.raises(DataError) as caught:
        loaded(pictures, kept=kept if keeps else None)
    assert told in caught.value.message and "\n" not in caught.value.message
    assert not keeps or [path.name for path in kept.iterdir()] == [".lock"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no pictures"):
        loaded(tmp_path)
    save(tmp_path / "not-in-a-class.png", picture(0))
    with pytest.raises(DataError, match="there are no pictures"):
        loaded(tmp_path)


def test_without_pillow_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigError, match="needs the package pillow") as caught:
        loaded(tmp_path)
    assert "p2pfusion[images]" in caught.value.hint


def test_pixels_are_kept_until_a_picture_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, kept = tmp_path / "pictures", tmp_path / "kept"
    write(pictures)
    first, test = loaded(pictures, kept=kept), loaded(pictures, "test", kept)
    (stays,) = kept.glob("test-*.npy")
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "PIL", None)  # nobody decodes again
        again = loaded(pictures, kept=kept)
    assert torch.equal(first.images, again.images)
    assert torch.equal(test.images, loaded(pictures, "test").images)
    save(pictures / "a" / "00.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (kept / ".train-0.npy.part").write_bytes(b"of a process that was killed")
    changed = loaded(pictures, kept=kept)
    assert not changed.images[0].any()
    assert torch.equal(changed.images[1:], first.images[1:])
    left = {path.name for path in kept.iterdir()}
    assert len(left) == 3 and {".lock", stays.name} < left


@pytest.mark.parametrize("keeps", [False, True])
def test_many_pictures_stay_in_a_file(
    keeps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, kept = tmp_path / "pictures", tmp_path / "kept" if keeps else None
    write(pictures)
    small = loaded(pictures, kept=kept)
    assert small.rows is None and not is_mapped(small.images.numpy())
    for module in (folders, mapping):
        monkeypatch.setattr(module, "MAPPED_FROM_BYTES", 1)
    large = loaded(pictures, kept=kept)
    assert large.rows is not None
    chosen = torch.tensor([6, 1])
    for one, other in zip(
        small.batch(chosen, torch.device("cpu")),
        large.batch(chosen, torch.device("cpu")),
        strict=True,
    ):
        assert torch.equal(one, other)
