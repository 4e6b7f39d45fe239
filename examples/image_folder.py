"""A folder of pictures, one directory for each class, becomes data of a swarm.

    python examples/image_folder.py FOLDER [SIZE] [ROUNDS]

Pictures of all sizes are cut to squares and brought to SIZE x SIZE (default 16) pixels,
in colour, by Pillow (``pip install p2pfusion[images]``), in a folder ``pictures-SIZE``.
Pictures of one size need no such step: their folder is what a profile names.

    [data]
    kind = "image-folder"
    path = "pictures-16"

Every fifth picture of a class is held out to measure accuracy.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageOps

import p2pfusion


def resized(folder: Path, size: int) -> Path:
    """A folder with the same classes, whose pictures have one size."""
    target = Path(f"pictures-{size}")
    for path in sorted(folder.glob("*/*")):
        name = target / path.parent.name / f"{path.name}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as picture:
            ImageOps.fit(picture.convert("RGB"), (size, size)).save(name)
    return target


def main(folder: Path, size: int = 16, rounds: int = 8) -> None:
    """Brings pictures to one size and trains a swarm on them."""
    pictures = resized(folder, size)
    classes = sorted(path.name for path in pictures.iterdir())
    print(f"{pictures}: {len(classes)} classes: {', '.join(classes)}")
    found = p2pfusion.simulate(
        model="cnn",
        model_arguments={"channels": [32, 32, 32]},
        data=str(pictures),
        peers=2,
        rounds=rounds,
    )
    for point in found["curve"]:
        print(f"round {point['round']}: {point['accuracy']:.1%} of the held-out images")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
