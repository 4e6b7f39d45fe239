"""Errors as the user sees them."""

from __future__ import annotations

import errno
import os

import click
import pytest

from p2pfusion import errors
from p2pfusion.cli.output import Failure

EXIT_CODES = {
    errors.P2PFusionError: 1,
    errors.TrainerError: 1,
    errors.NotRunningError: 3,
    errors.NotFoundError: 4,
    errors.WaitTimeoutError: 6,
    errors.UnhealthyError: 7,
    errors.ConfigError: 8,
    errors.DataError: 8,
    errors.IncompatibleError: 9,
    errors.ConflictError: 10,
    errors.VerificationError: 11,
    errors.ResourceError: 12,
}


@pytest.mark.parametrize(("kind", "code"), EXIT_CODES.items(), ids=lambda v: str(v))
def test_every_error_has_its_exit_code(
    kind: type[errors.P2PFusionError], code: int
) -> None:
    failure = Failure.of(kind("it broke", hint="mend it"))
    assert failure == Failure(code, kind.name, "it broke", "mend it")


def test_the_line_says_what_happened_and_what_to_do() -> None:
    failure = Failure(1, "error", "it broke\nin two", "mend it")
    assert failure.line == "p2pfusion: it broke in two; mend it"
    assert Failure(1, "error", "it broke").line == "p2pfusion: it broke"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_has_the_shells_code(error: BaseException) -> None:
    failure = Failure.of(error)
    assert failure is not None and failure.code == 130


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EACCES, 1), (errno.ENOSPC, 12), (errno.EMFILE, 12)]
)
def test_the_systems_errors_name_the_file(number: int, code: int) -> None:
    failure = Failure.of(OSError(number, os.strerror(number), "/some/file"))
    assert failure is not None
    assert failure.code == code
    assert failure.message == f"/some/file: {os.strerror(number)}"


def test_a_bug_is_no_failure_of_the_user() -> None:
    assert Failure.of(ZeroDivisionError("division by zero")) is None
