"""Finetuning the last layers of a file: ``python examples/finetune_layers.py``.

First one peer trains a whole vision transformer on 200 digits, which stands for a model
that somebody has published. Then a swarm begins with that file: each peer trains as
many of the last layers as its split fraction allows, on its own share of all digits.
"""

from __future__ import annotations

import sys
from pathlib import Path

import p2pfusion

MODEL = {"width": 32, "heads": 4, "layers": 4, "inner": 64, "group": 4}
SAME = {"model": "vit", "model_arguments": MODEL, "data": "digits"}


def main(rounds: int) -> None:
    """Pretrains, finetunes, and says what both are worth on held-out digits."""
    file = Path("pretrained.safetensors").absolute()
    before = p2pfusion.simulate(
        **SAME,
        method="fedavg",
        split_fraction=1,
        peers=1,
        limit=200,
        rounds=rounds,
        save=file,
    )
    print(f"pretrained on 200 digits: {before['accuracy']:.1%}, in {file.name}")
    after = p2pfusion.simulate(
        **SAME,
        method="layer-finetune",
        pretrained=file,
        split_fraction="0.5,0.25",  # a strong peer, a weak one, a strong one, ...
        peers=4,
        rounds=rounds,
    )
    for point in after["curve"]:
        print(f"round {point['round']}: {point['accuracy']:.1%}")
    print(f"{after['bytes_per_peer_round']:,.0f} bytes sent per peer and round")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
