"""Folders of pictures: a directory for each class, as torchvision's ``ImageFolder``.

    PATH/cat/*.png, PATH/dog/*.jpg                  every fifth of a class is held out
    PATH/train/cat/*.png, PATH/test/cat/*.png, ...  the owner has said what is held out

A class is the place of its directory among all in the order of their names; an empty
one counts, so a peer that lacks pictures of a class can keep the others' numbers.
Pictures have one size and 8 bits for each channel; they are grey if all of a part are.

Pillow decodes them, one at a time, into a file that is mapped (``mapping.py``). Where
there is a directory for it, the file stays there for the next start, named by a digest
of all names, sizes and times of change; otherwise it has no name and ends with the
process.
"""

from __future__ import annotations

import fcntl
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.store.files import clear_errors, new_file
from p2pfusion.training.data.benchmarks import needed
from p2pfusion.training.data.examples import Examples, examples
from p2pfusion.training.data.images import held_out
from p2pfusion.training.data.mapping import MAPPED_FROM_BYTES, map_npy
from p2pfusion.training.outside import foreign_code

if TYPE_CHECKING:
    from types import ModuleType

    from PIL.Image import Image

KIND = "image-folder"
ENDINGS = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""Of what counts as a picture; other files may lie beside them."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may take a file for: it knows many more, which few have ever tried."""

GREY = frozenset(("1", "L", "LA"))
COLOUR = frozenset(("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"))
"""Pillow's modes with 8 bits for each channel; opacity is dropped."""


@dataclass(frozen=True)
class _Pictures:
    """The pictures of one part, in the order of their records."""

    files: tuple[Path, ...]
    labels: np.ndarray
    classes: int


def image_folder(
    path: str | None, part: str, kept: Path | None = None
) -> Examples | None:
    """A directory that has one with pictures for each class; None without a test part.

    ``kept``: where decoded pictures may stay for the next time.
    """
    directory = needed(path, KIND, "the directory that has one for each class")
    if not directory.is_dir():
        raise DataError(f"{directory}: not a directory")
    found = _pictures(directory, part)
    if not found.files and part == "test":
        return None
    if not found.files:
        raise DataError(
            f"{directory}: there are no pictures",
            hint=f"kind {KIND} needs a directory for each class, with .png files, "
            ".jpg, or the like",
        )
    pixels = _decoded(found.files, part, kept)
    return examples(pixels, found.labels, str(directory), classes=found.classes)


# --- Which pictures there are --------------------------------------------------------


def _pictures(directory: Path, part: str) -> _Pictures:
    train = directory / "train"
    if not _classes(train):
        found = _listed(directory, _classes(directory))
        chosen = held_out(found.labels) == (part == "test")
        files = tuple(np.array(found.files, dtype=object)[chosen])
        return _Pictures(files, found.labels[chosen], found.classes)
    classes = _classes(train)
    unknown = set(_classes(directory / "test")) - set(classes)
    if unknown:
        raise DataError(
            f"{directory / 'test' / min(unknown)}: no class of that name is in {train}",
            hint="both need the same directories; an empty one is a class, too",
        )
    return _listed(directory / part, classes)


def _classes(directory: Path) -> list[str]:
    if not directory.is_dir():
        return []
    return sorted(
        each.name
        for each in directory.iterdir()
        if each.is_dir() and not each.name.startswith(".")
    )


def _listed(directory: Path, classes: Sequence[str]) -> _Pictures:
    """All pictures below a directory, class by class, in the order of their names."""
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        mine = sorted(f for f in (directory / name).rglob("*") if _is_picture(f))
        files += mine
        labels += [label] * len(mine)
    return _Pictures(tuple(files), np.array(labels, dtype=np.int64), len(classes))


def _is_picture(file: Path) -> bool:
    return (
        file.suffix.lower() in ENDINGS
        and not file.name.startswith(".")
        and file.is_file()
    )


# --- Their pixels --------------------------------------------------------------------


def _decoded(files: Sequence[Path], part: str, kept: Path | None) -> np.ndarray:
    """Pixels (N, H, W) or (N, H, W, 3) in uint8, from a file if they are many."""
    if kept is None:
        with (
            clear_errors(Path(tempfile.gettempdir())),
            tempfile.TemporaryFile() as file,
        ):
            shape, start = _write(file, files)
            file.flush()
            mapped = np.memmap(file, np.uint8, mode="r", offset=start, shape=shape)
        return mapped if mapped.nbytes >= MAPPED_FROM_BYTES else np.array(mapped)
    target = kept / f"{part}-{_digest(files)}.npy"
    with _alone(kept):
        if not target.exists():
            for old in kept.glob(f"*{part}-*"):  # also what a crash has left
                old.unlink()
            with (
                new_file(target, durable=True) as number,
                open(number, "wb", closefd=False) as written,
            ):
                _write(written, files)
        pixels = map_npy(target)
        return np.load(target) if pixels is None else pixels


def _digest(files: Sequence[Path]) -> str:
    """Changes with any picture, as far as the file system can tell."""
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        digest.update(f"{file}\0{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """While others wait: several processes of one trainer load the same pictures."""
    with clear_errors(directory):
        directory.mkdir(exist_ok=True)
        with open(directory / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _write(written: BinaryIO, files: Sequence[Path]) -> tuple[tuple[int, ...], int]:
    """Writes all pixels as numpy would; their shape, and where they begin."""
    pillow = _pillow()
    width, height, mode = _form(pillow, files)
    shape = (len(files), height, width, *((3,) if mode == "RGB" else ()))
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(written, header)
    start = written.tell()
    for file in files:
        with _opened(pillow, file) as picture:
            pixels = np.asarray(picture.convert(mode))
        written.write(pixels.tobytes())
    return shape, start


def _form(pillow: ModuleType, files: Sequence[Path]) -> tuple[int, int, str]:
    """The width and height of all pictures, and the mode that all can have."""
    sizes, modes = [], set()
    for file in files:
        with _opened(pillow, file) as picture:
            sizes.append(picture.size)
            mode = picture.mode
        if mode not in GREY | COLOUR:
            raise DataError(
                f"{file}: has pixels of the form {mode}",
                hint="save pictures with 8 bits for each channel",
            )
        if sizes[-1] != sizes[0]:
            raise DataError(
                f"{file}: mixed image sizes: {_by(sizes[-1])} pixels here, and "
                f"{_by(sizes[0])} in {files[0]}",
                hint="bring all to one size, as examples/image_folder.py does",
            )
        modes.add(mode)
    return *sizes[0], "L" if modes <= GREY else "RGB"


@contextmanager
def _opened(pillow: ModuleType, file: Path) -> Iterator[Image]:
    with (
        foreign_code(f"{file}: cannot be read", DataError),
        pillow.open(file, formats=FORMATS) as picture,
    ):
        yield picture


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError:
        raise ConfigError(
            f"kind {KIND!r} needs the package pillow, which is not installed",
            hint="pip install 'p2pfusion[images]', or convert the pictures to npz",
        ) from None
    return Image
