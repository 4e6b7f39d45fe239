"""A folder of images, one directory for each class, becomes data of a swarm.

    python examples/image_folder.py FOLDER [SIZE] [ROUNDS]

Images of all sizes are cut to squares and brought to SIZE x SIZE (default 16) pixels,
in colour, by Pillow (``pip install p2pfusion[plot]`` brings it). Every fifth is held
out.
What comes of it, ``images.npz``, is what a profile would name:

    [data]
    kind = "npz"
    path = "images.npz"
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import p2pfusion

HELD_OUT = 5
"""Every fifth image."""


def read_folder(folder: Path, size: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (N, C, H, W) in uint8, the class of each, and the names of the classes."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    images, labels = [], []
    for label, name in enumerate(names):
        for path in sorted((folder / name).iterdir()):
            with Image.open(path) as image:
                square = ImageOps.fit(image.convert("RGB"), (size, size))
            images.append(np.asarray(square).transpose(2, 0, 1))
            labels.append(label)
    return np.stack(images), np.array(labels), names


def main(folder: Path, size: int = 16, rounds: int = 8) -> None:
    """Writes ``images.npz`` and trains a swarm on it."""
    images, labels, names = read_folder(folder, size)
    test = np.arange(len(images)) % HELD_OUT == 0
    np.savez(
        "images.npz",
        images=images[~test],
        labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
    )
    print(f"{len(images)} images of {len(names)} classes: {', '.join(names)}")
    found = p2pfusion.simulate(
        model="cnn",
        model_arguments={"channels": [32, 32, 32]},
        data="images.npz",
        peers=2,
        rounds=rounds,
    )
    for point in found["curve"]:
        print(f"round {point['round']}: {point['accuracy']:.1%} of the held-out images")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
