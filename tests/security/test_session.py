"""Two ends that agree, frames that open in their place only, and keys by the book."""

from __future__ import annotations

import contextlib
import platform
import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.security.session import (
    AES,
    CHACHA,
    CIPHERS,
    OVERHEAD_BYTES,
    End,
    ExchangeKey,
    PlainSession,
    Session,
    cipher_for,
    preferred_cipher,
)
from tests.security import by_hand

SECRETS = bytes([1] * 32), bytes([2] * 32)
payloads = st.binary(max_size=200)


def ends(
    ciphers: Sequence[str] = (AES, AES), incarnations: Sequence[int] = (3, 4)
) -> list[End]:
    rows = zip(("anna", "bert"), SECRETS, incarnations, ciphers, strict=True)
    return [
        End(peer, ExchangeKey.from_bytes(secret).public, incarnation, cipher)
        for peer, secret, incarnation, cipher in rows
    ]


def two(
    *,
    ciphers: Sequence[str] = (AES, AES),
    incarnations: Sequence[int] = (3, 4),
    swarm: str = "swarm",
    rekey_after: int = 1 << 32,
) -> tuple[Session, Session]:
    """The sessions of both sides."""
    first, second = ends(ciphers, incarnations)
    keys = [ExchangeKey.from_bytes(secret) for secret in SECRETS]
    return (
        Session(keys[0], first, second, swarm=swarm, rekey_after=rekey_after),
        Session(keys[1], second, first, swarm=swarm, rekey_after=rekey_after),
    )


def opened(session: Session, frames: Sequence[bytes]) -> list[bytes]:
    """A message's frames, opened."""
    head = session.open_head(frames[0])
    if len(frames) == 1:
        return [head]
    room = bytearray(len(frames[1]) - session.overhead_bytes)
    session.open_payload(frames[1], memoryview(room))
    return [head, bytes(room)]


def refuses_head(session: Session, frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        session.open_head(frame)


def refuses_payload(session: Session, frame: bytes) -> None:
    """Refused, and nothing of it is left behind."""
    room = bytearray(max(0, len(frame) - OVERHEAD_BYTES))
    with pytest.raises(RemoteProtocolError):
        session.open_payload(frame, memoryview(room))
    assert not any(room)


# --- Both ends -----------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.booleans(), payloads, st.none() | payloads), max_size=12),
    st.tuples(st.sampled_from(CIPHERS), st.sampled_from(CIPHERS)),
    st.integers(1, 5),
)
def test_what_one_side_seals_the_other_opens(
    messages: list[tuple[bool, bytes, bytes | None]],
    ciphers: tuple[str, str],
    rekey_after: int,
) -> None:
    sides = two(ciphers=ciphers, rekey_after=rekey_after)
    for forth, head, payload in messages:
        sender, receiver = sides if forth else sides[::-1]
        frames = [head] if payload is None else [head, payload]
        sealed = sender.seal([memoryview(frame) for frame in frames])
        assert len(sealed[0]) == 8 + len(head) + OVERHEAD_BYTES
        assert all(len(frame) >= OVERHEAD_BYTES for frame in sealed)
        assert opened(receiver, sealed) == frames


@given(st.sampled_from(CIPHERS), st.sampled_from(CIPHERS))
def test_both_sides_agree_on_tokens(first: str, second: str) -> None:
    anna, bert = two(ciphers=(first, second))
    assert anna.sending_token == bert.receiving_token
    assert bert.sending_token == anna.receiving_token
    assert len({anna.sending_token, bert.sending_token}) == 2
    assert {len(anna.sending_token), len(bert.sending_token)} == {8}


def test_every_difference_gives_other_tokens_and_keys() -> None:
    sessions = [
        two()[0],
        two(incarnations=(3, 5))[0],
        two(incarnations=(4, 4))[0],
        two(incarnations=(4, 3))[0],
        two(swarm="other")[0],
    ]
    first, second = ends()
    stranger = End("carl", second.public, 4, AES)
    sessions.append(
        Session(ExchangeKey.from_bytes(SECRETS[0]), first, stranger, swarm="swarm")
    )
    other = ExchangeKey.from_bytes(bytes([3] * 32))
    me = End("anna", other.public, 3, AES)
    sessions.append(Session(other, me, second, swarm="swarm"))
    count = len(sessions)
    assert len({session.sending_token for session in sessions}) == count
    assert len({session.receiving_token for session in sessions}) == count
    assert len({session.seal([b"head"])[0] for session in sessions}) == count
    frame = sessions[0].seal([b"head"])[0]
    for receiver in (two(incarnations=(3, 5))[1], two(swarm="other")[1]):
        refuses_head(receiver, frame)


def test_a_frame_does_not_open_where_it_came_from() -> None:
    anna, bert = two()
    frame = anna.seal([b"head"])[0]
    refuses_head(anna, frame)
    assert bert.open_head(frame) == b"head"


# --- By the book ---------------------------------------------------------------------


def joined(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">H", len(part)) + part for part in parts)


@given(
    st.permutations(["anna", "bert"]),
    st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)),
    st.sampled_from(CIPHERS),
    st.integers(1, 4),
)
def test_keys_tokens_and_nonces_follow_the_description(
    names: list[str], incarnations: tuple[int, int], cipher: str, rekey_after: int
) -> None:
    keys = [X25519PrivateKey.from_private_bytes(secret) for secret in SECRETS]
    publics = [key.public_key().public_bytes_raw() for key in keys]
    me, other = (
        End(name, public, incarnation, cipher)
        for name, public, incarnation in zip(names, publics, incarnations, strict=True)
    )
    exchange = ExchangeKey.from_bytes(SECRETS[0])
    session = Session(exchange, me, other, swarm="swarm", rekey_after=rekey_after)

    shared = keys[0].exchange(X25519PublicKey.from_public_bytes(publics[1]))
    salt = b"".join(public for _, public in sorted(zip(names, publics, strict=True)))
    numbers = [struct.pack(">Q", number) for number in incarnations]
    way = joined(b"swarm", *(name.encode() for name in names), *numbers)
    token = by_hand.hkdf(shared, joined(b"p2pfusion data token/v1", way), salt, 8)
    assert session.sending_token == token
    kind = AESGCM if cipher == AES else ChaCha20Poly1305
    for counter in range(1, 8):
        frames = session.seal([b"head", b"payload"])
        generation = struct.pack(">Q", counter // rekey_after)
        info = joined(b"p2pfusion data/v1", way, generation)
        key = kind(by_hand.hkdf(shared, info, salt))
        start = struct.pack(">Q", counter)
        nonces = [struct.pack(">I", part) + start for part in (0, 1)]
        assert frames == [
            start + key.encrypt(nonces[0], b"head", None),
            key.encrypt(nonces[1], b"payload", None),
        ]


@pytest.mark.parametrize("ciphers", [(AES, CHACHA), (CHACHA, AES), (CHACHA, CHACHA)])
def test_one_side_without_aes_decides(ciphers: tuple[str, str]) -> None:
    frames = [two(ciphers=pair)[0].seal([b"head"])[0] for pair in (ciphers, (AES, AES))]
    assert frames[0] == two(ciphers=(CHACHA, CHACHA))[0].seal([b"head"])[0]
    assert frames[0] != frames[1]


# --- What is refused -----------------------------------------------------------------


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_wrong_bit_is_found_and_changes_nothing(cipher: str) -> None:
    anna, bert = two(ciphers=(cipher, cipher))
    opened(bert, anna.seal([b"before"]))
    head, payload = anna.seal([b"the head", b"the payload of a chunk"])
    for wrong in by_hand.flipped_bits(head):
        refuses_head(bert, wrong)
    assert bert.open_head(head) == b"the head"
    for wrong in by_hand.flipped_bits(payload):
        refuses_payload(bert, wrong)
    room = bytearray(len(payload) - OVERHEAD_BYTES)
    bert.open_payload(payload, memoryview(room))
    assert room == b"the payload of a chunk"


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_cut_and_addition_is_found(cipher: str) -> None:
    anna, bert = two(ciphers=(cipher, cipher))
    frames = anna.seal([b"head", b"payload"])
    for length in range(len(frames[0])):
        refuses_head(bert, frames[0][:length])
    refuses_head(bert, frames[0] + b"\0")
    assert bert.open_head(frames[0]) == b"head"
    for length in range(len(frames[1])):
        refuses_payload(bert, frames[1][:length])
    refuses_payload(bert, bytes(frames[1]) + b"\0")


@given(
    st.lists(st.integers(0, 11), max_size=30),
    st.sampled_from(CIPHERS),
    st.integers(1, 4) | st.just(100),
)
def test_frames_open_in_rising_order_and_once(
    arrivals: list[int], cipher: str, rekey_after: int
) -> None:
    anna, bert = two(ciphers=(cipher, cipher), rekey_after=rekey_after)
    sent = [anna.seal([b"%d" % number, b"p%d" % number]) for number in range(12)]
    newest = 0
    for number in arrivals:
        counter = number + 1
        ahead = counter // rekey_after - newest // rekey_after
        if counter > newest and ahead <= 1:
            assert opened(bert, sent[number]) == [b"%d" % number, b"p%d" % number]
            newest = counter
        else:
            refuses_head(bert, sent[number][0])


def test_a_payload_opens_after_its_own_head_only_and_once() -> None:
    anna, bert = two()
    sent = [anna.seal([b"head", b"payload %d" % number]) for number in range(3)]
    refuses_payload(bert, sent[0][1])
    bert.open_head(sent[1][0])
    refuses_payload(bert, sent[0][1])
    refuses_payload(bert, sent[2][1])
    room = memoryview(bytearray(9))
    bert.open_payload(sent[1][1], room)
    assert bytes(room) == b"payload 1"
    refuses_payload(bert, sent[1][1])
    refuses_payload(bert, sent[2][1])


def test_a_head_is_no_payload_and_a_payload_no_head() -> None:
    anna, bert = two()
    head, payload = anna.seal([b"same", b"same"])
    refuses_head(bert, head[:8] + payload)
    bert.open_head(head)
    refuses_payload(bert, head[8:])


def test_a_forged_counter_does_not_use_up_the_true_ones() -> None:
    anna, bert = two(rekey_after=4)
    frames = [anna.seal([b"%d" % number])[0] for number in range(6)]
    for counter in (1, 4, 7, 8, 2**64 - 1):
        refuses_head(bert, struct.pack(">Q", counter) + frames[0][8:-1] + b"?")
    assert [bert.open_head(frame) for frame in frames] == [b"%d" % n for n in range(6)]


@given(st.binary(max_size=80), st.binary(max_size=80), st.booleans())
def test_no_bytes_open_or_raise_another_error(
    head: bytes, payload: bytes, began: bool
) -> None:
    anna, bert = two()
    if began:
        bert.open_head(anna.seal([b"head", b"payload"])[0])
    refuses_head(bert, head)
    refuses_payload(bert, payload)


@given(st.binary(max_size=40) | st.binary(min_size=32, max_size=32))
def test_any_exchange_key_of_the_other_gives_a_session_or_one_error(
    public: bytes,
) -> None:
    me, other = ends()
    key = ExchangeKey.from_bytes(SECRETS[0])
    with contextlib.suppress(RemoteProtocolError):
        Session(key, me, End(other.peer, public, 1, other.cipher), swarm="swarm")


USELESS = [
    "00" * 32,
    "01" + "00" * 31,
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "",
    "00" * 31,
    "09" * 33,
]


@pytest.mark.parametrize("public", USELESS)
def test_a_key_with_which_everybody_shares_a_secret_is_refused(public: str) -> None:
    with pytest.raises(RemoteProtocolError):
        ExchangeKey.generate().shared(bytes.fromhex(public))


# --- Nonces never repeat -------------------------------------------------------------


def test_a_pair_of_incarnations_has_one_session() -> None:
    key, (me, other) = ExchangeKey.from_bytes(SECRETS[0]), ends()
    Session(key, me, other, swarm="swarm")
    with pytest.raises(RemoteProtocolError):
        Session(key, me, other, swarm="swarm")
    older = End(other.peer, other.public, other.incarnation - 1, AES)
    with pytest.raises(RemoteProtocolError):
        Session(key, me, older, swarm="swarm")
    Session(key, me, End(other.peer, other.public, 99, AES), swarm="swarm")
    Session(key, me, End("carl", other.public, 1, AES), swarm="swarm")


def test_a_refused_session_leaves_room_for_the_right_one() -> None:
    key, (me, other) = ExchangeKey.from_bytes(SECRETS[0]), ends()
    with pytest.raises(RemoteProtocolError):
        Session(key, me, End(other.peer, bytes(32), 4, AES), swarm="swarm")
    Session(key, me, other, swarm="swarm")


def test_counters_rise_by_one_for_every_message() -> None:
    anna, _ = two(rekey_after=2)
    starts = [
        int.from_bytes(anna.seal([b"x"] * (1 + n % 2))[0][:8], "big") for n in range(9)
    ]
    assert starts[0] == 1
    assert all(later == earlier + 1 for earlier, later in pairwise(starts))


def test_a_peer_has_no_session_with_itself() -> None:
    me, other = ends()
    twin = End(me.peer, other.public, 5, AES)
    with pytest.raises(LocalProtocolError):
        Session(ExchangeKey.from_bytes(SECRETS[0]), me, twin, swarm="swarm")


# --- Our own mistakes ----------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 3])
def test_a_message_has_one_or_two_frames(count: int) -> None:
    with pytest.raises(LocalProtocolError):
        two()[0].seal([b"frame"] * count)


@pytest.mark.parametrize("room", [0, 6, 8, 23])
def test_a_payload_needs_exactly_its_room(room: int) -> None:
    anna, bert = two()
    head, payload = anna.seal([b"head", b"payload"])
    bert.open_head(head)
    with pytest.raises(LocalProtocolError):
        bert.open_payload(payload, memoryview(bytearray(room)))
    right = memoryview(bytearray(7))
    bert.open_payload(payload, right)
    assert bytes(right) == b"payload"


def test_an_exchange_key_of_wrong_length_is_our_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        ExchangeKey.from_bytes(bytes(31))


def test_generated_exchange_keys_differ_and_agree() -> None:
    one, two = ExchangeKey.generate(), ExchangeKey.generate()
    assert one.public != two.public
    assert one.shared(two.public) == two.shared(one.public)


# --- Without sealing -----------------------------------------------------------------


@given(payloads, st.none() | payloads)
def test_a_plain_session_has_the_same_members_and_seals_nothing(
    head: bytes, payload: bytes | None
) -> None:
    first, second = ends()
    key = ExchangeKey.generate()
    anna = PlainSession(key, first, second, swarm="swarm")
    bert = PlainSession(key, second, first, swarm="swarm")
    assert anna.sending_token == bert.receiving_token != anna.receiving_token
    assert len(anna.sending_token) == 8
    frames = [head] if payload is None else [head, payload]
    sent = anna.seal(frames)
    assert sent == frames
    assert bert.open_head(memoryview(sent[0])) == head
    if payload is not None:
        room = bytearray(len(payload) - bert.overhead_bytes)
        bert.open_payload(sent[1], memoryview(room))
        assert room == payload


def test_a_plain_session_is_of_two_incarnations_too() -> None:
    tokens = {
        PlainSession(ExchangeKey.generate(), *pair, swarm=swarm).sending_token
        for pair in (ends(), ends(incarnations=(3, 5)), ends()[::-1])
        for swarm in ("swarm", "other")
    }
    assert len(tokens) == 6


def test_a_plain_payload_needs_exactly_its_room() -> None:
    plain = PlainSession(ExchangeKey.generate(), *ends(), swarm="swarm")
    with pytest.raises(LocalProtocolError):
        plain.open_payload(b"payload", memoryview(bytearray(6)))


# --- The choice of a cipher ----------------------------------------------------------


@pytest.mark.parametrize(
    ("cpuinfo", "machine", "cipher"),
    [
        ("flags\t\t: fpu aes avx\n", "x86_64", AES),
        ("flags\t\t: fpu avx\n", "x86_64", CHACHA),
        ("flags: aes\n\nflags: fpu\n", "x86_64", CHACHA),
        ("Features\t: fp asimd aes\n", "aarch64", AES),
        ("Features\t: half thumb\n", "armv7l", CHACHA),
        ("model name\t: aes\nflags\t: vaes_not\n", "x86_64", CHACHA),
        ("", "arm64", AES),
        ("", "AMD64", AES),
        ("cpu : POWER9\n", "ppc64le", CHACHA),
        ("", "", CHACHA),
    ],
)
def test_the_cipher_follows_from_the_processor(
    cpuinfo: str, machine: str, cipher: str
) -> None:
    assert cipher_for(cpuinfo, machine) == cipher


def test_this_machine_prefers_a_cipher() -> None:
    path = Path("/proc/cpuinfo")
    described = path.read_text() if path.exists() else ""
    assert preferred_cipher() == cipher_for(described, platform.machine())
    assert preferred_cipher() in CIPHERS
