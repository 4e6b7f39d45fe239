"""Round trips, bounds, and the invariant that any bytes give a message or one error."""

from __future__ import annotations

import contextlib
import dataclasses
import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.limits import (
    CHUNK_BYTES,
    MAX_CHAIN_BYTES,
    MAX_CONTROL_FRAME_BYTES,
    MAX_GUEST_FRAME_BYTES,
    MAX_RECORD_BYTES,
    MAX_RECOVERIES,
    MAX_REFUTED,
    MAX_ROSTER,
    MAX_START_BYTES,
    MAX_STATEMENT_BYTES,
    MAX_TOGETHER,
)
from p2pfusion.protocol import messages as m
from p2pfusion.protocol.messages import NEVER
from p2pfusion.protocol.wire import (
    HOPS,
    REFUSAL_REASONS,
    REFUSED_CODES,
    SCHEMAS,
    _plain,
    decode,
    decode_all,
    encode,
    encode_all,
)
from tests.protocol.names import invitation, knocking, record

whole = st.integers(0, 2**63 - 1)
text = st.text(st.characters(categories=["L", "N", "P"]), max_size=30)
digest = st.binary(min_size=16, max_size=16)
ids = st.lists(st.binary(min_size=8, max_size=8), max_size=5).map(b"".join)
signature = st.binary(min_size=64, max_size=64)
signed = st.builds(m.Signed, st.binary(min_size=32, max_size=99), signature)
start = st.builds(m.Signed, st.binary(min_size=32, max_size=9_999), signature)
chain = st.binary(max_size=99)
messages = st.one_of(
    st.builds(
        m.Hello,
        whole,
        text,
        signed,
        chain,
        text,
        st.just(b"") | st.binary(min_size=32, max_size=32),
    ),
    st.builds(m.Welcome, text, whole, st.integers(0, 1 << 20), chain),
    st.builds(m.ManifestPart, whole, st.binary(min_size=1, max_size=99)),
    st.builds(m.Refused, st.sampled_from(sorted(REFUSED_CODES)), text),
    st.builds(
        m.Facts,
        st.lists(st.builds(m.Membership, signed, chain), max_size=4).map(tuple),
        st.none() | start,
        st.lists(st.builds(m.Revocation, signed, chain), max_size=4).map(tuple),
        st.lists(signed, max_size=4).map(tuple),
        st.lists(st.builds(m.Recovery, start, chain), max_size=4).map(tuple),
    ),
    st.builds(m.Ping, whole, whole, digest),
    st.builds(m.Pong, whole, whole, digest, st.floats(-1e12, 1e12)),
    st.builds(m.Goodbye),
    st.builds(m.Digests, st.binary(min_size=512, max_size=512)),
    st.builds(m.Known, st.just(b"") | st.binary(min_size=8, max_size=8), ids),
    st.builds(m.Wanted, ids),
    st.builds(m.ProbeFor, whole, text),
    st.builds(m.Seen, whole, text),
    st.builds(m.SignedOffer, signed),
    st.builds(m.SignedClosing, start),
    st.builds(
        m.Request,
        whole,
        st.sampled_from(sorted(HOPS)),
        whole,
        digest,
        text,
        whole,
        whole,
    ),
    st.builds(m.Refusal, whole, st.sampled_from(sorted(REFUSAL_REASONS))),
    st.builds(m.Credit, whole, whole),
    st.builds(m.StreamStart, whole, whole, whole, st.binary(max_size=99)),
    st.builds(
        m.Chunk, whole, whole, st.binary(min_size=1, max_size=99).map(memoryview)
    ),
)


def on_data_plane(message: m.Message) -> bool:
    return isinstance(message, m.StreamStart | m.Chunk)


def test_every_message_has_a_schema_of_its_fields() -> None:
    kinds = set(m.Message.__args__)
    assert kinds == set(SCHEMAS)
    for kind, (_, checks) in SCHEMAS.items():
        carried_apart = 1 if kind is m.Chunk else 0
        assert len(dataclasses.fields(kind)) == len(checks) + carried_apart
    assert len({code for code, _ in SCHEMAS.values()}) == len(SCHEMAS)


@given(messages)
def test_decode_undoes_encode(message: m.Message) -> None:
    decoded = decode(encode(message), data_plane=on_data_plane(message))
    assert decoded == message
    if isinstance(message, m.Chunk) and isinstance(decoded, m.Chunk):
        assert bytes(decoded.payload) == bytes(message.payload)


@given(st.lists(messages, max_size=2 * MAX_TOGETHER))
def test_messages_share_frames_and_come_in_order(said: list[m.Message]) -> None:
    for on_data in (False, True):
        given_ = [each for each in said if on_data_plane(each) is on_data]
        sent = encode_all(given_)
        found = [decode_all(frames, data_plane=on_data) for frames in sent]
        assert [each for together in found for each in together] == given_
        assert all(len(head) <= MAX_CONTROL_FRAME_BYTES for head, *_ in sent)
        chunks = sum(isinstance(each, m.Chunk) for each in given_)
        bound = len(given_) // MAX_TOGETHER + 1
        is_short = sum(len(encode(each)[0]) for each in given_) < 1_000
        assert len(sent) <= chunks + bound or not is_short


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"\x91\x08"],
        [b"\x91\x08", "no bytes"],
        [b"\x91\x08", b"\x93\x00\xa2\x91\x08\xa2\x91\x08"],
        (MAX_TOGETHER + 1) * [b"\x91\x08"],
        [b"\x91\x08", b"\x91\x63"],
        [b"\x93\x0e\x01\x00", b"\x91\x08"],
    ],
)
def test_what_shares_a_frame_is_some_messages(parts: list[object]) -> None:
    """``Goodbye`` is the shortest message, and 99 the code of none."""
    with pytest.raises(RemoteProtocolError):
        decode_all([msgpack.packb([0, *parts])], data_plane=False)
    goodbyes = [0, b"\x91\x08", b"\x91\x08"]
    assert decode_all([msgpack.packb(goodbyes)], data_plane=False) == 2 * [m.Goodbye()]
    with pytest.raises(RemoteProtocolError):
        decode([msgpack.packb(goodbyes)], data_plane=False)


@given(messages)
def test_a_message_on_the_other_plane_is_refused(message: m.Message) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(encode(message), data_plane=not on_data_plane(message))


@given(st.lists(st.binary(max_size=200), max_size=3), st.booleans())
def test_any_bytes_give_a_message_or_a_remote_error(
    frames: list[bytes], data_plane: bool
) -> None:
    with contextlib.suppress(RemoteProtocolError):
        decode(frames, data_plane=data_plane)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(st.integers(0, 20), st.lists(plain, max_size=10), st.booleans())
def test_well_formed_msgpack_of_wrong_content_is_refused(
    code: int, values: list[object], data_plane: bool
) -> None:
    with contextlib.suppress(RemoteProtocolError):
        decode([msgpack.packb([code, *values])], data_plane=data_plane)


@given(messages, st.data())
def test_a_mutated_message_is_a_message_or_a_remote_error(
    message: m.Message, data: st.DataObject
) -> None:
    frames = [bytearray(frame) for frame in encode(message)]
    at = data.draw(st.integers(0, len(frames[0]) - 1))
    frames[0][at] ^= data.draw(st.integers(1, 255))
    del frames[0][data.draw(st.integers(1, len(frames[0]))) :]
    with contextlib.suppress(RemoteProtocolError):
        decode([bytes(f) for f in frames], data_plane=on_data_plane(message))


def test_deeply_nested_msgpack_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        decode([b"\x91" * 50_000 + b"\x01"], data_plane=False)


def test_lengths_that_are_only_claimed_take_no_memory() -> None:
    """Heads of lists inside each other, each of as many items as there are bytes."""
    head = b"\xdd" + (60_000).to_bytes(4, "big")
    frame = (head * 1_000).ljust(MAX_CONTROL_FRAME_BYTES, b"\xc0")
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            decode([frame], data_plane=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    "message",
    [
        m.Hello(2, "", m.Signed(bytes(MAX_RECORD_BYTES + 1), bytes(64))),
        m.Hello(2, "", m.Signed(bytes(31), bytes(64))),
        m.Hello(2, "", m.Signed(bytes(99), bytes(63))),
        m.Hello(2, "", m.Signed(bytes(99), bytes(64)), bytes(MAX_CHAIN_BYTES + 1)),
        m.Hello(2, "", m.Signed(bytes(99), bytes(64)), b"", "x" * 65),
        m.Hello(2, "", m.Signed(bytes(99), bytes(64)), b"", "x", bytes(31)),
        m.Welcome("", 0, 0, bytes(MAX_CHAIN_BYTES + 1)),
        m.Facts(start=m.Signed(bytes(MAX_START_BYTES + 1), bytes(64))),
        m.Facts(
            tuple(
                m.Membership(m.Signed(bytes(32), bytes(64)), b"")
                for _ in range(MAX_ROSTER + 1)
            )
        ),
        m.Facts(accusations=(m.Signed(bytes(99), bytes(64)),) * (MAX_ROSTER + 1)),
        m.Facts(accusations=(m.Signed(bytes(MAX_STATEMENT_BYTES + 1), bytes(64)),)),
        m.Facts(
            recoveries=(m.Recovery(m.Signed(bytes(99), bytes(64)), b""),)
            * (MAX_RECOVERIES + 1)
        ),
        m.Facts(
            recoveries=(
                m.Recovery(m.Signed(bytes(MAX_START_BYTES + 1), bytes(64)), b""),
            )
        ),
        m.SignedOffer(m.Signed(bytes(99), bytes(65))),
        m.Refused("maybe", "text"),
    ],
)
def test_what_is_too_long_or_too_short_is_neither_sent_nor_taken(
    message: m.Message,
) -> None:
    with pytest.raises(LocalProtocolError):
        encode(message)
    plain = [_plain(getattr(message, f.name)) for f in dataclasses.fields(message)]
    packed = msgpack.packb([SCHEMAS[type(message)][0], *plain])
    with pytest.raises(RemoteProtocolError):
        decode([packed], data_plane=False)


def test_the_longest_lists_of_statements_fit_a_frame() -> None:
    longest = m.Signed(bytes(MAX_START_BYTES), bytes(64))
    assert encode(m.Facts(start=longest))


@given(st.sampled_from("aé漢🜚"))
def test_the_longest_greeting_of_a_stranger_is_taken_from_strangers(
    letter: str,
) -> None:
    most = 2**63 - 1
    longest = record(
        "x" * 32,
        name=letter * 64,
        host=letter * 255,
        port=65_534,
        split_fraction=letter * 32,
        incarnation=most,
        sequence=most,
        join_epoch=most,
        cipher="chacha20-poly1305",
        former_fraction=letter * 32,
        since_epoch=NEVER,
        leave_epoch=NEVER,
        refuted=((most, most, NEVER),) * MAX_REFUTED,
    )
    invite = invitation(id=letter * 64)
    hello = knocking(longest, invite, swarm=letter * 64)
    (frame,) = encode(hello)
    assert len(frame) <= MAX_GUEST_FRAME_BYTES


def test_what_cannot_be_decoded_is_not_encoded_either() -> None:
    with pytest.raises(LocalProtocolError):
        encode(m.Ping(-1, 0, bytes(16)))
    with pytest.raises(LocalProtocolError):
        encode(m.Refusal(1, "because"))


def test_a_chunk_has_a_payload_of_bounded_length() -> None:
    head = encode(m.Chunk(1, 0, memoryview(b"x")))[0]
    for payload in (b"", bytes(CHUNK_BYTES + 1)):
        with pytest.raises(RemoteProtocolError):
            decode([head, payload], data_plane=True)
    with pytest.raises(RemoteProtocolError):
        decode([head], data_plane=True)
