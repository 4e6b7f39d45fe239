"""The flag that rewrites the golden values."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """``pytest tests/security --rewrite-golden``, then look at the difference."""
    parser.addoption(
        "--rewrite-golden",
        action="store_true",
        help="write tests/security/golden.json anew",
    )


@pytest.fixture
def rewrites_golden(request: pytest.FixtureRequest) -> bool:
    """Whether to write the file anew; the option exists where it was asked for."""
    return bool(request.config.getoption("--rewrite-golden", default=False))
