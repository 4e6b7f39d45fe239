"""Keys that are names: what they sign is theirs alone."""

from __future__ import annotations

from p2pfusion.simulation.keys import NAMES, NamedKey, founder


def test_a_key_has_the_id_of_its_name() -> None:
    key = NamedKey("p17")
    assert len(key.public) == 32
    assert NAMES.peer_id(key.public) == key.peer == "p17"
    assert bytes.fromhex(founder("p17")) == key.public


def test_bytes_that_are_no_name_have_an_id_all_the_same() -> None:
    assert NAMES.peer_id(bytes(32)) == "00" * 32
    assert NAMES.peer_id(b"\x01" * 32) == "01" * 32


def test_a_signature_is_good_for_one_key_domain_and_payload() -> None:
    one, other = NamedKey("p1"), NamedKey("p2")
    signature = one.sign("record/v1", b"said")
    assert len(signature) == 64
    assert NAMES.verify(one.public, "record/v1", b"said", signature)
    assert not NAMES.verify(other.public, "record/v1", b"said", signature)
    assert not NAMES.verify(one.public, "start/v1", b"said", signature)
    assert not NAMES.verify(one.public, "record/v1", b"says", signature)
