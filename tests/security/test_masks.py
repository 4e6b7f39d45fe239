"""Masks: the same numbers from the same seed, other ones from any other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.security.masks import PIECE, add_mask, fingerprint, mask_seed

SEED = bytes(range(32))


@given(st.integers(0, 40), st.binary(min_size=32, max_size=32))
def test_what_is_added_is_taken_away(size: int, seed: bytes) -> None:
    values = np.arange(size, dtype=np.uint32)
    masked = values.copy()
    add_mask(masked, seed)
    assert size < 3 or not np.array_equal(masked, values)
    add_mask(masked, seed, sign=-1)
    np.testing.assert_array_equal(masked, values)


def test_numbers_are_the_key_stream_of_aes_256() -> None:
    """Of a counter that begins at 0, under the key of FIPS 197, C.3."""
    values = np.zeros(8, np.uint32)
    add_mask(values, SEED)
    first_block = "f29000b62a499fd0a9f39a6add2e7780"
    assert values.tobytes()[:16].hex() == first_block


def test_long_masks_go_on_where_they_stopped() -> None:
    size = len(PIECE) // 4 * 2 + 5
    whole, part = np.zeros(size, np.uint32), np.zeros(size // 2, np.uint32)
    add_mask(whole, SEED)
    add_mask(part, SEED)
    np.testing.assert_array_equal(whole[: part.size], part)
    assert np.unique(whole).size > 0.99 * size


def test_every_use_has_a_seed_of_its_own() -> None:
    uses = {
        mask_seed(secret, purpose, context, number)
        for secret in (SEED, SEED[::-1])
        for purpose in ("own", "pair")
        for context in (b"a", b"b")
        for number in (0, 1, 11)
    }
    assert len(uses) == 24 and all(len(seed) == 32 for seed in uses)
    assert fingerprint(SEED) != SEED
    assert fingerprint(SEED) != fingerprint(SEED[::-1])
