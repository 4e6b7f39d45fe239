"""What most tests with real daemons begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.namespaces import Network, network, why_not
from tests.end_to_end.pages import Machine, machines_in
from tests.end_to_end.swarm import Swarm, swarms


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    """A place for the daemons of one test."""
    with swarms() as made:
        yield made


@pytest.fixture
def net() -> Iterator[Network]:
    """A switch, to which hosts can be connected."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with network() as made:
        yield made


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    """Machines that somebody who follows a page has, by name."""
    with machines_in(tmp_path) as make:
        yield make
