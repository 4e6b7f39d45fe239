"""LW-FedSSL: one layer after the other; what is below the new ones is frozen.

Source: Tun et al., arXiv 2401.11647, version 4, algorithm 1. It is Prog-FedSSL that
leaves alone what earlier stages have trained: the input layer is trained with the first
stage, the head in every one. Frozen layers are held, because activations pass through
them, and never sent: only who was not there when they were trained gets them, from
their homes.

Two additions of the paper's are off unless they are asked for. ``depth_dropout`` (DD in
its table 6) leaves out frozen blocks at random while a peer trains; the method only
says with which chance. ``calibration``, of versions 1 to 3, trains all layers together
once in every round, so that they fit each other.

Differs: the paper calibrates at its server, after the mean, on public data. Without a
server, ``elected`` has one peer of each round train all layers in place of the new ones
alone, on its own data and at the same time as the others: the first by lot of those who
are there. What it makes of frozen layers is the swarm's then, as it is the only one who
trains them, and nobody tests whether they got better. They travel to everybody.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pfusion.errors import ConfigError
from p2pfusion.methods.base import PlanContext
from p2pfusion.methods.prog_fedssl import ProgFedSSL
from p2pfusion.methods.stages import Stage, block_count, stage_count
from p2pfusion.split.layout import Layout
from p2pfusion.split.lots import by_lot

CALIBRATIONS = ("none", "elected")


@dataclass(frozen=True)
class LwFedSSL(ProgFedSSL):
    """The stage's own blocks and the head; all that is there, for who calibrates."""

    depth_dropout: float = 0.0
    """The chance of each frozen block to be left out of a step of training."""
    calibration: str = CALIBRATIONS[0]
    """Who trains frozen layers, too, in the stages after the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_chance(self.depth_dropout)
        if self.calibration not in CALIBRATIONS:
            raise ConfigError(
                f"calibration is {self.calibration!r}: it must be one of "
                + ", ".join(CALIBRATIONS)
            )

    def initial(self, layout: Layout) -> Layout:
        """The same model, cut in depth; ``ConfigError`` if an option is about frozen
        layers, and with so many layers per stage there never are any."""
        # A profile's layout is empty until the trainer has told of the model.
        if layout.parameters and stage_count(layout, self.layers_per_stage) == 1:
            asked = (
                ("depth_dropout", self.depth_dropout > 0),
                ("calibration", self.calibration != CALIBRATIONS[0]),
            )
            for option, is_on in asked:
                if is_on:
                    raise _nothing_frozen(option, self.layers_per_stage, layout)
        return super().initial(layout)

    def _frozen(
        self, stage: Stage, context: PlanContext, round_index: int, rank: int
    ) -> tuple[int, ...]:
        if stage.first == 1 or self._calibrates(context, round_index, rank):
            return ()
        return context.layout.layers[: stage.first]

    def _calibrates(self, context: PlanContext, round_index: int, rank: int) -> bool:
        if self.calibration != "elected":
            return False
        key = ("lw-fedssl calibrator", round_index)
        if key not in context.kept:
            peers = [member.peer for member in context.roster]
            first, *_ = by_lot("calibrator", context.seed, round_index, peers)
            context.kept[key] = first
        return context.kept[key] == context.roster[rank].peer


def _check_chance(value: object) -> None:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not 0 <= value < 1:  # type: ignore[operator]
        raise ConfigError(
            f"depth_dropout is {value!r}: it must be a number from 0 to below 1",
            hint="0.3 leaves out each frozen block in three steps of ten",
        )


def _nothing_frozen(option: str, per_stage: int, layout: Layout) -> ConfigError:
    blocks = block_count(layout)
    return ConfigError(
        f"{option} is about frozen layers, and with {per_stage} layers per stage of a "
        f"model of {blocks} there are none",
        hint=f"set layers_per_stage below {blocks}"
        if blocks > 1
        else f"leave out {option}, or choose a deeper model",
    )
