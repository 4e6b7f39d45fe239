"""What most tests with real daemons begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.swarm import Swarm, swarms


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    """A place for the daemons of one test."""
    with swarms() as made:
        yield made
