"""Fields of a request are checked, and every failure becomes one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.training.request import Request, failure

REQUEST = Request(
    {
        "text": "a",
        "whole": 3,
        "number": 0.5,
        "table": {"x": 1},
        "true": True,
        "nan": float("nan"),
        "huge": 1e300,
        "negative": -1,
    }
)


def test_good_fields_are_given_out() -> None:
    assert REQUEST.text("text") == "a"
    assert REQUEST.whole("whole") == 3
    assert REQUEST.number("number") == 0.5
    assert REQUEST.number("whole") == 3.0
    assert REQUEST.table("table") == {"x": 1}
    assert REQUEST.table("missing") == {}


@pytest.mark.parametrize(
    ("take", "key"),
    [
        (REQUEST.text, "whole"),
        (REQUEST.text, "missing"),
        (REQUEST.whole, "number"),
        (REQUEST.whole, "true"),
        (REQUEST.whole, "negative"),
        (REQUEST.number, "text"),
        (REQUEST.number, "true"),
        (REQUEST.number, "nan"),
        (REQUEST.number, "huge"),
        (REQUEST.number, "negative"),
        (REQUEST.table, "text"),
    ],
)
def test_bad_fields_are_named(take: Callable[[str], object], key: str) -> None:
    with pytest.raises(ConfigError, match=f"trainer request: {key} is "):
        take(key)


def test_a_failure_carries_name_message_and_hint() -> None:
    error = DataError("file f, record 3: bad", hint="fetch it again")
    assert failure("setup", error) == {
        "failed": "setup",
        "error": {
            "name": "bad-data",
            "message": "file f, record 3: bad",
            "hint": "fetch it again",
        },
    }


CARD = " of the graphics card"


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (MemoryError(), ""),
        (RuntimeError("[enforce fail] can't allocate memory: 8 bytes"), ""),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), CARD),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling it"), CARD),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), CARD),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), CARD),
        (RuntimeError("Invalid buffer size: 12.50 GiB"), CARD),
    ],
)
def test_memory_that_ran_out_is_resources(error: Exception, where: str) -> None:
    assert failure("train", error)["error"] == {
        "name": "out-of-memory",
        "message": f"the trainer ran out of memory{where}",
        "hint": "lower the split fraction or the batch size",
    }


def test_a_real_allocation_that_fails_is_resources() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert "out-of-memory" in str(failure("train", caught.value))


def test_a_bug_is_internal_and_leaves_its_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = failure("train", KeyError("x"))
    assert line["error"] == {"name": "internal", "message": "KeyError: 'x'", "hint": ""}
    captured = capsys.readouterr()
    assert "KeyError" in captured.err
    assert not captured.out
