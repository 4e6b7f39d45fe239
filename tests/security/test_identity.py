"""Ids against plain arithmetic, signatures that bind, keys in files, ids as typed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import zmq
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from p2pfusion.errors import LocalProtocolError, NotFoundError, VerificationError
from p2pfusion.security.identity import (
    ALPHABET,
    ED25519,
    DeviceKey,
    derive,
    find_peer,
    is_peer_id,
    peer_id,
    transport_public,
)
from tests.security import by_hand

seeds = st.binary(min_size=32, max_size=32)
KEY = DeviceKey.from_seed(bytes(range(32)))
OTHERS = [DeviceKey.from_seed(bytes([number] * 32)).peer for number in range(40)]


# --- Ids -----------------------------------------------------------------------------


@given(st.binary(max_size=40))
def test_ids_agree_with_plain_arithmetic(public: bytes) -> None:
    found = peer_id(public)
    assert found == by_hand.peer_id(public)
    assert is_peer_id(found)


def test_every_wrong_character_of_an_id_is_found() -> None:
    right = KEY.peer
    for place, written in enumerate(right):
        for character in ALPHABET + "-0189A ":
            if character != written:
                assert not is_peer_id(right[:place] + character + right[place + 1 :])


@pytest.mark.parametrize(
    "other_form",
    [str.upper, lambda peer: peer.replace("-", ""), lambda peer: f" {peer}"],
)
def test_an_id_has_one_form(other_form: Callable[[str], str]) -> None:
    assert is_peer_id(KEY.peer)
    assert not is_peer_id(other_form(KEY.peer))


@given(st.text() | st.text(ALPHABET + "-", min_size=30, max_size=50))
def test_no_text_makes_the_check_of_ids_fail(text: str) -> None:
    assert is_peer_id(text) is (len(text) == 41 and _is_id_by_hand(text))


def _is_id_by_hand(text: str) -> bool:
    groups = text.split("-")
    bare = "".join(groups)
    return (
        [len(group) for group in groups] == [6] * 6
        and set(bare) <= set(ALPHABET)
        and all(by_hand.luhn_fits(bare[i : i + 9]) for i in range(0, 36, 9))
    )


# --- Ids as people type them ---------------------------------------------------------


@given(st.sampled_from(OTHERS), st.integers(1, 41), st.booleans(), st.booleans())
def test_a_peer_is_found_by_the_beginning_of_its_id(
    peer: str, length: int, capitals: bool, dashes: bool
) -> None:
    typed = peer[:length]
    same = [each for each in OTHERS if each.startswith(typed)]
    typed = typed.upper() if capitals else typed
    typed = typed if dashes else typed.replace("-", " ")
    if same == [peer]:
        assert find_peer(typed, OTHERS) == peer
    else:
        with pytest.raises(NotFoundError, match="several") as caught:
            find_peer(typed, OTHERS)
        assert min(same) in caught.value.message


def test_many_matches_are_counted_and_not_all_named() -> None:
    letter = max(ALPHABET, key=lambda c: sum(peer[0] == c for peer in OTHERS))
    alike = sorted(peer for peer in OTHERS if peer[0] == letter)
    twins = [f"{letter}{place}" for place in "234567"]
    with pytest.raises(NotFoundError) as caught:
        find_peer(letter, [*alike, *twins])
    assert caught.value.message.count(", ") == 4
    assert f"and {len(alike) + 1} more" in caught.value.message


def test_one_peer_named_twice_is_one_peer() -> None:
    assert find_peer(KEY.peer, [KEY.peer, KEY.peer]) == KEY.peer


def test_a_whole_id_that_is_mistyped_is_called_so() -> None:
    other = "a" if KEY.peer[3] != "a" else "b"
    mistyped = KEY.peer[:3] + other + KEY.peer[4:]
    with pytest.raises(NotFoundError, match="check characters"):
        find_peer(mistyped, [KEY.peer])


def test_a_whole_id_of_somebody_else_is_not_called_mistyped() -> None:
    with pytest.raises(NotFoundError, match="no peer"):
        find_peer(OTHERS[0], [KEY.peer])


@pytest.mark.parametrize("typed", ["", " ", "--", "no such peer"])
def test_nothing_typed_finds_nobody(typed: str) -> None:
    with pytest.raises(NotFoundError, match="no peer"):
        find_peer(typed, [KEY.peer])


# --- Keys ----------------------------------------------------------------------------


def test_a_public_key_follows_from_the_seed_as_published() -> None:
    seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert DeviceKey.from_seed(bytes.fromhex(seed)).public == bytes.fromhex(public)


def test_generated_keys_differ() -> None:
    assert DeviceKey.generate().public != DeviceKey.generate().public


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_of_another_length_is_our_mistake(length: int) -> None:
    with pytest.raises(LocalProtocolError):
        DeviceKey.from_seed(bytes(length))


@given(seeds)
def test_a_key_comes_back_from_its_file(seed: bytes) -> None:
    key = DeviceKey.from_seed(seed)
    again = DeviceKey.from_pem(key.to_pem())
    assert (again.public, again.peer) == (key.public, key.peer)
    assert again.to_pem() == key.to_pem()


def test_other_kinds_of_key_files_are_refused() -> None:
    private = Ed25519PrivateKey.generate()
    locked = BestAvailableEncryption(b"password")
    for pem in (
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked),
        private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        generate_private_key(SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        b"",
    ):
        with pytest.raises(VerificationError):
            DeviceKey.from_pem(pem)


@given(
    st.binary(max_size=60),
    st.integers(0, len(KEY.to_pem())),
    st.integers(0, len(KEY.to_pem())),
)
def test_any_file_is_a_key_or_one_error(data: bytes, start: int, end: int) -> None:
    pem = KEY.to_pem()
    with contextlib.suppress(VerificationError):
        DeviceKey.from_pem(data)
    with contextlib.suppress(VerificationError):
        DeviceKey.from_pem(pem[:start] + data + pem[end:])


# --- Signatures ----------------------------------------------------------------------


@given(seeds, st.text("abcdefgh/v1", max_size=20), st.binary(max_size=99))
def test_a_signature_holds_for_its_domain_and_payload(
    seed: bytes, domain: str, payload: bytes
) -> None:
    key = DeviceKey.from_seed(seed)
    signature = key.sign(domain, payload)
    assert len(signature) == 64
    assert signature == key.sign(domain, payload)
    assert ED25519.verify(key.public, domain, payload, signature)
    assert not ED25519.verify(key.public, domain + "x", payload, signature)
    assert not ED25519.verify(key.public, domain, payload + b"x", signature)
    assert not ED25519.verify(KEY.public, domain, payload, signature)


def test_what_is_signed_begins_with_the_program_and_the_domain() -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    assert KEY.sign("record/v1", b"data") == private.sign(b"p2pfusion/record/v1\0data")


def test_every_wrong_bit_breaks_a_signature() -> None:
    payload = b"a statement"
    signature = KEY.sign("record/v1", payload)
    for wrong in by_hand.flipped_bits(signature):
        assert not ED25519.verify(KEY.public, "record/v1", payload, wrong)
    for wrong in by_hand.flipped_bits(payload):
        assert not ED25519.verify(KEY.public, "record/v1", wrong, signature)
    for wrong in by_hand.flipped_bits(KEY.public):
        assert not ED25519.verify(wrong, "record/v1", payload, signature)


@given(
    st.binary(max_size=40) | seeds,
    st.binary(max_size=20),
    st.binary(max_size=80) | st.binary(min_size=64, max_size=64),
)
def test_no_bytes_make_the_check_of_signatures_raise(
    public: bytes, payload: bytes, signature: bytes
) -> None:
    assert isinstance(ED25519.verify(public, "x/v1", payload, signature), bool)
    assert not ED25519.verify(KEY.public, "x/v1", payload, signature)


def test_the_scheme_names_peers_as_keys_do() -> None:
    assert ED25519.peer_id(KEY.public) == KEY.peer == peer_id(KEY.public)


# --- Keys that follow from keys ------------------------------------------------------


@given(seeds, st.binary(max_size=40), st.binary(max_size=40), st.integers(1, 32))
def test_derivation_agrees_with_the_standard(
    secret: bytes, info: bytes, salt: bytes, length: int
) -> None:
    found = derive(secret, info, salt=salt, length=length)
    assert found == by_hand.hkdf(secret, info, salt, length)


@given(seeds, st.sampled_from(["transport", "store", ""]))
def test_secrets_follow_from_the_seed_and_the_purpose(seed: bytes, use: str) -> None:
    key = DeviceKey.from_seed(seed)
    assert key.derived(use) == by_hand.hkdf(seed, f"p2pfusion {use}".encode())
    assert key.derived(use) != key.derived(use + "x")


@given(seeds)
def test_transport_keys_are_those_of_the_transport(secret: bytes) -> None:
    assert z85.encode(transport_public(secret)) == zmq.curve_public(z85.encode(secret))
