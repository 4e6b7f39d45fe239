"""Prog-FedSSL: a model that grows; everything that is there yet is trained.

Source: Tun et al., arXiv 2401.11647, version 4, algorithm 3. Stage s has the first
``s k`` blocks; input layer and head are in every stage.

Differs: ``layers_per_stage`` is 2 and not 1, because the paper's own table has that
ahead of end-to-end training, and 1 behind. The method says which layers are trained,
not on what: the objective is the manifest's, self-supervised in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pfusion.methods.base import PlanContext
from p2pfusion.methods.stages import Stage, check_layers_per_stage, stage_of
from p2pfusion.split.depth import cut_in_depth, depth_split
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split


@dataclass(frozen=True)
class ProgFedSSL:
    """All widths of the layers that the round's stage has. Split fractions are
    ignored."""

    layers_per_stage: int = 2

    def __post_init__(self) -> None:
        check_layers_per_stage(self.layers_per_stage)

    def initial(self, layout: Layout) -> Layout:
        """The same model, cut in depth."""
        return cut_in_depth(layout)

    def split(self, context: PlanContext, round_index: int, rank: int) -> Split:
        """All that is there; the same for all peers."""
        stage = stage_of(context, round_index, self.layers_per_stage)
        layers = context.layout.layers
        held = {*layers[: stage.last + 1], *layers[-1:]}
        frozen = self._frozen(stage, context, round_index, rank)
        return depth_split(context.layout, held, frozen=frozen)

    def _frozen(
        self, stage: Stage, context: PlanContext, round_index: int, rank: int
    ) -> tuple[int, ...]:
        """The layers that this member holds in this round and does not train."""
        return ()
