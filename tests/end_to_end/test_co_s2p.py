"""A swarm of real daemons that learns masks, announces them, and closes its rounds with
lists: peers of different strength train one deep model."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.daemon.state import SwarmState
from p2pfusion.methods import announcing
from p2pfusion.store import read_checkpoint
from tests.end_to_end.swarm import QUICK, Swarm, share

pytestmark = [pytest.mark.slow, pytest.mark.soak]

FRACTIONS = (1.0, 0.5, 0.5)
SETTINGS = {
    **QUICK,
    **{"model": "vit-units", "method": "co-s2p", "objective": "exits"},
    "model_arguments": {
        **{"in_channels": 1, "image_size": 8, "patch": 4, "width": 16, "heads": 4},
        **{"layers": 2, "inner": 16, "exits": 2, "classes": 10},
    },
    "method_arguments": {"mask_epochs": 1, "quorum": 1},
    **{"optimiser": "adamw", "learning_rate": 0.005},
    **{"rounds": 12, "rounds_per_epoch": 2, "min_peers": len(FRACTIONS)},
}


def test_peers_of_different_strength_train_a_deep_model(
    swarm: Swarm, tmp_path: Path
) -> None:
    daemons = [
        swarm.add(
            peer={"split_fraction": fraction},
            data=share(number, len(FRACTIONS)),
            swarm=SETTINGS if number == 0 else None,
        )
        for number, fraction in enumerate(FRACTIONS)
    ]
    founder, *others = daemons
    founder.start()
    ticket = founder.ticket(uses=len(others))
    for daemon in others:
        daemon.launch("--join", ticket)
    for daemon in daemons:
        daemon.wait("done")

    exported = []
    for daemon in daemons:
        path = tmp_path / f"{daemon.home.name}.safetensors"
        daemon.ask("export", path=str(path))
        exported.append(read_checkpoint(path)[0])
    for key, value in exported[0].items():
        assert all(np.array_equal(value, each[key]) for each in exported)

    # Everybody knows what everybody has announced.
    known = [(each.home / "swarm" / "facts.msgpack").read_bytes() for each in daemons]
    masks = []
    for daemon, fraction in zip(daemons, FRACTIONS, strict=True):
        state = SwarmState(daemon.home / "swarm")
        announced = state.load_announced(str(Fraction(fraction)))
        manifest = state.load_manifest()
        assert announced and manifest is not None
        method = announcing(manifest.trained_by)
        assert method is not None
        method.check_announced(manifest.layout, Fraction(fraction), announced)
        assert all(announced in facts for facts in known)
        masks.append(announced)
    assert len(set(masks)) == len(masks)
