"""Layer finetuning: peers train the last layers of a pretrained model, each its number.

Source: CAFF (arXiv 2411.07826). Every peer holds all layers, and trains the last t
blocks and the head; what is below is frozen, so that neither activations nor gradients
of it are kept. t follows from the peer's split fraction, under the limit that the
founder chose: what this fraction is of. Peers of different t average each layer among
those who train it, and those who hold it frozen get what came of it.

Differs: the paper has a limit each for memory, upload and computation, in absolute
numbers; here every peer states one number, and one limit counts for all. The last layer
is always trained; the input layer only where all blocks are.

The table of costs and the choice of an architecture are pure functions of layouts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from p2pfusion.errors import ConfigError
from p2pfusion.methods.base import PlanContext
from p2pfusion.methods.stages import block_count
from p2pfusion.split.depth import cut_in_depth, depth_split
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split

LIMITS = ("layers", "upload", "flops")
"""What a split fraction can be of: blocks that are trained, whose activations are kept;
parameters that are trained, which travel; or multiplications."""


@dataclass(frozen=True)
class Costs:
    """What training the last t blocks costs, in parts of training everything."""

    layers: Fraction
    """Trained blocks of all; saved activations are close to this."""
    upload: Fraction
    """Trained parameters of all."""
    flops: Fraction
    """A frozen block computes forwards only, a third of what a trained one does."""

    def under(self, limit: str) -> Fraction:
        """The cost that a limit is about."""
        shares = {"layers": self.layers, "upload": self.upload, "flops": self.flops}
        return shares[limit]


@dataclass(frozen=True)
class LayerFinetune:
    """All widths of all layers; the last ones are trained."""

    limit: str = "layers"

    def __post_init__(self) -> None:
        _check_limit(self.limit)

    def initial(self, layout: Layout) -> Layout:
        """The same model, cut in depth."""
        return cut_in_depth(layout)

    def split(self, context: PlanContext, round_index: int, rank: int) -> Split:
        """The same in every round."""
        layout, allowed = context.layout, context.fractions[rank]
        key = ("layer-finetune", self.limit, allowed)
        if key not in context.kept:
            count = affordable(layout, allowed, self.limit)
            frozen = frozen_layers(layout, count)
            layers = layout.layers
            context.kept[key] = depth_split(layout, layers, frozen=frozen)
        found = context.kept[key]
        assert isinstance(found, Split)
        return found


def frozen_layers(layout: Layout, trained_blocks: int) -> tuple[int, ...]:
    """The layers that are not trained with the last so many blocks."""
    if trained_blocks >= block_count(layout):
        return ()
    return layout.layers[: -1 - trained_blocks]


def costs(layout: Layout, trained_blocks: int) -> Costs:
    """The shares of everything that training the last so many blocks costs.

    Blocks count as equally large, but for the upload, which counts parameters.
    """
    blocks = block_count(layout)
    frozen = set(frozen_layers(layout, trained_blocks))
    if not frozen:
        return Costs(Fraction(1), Fraction(1), Fraction(1))
    sent = sum(p.size for p in layout.parameters if p.layer not in frozen)
    return Costs(
        layers=Fraction(trained_blocks, blocks),
        upload=Fraction(sent, layout.size),
        flops=Fraction(blocks + 2 * trained_blocks, 3 * blocks),
    )


def affordable(layout: Layout, allowed: Fraction, limit: str = LIMITS[0]) -> int:
    """The largest number of trained blocks that costs no more than is allowed; 0 if
    all do, because the head is the least that anybody trains."""
    # Costs rise with the number of blocks. Whoever wrote the layout: it is halved.
    counts = range(1, block_count(layout) + 1)
    return bisect_right(counts, allowed, key=lambda t: costs(layout, t).under(limit))


@dataclass(frozen=True)
class Prospect:
    """What a swarm would train of a model."""

    blocks: int
    trained_blocks: tuple[int, ...]
    """Of each peer."""
    split_fractions: tuple[Fraction, ...]
    """What each can afford, in parts of training this model whole; 1 at most."""

    @property
    def mean(self) -> Fraction:
        """Blocks that a peer trains on average."""
        return Fraction(sum(self.trained_blocks), len(self.trained_blocks))

    @property
    def part(self) -> Fraction:
        """The mean in parts of all blocks; 0 where there are none."""
        return self.mean / max(1, self.blocks)


def prospects(
    candidates: Sequence[Layout],
    limits: Sequence[Fraction],
    limit: str = LIMITS[0],
) -> list[Prospect]:
    """What peers would train of each of some models of different depth.

    ``limits`` has one number for each peer: what it can afford, in parts of what
    training the deepest candidate whole would cost. ``ConfigError`` if there are no
    candidates or no limits.
    """
    _check_limit(limit)
    if not candidates or not limits:
        raise ConfigError("to choose a model takes candidates, and limits of peers")
    deepest = max(candidates, key=block_count)

    def prospect(layout: Layout) -> Prospect:
        scale = _whole_cost(deepest, limit) / _whole_cost(layout, limit)
        fractions = tuple(min(Fraction(1), allowed * scale) for allowed in limits)
        counts = tuple(affordable(layout, each, limit) for each in fractions)
        return Prospect(block_count(layout), counts, fractions)

    return list(map(prospect, candidates))


def choose(found: Sequence[Prospect]) -> int:
    """Which model to finetune: its place in the sequence.

    The one of which the peers train most blocks on average is chosen; of equals the one
    of which they train the larger part, then the first. A deep model can lose, because
    its frozen blocks cost, too.
    """
    return max(range(len(found)), key=lambda n: (found[n].mean, found[n].part, -n))


def _whole_cost(layout: Layout, limit: str) -> Fraction:
    """What training everything costs: parameters, or blocks."""
    if limit == "upload":
        return Fraction(max(1, layout.size))
    return Fraction(max(1, block_count(layout)))


def _check_limit(limit: object) -> None:
    if limit not in LIMITS:
        raise ConfigError(
            f"limit is {limit!r}: it must be one of {', '.join(LIMITS)}",
            hint="layers is close to what training keeps in memory",
        )
