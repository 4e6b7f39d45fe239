"""MSfusion on a network of your own: ``python examples/own_cnn.py``.

``build`` knows nothing of splits: its module is traced, and each of four peers trains
half of every width of it, on its own, skewed share of the digits.
"""

import sys

from torch import nn

import p2pfusion


def build(classes: int = 10, width: int = 64) -> nn.Module:
    """Three convolutions with GroupNorm for images of one channel."""
    layers: list[nn.Module] = []
    for inputs, stride in ((1, 2), (width, 2), (width, 1)):
        layers += [
            nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False),
            nn.GroupNorm(width // 4, width),
            nn.ReLU(),
        ]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
    return nn.Sequential(*layers, *head)


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    found = p2pfusion.simulate(
        model=build, data="digits", peers=4, split_fraction=0.5, rounds=rounds
    )
    for point in found["curve"]:
        print(f"round {point['round']}: {point['accuracy']:.1%} of the held-out digits")
    print(f"{found['full_model_parameters']:,} parameters in all,")
    print(f"{found['ever_trained_fraction']:.0%} of them trained by somebody,")
    print(f"{found['bytes_per_peer_round']:,.0f} bytes sent per peer and round")
