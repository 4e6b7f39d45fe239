"""Accuracy and cost of a swarm that grows while every peer does less.

    python benchmarks/swarm_size.py [--seeds 2] [--minutes 60] [--processes 2]

N peers share one data set and one network (Fashion-MNIST, 64 channels), and each trains
2/N of every width: in every round each block of the model has two peers, whatever N is.
FLOPs of one image are those that a training step was counted to take; beside them is
the closed form, in which a convolution between two cut widths costs the square of the
fraction and the first layer and the classifier its first power. Runs are kept in
``docs/methods.jsonl``, as those of ``methods.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from fractions import Fraction

from arms import TASKS
from runs import Found, Run, collected, do, paired, scores, spread

TASK = "fashion-64"
SIZES = (4, 8, 16, 32)
PEERS_PER_BLOCK = 2
ARMS = ("small", "blocks-1")
IMAGES, CHANNELS, CLASSES = 4000, 64, 10
PLACES = (14 * 14, 7 * 7, 7 * 7)
"""Outputs of the three convolutions, per channel."""

HEAD = (
    "| peers | split fraction | small model, % | silent blocks, % | paired difference "
    "| seeds | FLOPs per image, of the whole model | closed form | sent per peer and "
    "round |\n|---|---|---|---|---|---|---|---|---|"
)


def fraction_of(peers: int) -> Fraction:
    """What each of so many peers trains."""
    return Fraction(PEERS_PER_BLOCK, peers)


def flops_per_image(channels: int) -> int:
    """Forward and twice as much backward, two for each multiplication and addition."""
    first, second, third = PLACES
    products = 9 * (first * channels + (second + third) * channels**2)
    return 3 * 2 * (products + CLASSES * channels)


def table() -> Iterator[str]:
    """Markdown of the sizes that have runs."""
    yield HEAD
    places = collected()
    for peers in SIZES:
        found = places.get((TASK, fraction_of(peers), peers), {})
        if all(arm in found for arm in ARMS):
            yield row(peers, *(found[arm] for arm in ARMS))


def row(peers: int, small: list[Found], blocks: list[Found]) -> str:
    """One size of the swarm."""
    floor, ours = scores(TASKS[TASK], small), scores(TASKS[TASK], blocks)
    differences = paired(ours, floor)
    per_round = float(str(blocks[0]["train_flops_per_peer_round"]))
    whole = flops_per_image(CHANNELS)
    narrow = flops_per_image(int(CHANNELS * fraction_of(peers)))
    cells = (
        *(str(peers), str(fraction_of(peers))),
        *(spread(list(each.values())) for each in (floor, ours)),
        *(spread(differences, sign="+"), str(len(differences))),
        f"{per_round * peers / IMAGES / whole:.4f}",
        f"{narrow / whole:.4f}",
        f"{float(str(blocks[0]['bytes_per_peer_round'])) / 1024:.0f} KiB",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Does what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=60, help="start none later")
    options = parser.parse_args()
    runs = [
        Run(TASK, arm, fraction_of(peers), seed, peers=peers)
        for seed in range(options.seeds)
        for peers in SIZES
        for arm in ARMS
    ]
    do(runs, options.processes, options.minutes)
    print("\n".join(table()))


if __name__ == "__main__":
    main()
