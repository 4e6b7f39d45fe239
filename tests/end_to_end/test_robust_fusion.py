"""Real daemons that fuse by a rule which withstands liars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.swarm import Swarm, exported

pytestmark = pytest.mark.slow


def test_all_end_with_the_same_model(swarm: Swarm, tmp_path: Path) -> None:
    """That its values are the rule's, ``tests/daemon/test_payloads.py`` says."""
    daemons = swarm.start(4, method="msfusion", rounds=3, fusion="trimmed")
    for daemon in daemons:
        daemon.wait("done")
    first, other = (
        exported(daemon, tmp_path / f"{number}.st")
        for number, daemon in enumerate(daemons[::3])
    )
    trained = 0
    for name, values in first.items():
        np.testing.assert_array_equal(values, other[name])
        assert np.isfinite(values).all()
        trained += int(np.count_nonzero(values))
    assert trained
