"""The flag that rewrites what these tests compare with files."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """``pytest tests/protocol --rewrite-transcripts``, then look at the difference."""
    parser.addoption(
        "--rewrite-transcripts",
        action="store_true",
        help="write transcripts and generated parts of docs/protocol.md anew",
    )


@pytest.fixture
def rewrites(request: pytest.FixtureRequest) -> bool:
    """Whether to write files anew; the option exists where it was asked for."""
    return bool(request.config.getoption("--rewrite-transcripts", default=False))
