"""Who trains what: plans four rounds of a swarm of three, without starting anything.

Run it with ``python examples/plan_a_swarm.py``. A model is data here: two hidden widths
and the parameters that follow them. Every peer computes this same table by itself.
"""

from __future__ import annotations

from fractions import Fraction

from p2pfusion import Layout, Split
from p2pfusion.methods import Member, PlanContext, build_method
from p2pfusion.split.layout import Axis, Dimension, Initial, ParameterSpec

ROUNDS = 4


def two_hidden_layers() -> Layout:
    """A perceptron of 64 inputs, hidden widths 32 and 16, and 10 classes."""
    first, second = Axis("h1", 32), Axis("h2", 16)
    along_first, along_second = Dimension(32, "h1"), Dimension(16, "h2")
    start, zeros = Initial("uniform", 0.1), Initial("zeros")
    return Layout(
        (first, second),
        (
            ParameterSpec("layers.0.weight", (along_first, Dimension(64)), start),
            ParameterSpec("layers.0.bias", (along_first,), zeros),
            ParameterSpec("layers.1.weight", (along_second, along_first), start, 1),
            ParameterSpec("layers.1.bias", (along_second,), zeros, 1),
            ParameterSpec("layers.2.weight", (Dimension(10), along_second), start, 2),
            ParameterSpec("layers.2.bias", (Dimension(10),), zeros, 2),
        ),
    )


def describe(split: Split) -> str:
    """The windows of a split: ``h1 0-15, h2 0-7``."""
    return ", ".join(
        f"{axis} " + " ".join(f"{start}-{stop - 1}" for start, stop in indices.ranges)
        for axis, indices in split.sets
    )


def main() -> None:
    """Prints a line per round and peer."""
    layout = two_hidden_layers()
    roster = (
        Member("laptop", Fraction(1, 2)),
        Member("jetson", Fraction(1, 4)),
        Member("workstation", Fraction(1)),
    )
    context = PlanContext(seed=0, rounds=ROUNDS, layout=layout, roster=roster)
    method = build_method("msfusion", {})
    for round_index in range(ROUNDS):
        print(f"round {round_index}")
        for rank, member in enumerate(roster):
            split = method.split(context, round_index, rank)
            part = split.size(layout) / layout.size
            print(f"  {member.peer:<12} {part:4.0%} of the model: {describe(split)}")


if __name__ == "__main__":
    main()
