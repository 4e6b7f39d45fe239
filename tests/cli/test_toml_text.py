"""What is written as TOML is read back as the same."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.cli.toml_text import toml_text

# TOML has whole numbers of 64 bits, and no null; neither language has half of a pair.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)
    ),
    max_leaves=6,
)
SECTIONS = st.sampled_from(["peer", "data", "swarm"])


@given(st.dictionaries(SECTIONS, st.dictionaries(TEXTS, VALUES, max_size=4)))
def test_it_reads_back(document: dict[str, dict[str, object]]) -> None:
    assert tomllib.loads(toml_text(document)) == document


def test_none_is_left_out() -> None:
    text = toml_text({"data": {"path": None, "partition": {"a": 1, "b": None}}})
    assert tomllib.loads(text) == {"data": {"partition": {"a": 1}}}
