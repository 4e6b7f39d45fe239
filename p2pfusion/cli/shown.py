"""The swarm that split show is about: one that is thought about, or the daemon's."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from p2pfusion.cli.connection import ask
from p2pfusion.cli.fields import rows
from p2pfusion.cli.output import Data, settings
from p2pfusion.cli.splits import Swarm
from p2pfusion.errors import IncompatibleError, NotRunningError
from p2pfusion.methods import (
    Member,
    PlanContext,
    build_method,
    initial_layout,
    split_fraction,
)
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.depth import check_depth
from p2pfusion.split.windows import check_fraction


@dataclass(frozen=True)
class Shown:
    """A swarm's manifest, and who is in it."""

    manifest: Manifest
    roster: tuple[Member, ...] = ()
    names: dict[str, str] = field(default_factory=dict)
    """What people call the peers, by their id."""
    held: tuple[str, ...] = ()
    """What of a traced model is whole in every split, and why."""
    now: int = 0
    """The round that it is in."""

    @property
    def titles(self) -> dict[str, str]:
        """What it trains, and how."""
        return {"method": self.manifest.method, "model": self.manifest.model}

    @property
    def swarm(self) -> Swarm:
        """The same for a report."""
        manifest = self.manifest
        context = PlanContext(
            seed=manifest.seed,
            rounds=manifest.rounds,
            layout=manifest.layout,
            roster=self.roster,
        )
        return Swarm(
            context,
            manifest.trained_by,
            self.names,
            manifest.wire,
            is_pretrained=bool(manifest.pretrained),
            robust=manifest.fusion != "mean",
            held=self.held,
        )

    def with_peers(self, count: int, fraction_text: str, where: str) -> Shown:
        """The same with so many peers, who all train this fraction."""
        fraction = split_fraction(fraction_text, where)
        check_fraction(self.manifest.layout, fraction, where)
        roster = tuple(Member(f"peer-{rank}", fraction) for rank in range(count))
        names = {member.peer: member.peer for member in roster}
        return replace(self, roster=roster, names=names)


def planned_swarm(
    titles: Mapping[str, str],
    model_arguments: Data,
    data: Data | None,
    numbers: Mapping[str, int],
) -> Shown:
    """A swarm without peers yet. ``titles``: its method and model; ``data``: what the
    model shall suit, if anything; ``numbers``: further keys of the manifest."""
    from p2pfusion.cli.trainer import describe

    method = build_method(titles["method"], {})
    described = describe(titles["model"], model_arguments, data)
    layout = initial_layout(method, described.layout)
    check_depth(layout, is_deep=described.is_deep)
    manifest = Manifest(
        name="planned",
        model=titles["model"],
        model_arguments=described.arguments,
        vocabulary=described.vocabulary,
        layout=layout,
        method=titles["method"],
        **numbers,  # type: ignore[arg-type]
    )
    return Shown(manifest, held=described.held)


def live_swarm() -> Shown:
    """The swarm of the running daemon."""
    try:
        answer = ask(settings().chosen_home, "plan")
    except NotRunningError as error:
        raise NotRunningError(
            error.message,
            hint=f"{error.hint}; or name a --method and a --model to plan without one",
        ) from None
    try:
        packed = base64.b64decode(str(answer.get("manifest")), validate=True)
    except binascii.Error:
        raise IncompatibleError("the daemon's answer is not a manifest") from None
    manifest = Manifest.from_bytes(packed)
    members = rows(answer, "roster")
    roster = tuple(
        Member(str(m.get("peer")), split_fraction(m.get("split_fraction"), "roster"))
        for m in members
    )
    names = {str(m.get("peer")): str(m.get("name")) for m in members}
    now = answer.get("round")
    latest = min(now, manifest.rounds - 1) if isinstance(now, int) else 0
    return Shown(manifest, roster, names, now=latest)
