"""Who trains what in a swarm that may not exist yet: the numbers of ``split show``.

Pure: a layout, a method and a roster in, a report out. All numbers come from ``split``;
here they are only collected for one round and for the run as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from p2pfusion.cli.output import Data
from p2pfusion.methods.base import Method, PlanContext, sharing
from p2pfusion.split.coverage import coverage, ever_trained, traffic
from p2pfusion.split.depth import is_cut_in_depth
from p2pfusion.split.forms import WIRE, Wire
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import ExchangePlan, plan_round
from p2pfusion.split.segment import Split

ELEMENT_BYTES = 4
"""Parameters are kept as float32."""

Splits = dict[str, Split]


@dataclass(frozen=True)
class Swarm:
    """A roster with a method: everything that decides who trains what."""

    context: PlanContext
    method: Method
    names: dict[str, str]
    """What people call the peers, by their id."""
    wire: Wire = WIRE["float32"]
    """What values travel as."""
    is_pretrained: bool = False
    """Whether the model begins with the values of a checkpoint, as far as is known."""
    robust: bool = False
    """Whether a rule looks at the contributions, which are changes then."""
    held: tuple[str, ...] = ()
    """What of a traced model is whole in every split, and why."""

    def splits(self, round_index: int) -> Splits:
        """Every peer's split in a round, by its id, in order of rank."""
        return {
            member.peer: self.method.split(self.context, round_index, rank)
            for rank, member in enumerate(self.context.roster)
        }

    def plans(self, rounds: int) -> Iterator[ExchangePlan]:
        """The plans of the first rounds, as they follow from each other."""
        homes = Homes.initial(self.context.layout)
        following = self.splits(0)
        for round_index in range(rounds):
            current, following = following, self.splits(round_index + 1)
            plan = plan_round(
                self.context.layout,
                seed=self.context.seed,
                round_index=round_index,
                current=current,
                following=following,
                homes=homes,
                among_holders=self.robust
                or sharing(self.method) is not None
                or self.wire.sends_changes,
            )
            homes = plan.homes_after()
            yield plan


def exchanged_bytes(swarm: Swarm, rounds: int) -> int:
    """Bytes that all peers together send in the first rounds, as planned."""
    return sum(
        traffic(plan, peer, wire=swarm.wire).sent_bytes
        for plan in swarm.plans(rounds)
        for peer in plan.peers
    )


def report(swarm: Swarm, round_index: int) -> Data:
    """The data of ``split show``."""
    layout, rounds = swarm.context.layout, swarm.context.rounds
    splits = swarm.splits(round_index)
    covered = coverage(layout, list(splits.values()))
    *_, plan = swarm.plans(round_index + 1)
    at_end = _ever_trained(swarm, rounds)
    return {
        "round": round_index,
        "rounds": rounds,
        "seed": swarm.context.seed,
        "full_model_parameters": layout.size,
        "axes": [
            {"name": axis.name, "size": axis.size, "covered": held.fraction}
            for axis, held in zip(layout.axes, covered.axes, strict=True)
        ],
        "peers": [
            _peer(swarm, plan, rank, splits[member.peer])
            for rank, member in enumerate(swarm.context.roster)
        ],
        "coverage": covered.model.fraction,
        "holders_mean": covered.model.holders_mean,
        "ever_trained_fraction": _ever_trained(swarm, round_index + 1),
        "ever_trained_fraction_at_end": at_end,
        "warnings": [*_uncovered(swarm, splits), *_never(swarm, at_end)],
        "held": list(swarm.held),
    }


def _peer(swarm: Swarm, plan: ExchangePlan, rank: int, split: Split) -> Data:
    layout, member = swarm.context.layout, swarm.context.roster[rank]
    moved = traffic(plan, member.peer, wire=swarm.wire)
    parameters = split.size(layout)
    return {
        "peer": member.peer,
        "name": swarm.names.get(member.peer, member.peer),
        "split_fraction": float(member.split_fraction),
        "frozen": [axis for axis, _ in split.sets if axis in split.frozen],
        "windows": {axis: [list(span) for span in s.ranges] for axis, s in split.sets},
        "parameters": parameters,
        "sub_model_bytes": parameters * ELEMENT_BYTES,
        "sent_bytes": moved.sent_bytes,
        "received_bytes": moved.received_bytes,
    }


def _ever_trained(swarm: Swarm, rounds: int) -> float:
    """What somebody has trained in at least one of the first rounds."""
    seen = (
        [split.trained for split in swarm.splits(index).values()]
        for index in range(rounds)
    )
    return ever_trained(swarm.context.layout, seen).model


def _uncovered(swarm: Swarm, splits: Splits) -> Iterator[str]:
    """Axes that this roster's windows together cannot cover in one round."""
    for axis in swarm.context.layout.widths:
        held = sum(len(split[axis.name]) for split in splits.values())
        if held < axis.size:
            yield (
                f"axis {axis.name!r}: all windows together hold {held} of {axis.size} "
                "indices, too few for a round to cover it; use more peers or larger "
                "split fractions"
            )


def _never(swarm: Swarm, at_end: float) -> Iterator[str]:
    """What nobody ever trains is noise in the whole model, unless it begins silent, or
    pretrained."""
    context = swarm.context
    if at_end == 1.0 or swarm.is_pretrained:
        return
    if is_cut_in_depth(context.layout):
        yield (
            f"after all {context.rounds} rounds only {at_end:.1%} of the parameters "
            "were ever trained, and the rest is noise unless the swarm begins with a "
            "pretrained model"
        )
    elif context.layout.blocks == 1:
        yield (
            f"after all {context.rounds} rounds only {at_end:.1%} of the parameters "
            "were ever trained, and the rest is noise; a small model that every peer "
            "trains whole, with fedavg, measured better than such windows, and so did "
            "msfusion's silent blocks"
        )
