"""By which token two peers know each other's passages."""

from __future__ import annotations

import os

import pytest

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.security import passage_token, transport_public
from p2pfusion.security.session import TOKEN_BYTES


def test_both_ends_compute_the_same_and_nobody_else_does() -> None:
    a, b, c = (os.urandom(32) for _ in range(3))
    token = passage_token(a, transport_public(b))
    assert token == passage_token(b, transport_public(a))
    assert len(token) == TOKEN_BYTES
    others = [passage_token(c, transport_public(x)) for x in (a, b)]
    assert token not in others


@pytest.mark.parametrize("public", [bytes(32), b"short", b"\1" + bytes(31)])
def test_what_is_no_key_gives_none(public: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        passage_token(os.urandom(32), public)
