"""Settings of the whole suite: threads, property tests, slow tests, benchmark data.

Torch is not imported here: the variables below reach it, and every process that a test
starts, without costing the tests of the network wing a second each.
"""

from __future__ import annotations

import fcntl
import gc
import os
import random
import signal
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before numpy or torch is imported: all test processes share two cores.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# A shell starts what runs in the background deaf to Ctrl-C, and the programs that the
# tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

BEGUN = time.monotonic()

EXAMPLES = 50
"""Of each property, half of what Hypothesis takes: there are many properties."""

# No deadlines: a busy machine is no bug. In CI the examples follow from the test alone,
# so a failure there fails here too; at a desk every run looks somewhere new.
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "desk",
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``pytest tests/golden --rewrite-golden``, then look at the difference.

    ``--soak`` runs what is marked so, and nothing else. With ``--soak-for`` whatever
    has not begun after so long is skipped, and says so; which files come first is drawn
    from ``--soak-order``, so that over many runs all of them have their turn.
    """
    parser.addoption(
        "--soak", action="store_true", help="run the tests marked soak, and only them"
    )
    parser.addoption(
        "--soak-for", type=float, metavar="SECONDS", help="begin no test after so long"
    )
    parser.addoption(
        "--soak-order", metavar="WORD", help="draw the order of the files from a word"
    )
    parser.addoption(
        "--rewrite-golden",
        action="store_true",
        help="write the files anew that tests compare with what the program makes",
    )


@pytest.fixture
def rewrites_golden(request: pytest.FixtureRequest) -> bool:
    """Whether to write golden files anew."""
    return bool(request.config.getoption("--rewrite-golden"))


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Put slow tests after the quick ones, and those that are alone last of all, with
    their files, which stay in one process: the others have nothing left to do then."""
    soaks = bool(config.getoption("--soak"))
    left_out = [item for item in items if _is(item, "soak") is not soaks]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if _is(item, "soak") is soaks]
    order = config.getoption("--soak-order")
    if order:
        files = sorted({item.path for item in items})
        random.Random(order).shuffle(files)
        items.sort(key=lambda item: files.index(item.path))
    else:
        last = {item.path for item in items if _is(item, "alone")}
        items.sort(
            key=lambda item: [item.path in last, _is(item, "alone"), _is(item, "slow")]
        )


def pytest_collection_finish() -> None:
    """What was collected stays until the end: Python's collector, which took a tenth of
    the time of tests with torch, need not look at it again and again."""
    gc.freeze()


def _is(item: pytest.Item, marker: str) -> bool:
    return item.get_closest_marker(marker) is not None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Here, and not before: a test that is alone has waited for the others."""
    allowed = item.config.getoption("--soak-for")
    if allowed is not None and time.monotonic() - BEGUN > allowed:
        pytest.skip("no time is left for it in this run")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Beside a test that is alone no other one runs, however many processes there are.

    The quick ones take no lock: they are over when the first of those begins, but for
    those that are under way in other processes.
    """
    if not (_is(item, "slow") or _is(item, "alone")):
        return (yield)
    root = item.config.rootpath
    # The kernel lets go of a lock with its file, also when this process dies.
    with (root / "setup.cfg").open() as running:
        # One at a time waits for the others: else the next slow test of the other
        # process would come before one that is alone, again and again.
        with (root / "pyproject.toml").open() as waiting:
            fcntl.flock(waiting, fcntl.LOCK_EX)
            kind = fcntl.LOCK_EX if _is(item, "alone") else fcntl.LOCK_SH
            fcntl.flock(running, kind)
        return (yield)


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """The directory of the benchmark sets; skips the test where there is none."""
    named = os.environ.get("P2PFUSION_DATA")
    if not named:
        pytest.skip("P2PFUSION_DATA is not set: it names the benchmark sets' directory")
    directory = Path(named)
    if not directory.is_dir():
        pytest.skip(f"P2PFUSION_DATA names {named}, which is not a directory")
    return directory
