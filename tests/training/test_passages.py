"""Every token but the first is foretold exactly once, from what stands before it."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.training.data.passages import COUNTED_AT_ONCE, Passages, passages
from p2pfusion.training.data.records import NO_ANSWER
from p2pfusion.training.data.vocabulary import Vocabulary

CPU = torch.device("cpu")
BYTES = Vocabulary("byte")
sizes = st.lists(st.integers(0, 20), min_size=1, max_size=6)


def made(count: int, ends: list[int], length: int, shift: int = 0) -> Passages | None:
    """The token at place p is p + shift."""
    return passages(np.arange(count), ends, BYTES, length=length, shift=shift)


@given(sizes, st.integers(1, 9))
def test_windows_cover_a_text_without_gap_or_overlap(
    sizes: list[int], length: int
) -> None:
    ends = np.cumsum(sizes).tolist()
    found = made(ends[-1], ends, length)
    if ends[-1] < 2:
        assert found is None
        return
    assert found is not None
    inputs, targets = found.batch(torch.arange(len(found)), CPU)
    inside = targets != NO_ANSWER
    assert targets[inside].tolist() == list(range(1, ends[-1]))
    assert (inputs[inside] + 1 == targets[inside]).all()
    assert (inputs[~inside] == 0).all()
    # Nothing of another document is in a window, but for the last target.
    owners = np.searchsorted(ends, np.arange(ends[-1]), "right")
    if len(ends) > 1:
        for row, seen, owner in zip(inputs, inside, found.documents, strict=True):
            assert set(owners[row[seen].numpy()].tolist()) == {owner}


def test_a_single_document_is_dealt_by_windows() -> None:
    found = made(10, [10], 3)
    assert found is not None
    assert found.documents.tolist() == [0, 1, 2]
    assert found.traits.shape == (3,)


def test_the_shift_is_on_tokens_and_not_on_padding() -> None:
    found = made(5, [5], 3, shift=1)
    assert found is not None
    inputs, targets = found.batch(torch.tensor([1]), CPU)
    assert inputs.tolist() == [[4, 0, 0]]
    assert targets.tolist() == [[5, NO_ANSWER, NO_ANSWER]]


def test_answers_are_counted_in_parts() -> None:
    count = COUNTED_AT_ONCE * 2 + 7
    text = np.arange(count + 1) % 5
    found = passages(text, [len(text)], BYTES, length=1)
    assert found is not None and len(found) == count
    expected = np.bincount(text[1:], minlength=8)
    assert found.answer_counts(8).tolist() == expected.tolist()


def test_a_selection_shares_the_text() -> None:
    found = made(50, [20, 50], 4)
    assert found is not None
    chosen = found.select(np.array([2, 7]))
    assert np.shares_memory(chosen.text, found.text)
    assert chosen.documents.tolist() == [0, 1]
