"""Addresses, keys, counters and the bounds of messages."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import ConfigError, LocalProtocolError
from p2pfusion.limits import (
    CHUNK_BYTES,
    MAX_BANNER_BYTES,
    MAX_CONTROL_FRAME_BYTES,
    SEAL_BYTES,
)
from p2pfusion.transport.base import (
    GUEST,
    OTHERS,
    Address,
    Keys,
    Plane,
    Traffic,
    check_banner,
    check_outgoing,
    is_peer_id,
    refusal,
    size_bytes,
)
from p2pfusion.transport.bounds import (
    MAX_COUNTED_PEERS,
    MAX_FRAMES_PER_MESSAGE,
)

LABEL = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,10}[A-Za-z0-9])?", fullmatch=True)
NAMES = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
NUMBERS = st.ip_addresses().map(str)
PORTS = st.integers(0, 65_535)


@given(NAMES | NUMBERS, PORTS)
def test_address_survives_its_text(host: str, port: int) -> None:
    address = Address(host, port)
    assert Address.parse(str(address)) == address
    assert Address.parse(f" {address}\n") == address


@given(st.ip_addresses(v=6), PORTS)
def test_ipv6_needs_brackets(number: ipaddress.IPv6Address, port: int) -> None:
    address = Address.parse(f"[{number}]:{port}")
    assert address.is_ipv6 and address.is_literal
    assert str(address) == f"[{number}]:{port}"
    with pytest.raises(ConfigError):
        Address.parse(f"{number}:{port}")


@given(NAMES)
def test_only_numbers_are_literal(name: str) -> None:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        assert not Address(name, 1).is_literal
    else:
        assert Address(name, 1).is_literal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lab-a",
        "lab-a:",
        ":7788",
        "lab-a:port",
        "lab-a:-1",
        "lab-a:65536",
        "lab-a:1234567",
        "lab-a:\u0667\u0667",
        "::1",
        "[::1]",
        "[lab-a]:7788",
        "[::1:7788",
        "lab a:7788",
        "tcp://lab-a:7788",
        "lab-a;127.0.0.1:7788",
        "-lab:7788",
        "[]:7788",
        "a" * 300 + ":1",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Address.parse(text)
    assert "192.0.2.7:7788" in raised.value.hint
    assert len(raised.value.message) < 300


@given(st.text(max_size=300))
def test_any_text_is_an_address_or_a_config_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except ConfigError:
        return
    assert Address.parse(str(address)) == address


@given(
    st.lists(
        st.tuples(st.sampled_from(Plane), st.sampled_from("abc"), st.integers(0, 9))
    )
)
def test_traffic_sums_over_what_is_not_named(
    messages: list[tuple[Plane, str, int]],
) -> None:
    traffic = Traffic()
    for a_plane, a_peer, size in messages:
        traffic.count_sent(a_plane, a_peer, size)
        traffic.count_received(a_plane, a_peer, 2 * size)
    peers: tuple[str | None, ...] = (None, "a", "b", "c", "d")
    for plane in (None, *Plane):
        for peer in peers:
            wanted = sum(
                size
                for a_plane, a_peer, size in messages
                if plane in (None, a_plane) and peer in (None, a_peer)
            )
            assert traffic.sent_bytes(plane=plane, peer=peer) == wanted
            assert traffic.received_bytes(plane=plane, peer=peer) == 2 * wanted


def test_invented_names_share_one_counter() -> None:
    traffic = Traffic()
    for number in range(MAX_COUNTED_PEERS + 10):
        traffic.count_received(Plane.DATA, f"peer-{number}", 1)
    traffic.count_received(Plane.DATA, "peer-0", 1)
    assert traffic.received_bytes(peer="peer-0") == 2
    assert traffic.received_bytes(peer=OTHERS) == 10
    assert traffic.received_bytes() == MAX_COUNTED_PEERS + 11


def test_others_cannot_be_a_peer() -> None:
    """The shared counter's name must be out of reach, or a peer could hide in it."""
    assert not is_peer_id(OTHERS)


def test_guest_cannot_be_a_peer() -> None:
    assert not is_peer_id(GUEST + "ab" * 32)


def test_secret_key_is_not_shown() -> None:
    assert "secret" not in repr(Keys(b"public", b"secret"))


HEAD = bytes(MAX_CONTROL_FRAME_BYTES + SEAL_BYTES)
PAYLOAD = memoryview(bytes(CHUNK_BYTES + SEAL_BYTES))
CONTROL_FRAME = bytes(MAX_CONTROL_FRAME_BYTES)


@pytest.mark.parametrize(
    ("plane", "frames", "reason"),
    [
        (Plane.CONTROL, [b""], None),
        (Plane.CONTROL, [CONTROL_FRAME] * MAX_FRAMES_PER_MESSAGE, None),
        (Plane.CONTROL, [], "a wrong number of frames"),
        (
            Plane.CONTROL,
            [b""] * (MAX_FRAMES_PER_MESSAGE + 1),
            "a wrong number of frames",
        ),
        (Plane.CONTROL, [b"", CONTROL_FRAME + b"1"], "an oversized frame"),
        (Plane.DATA, [HEAD], None),
        (Plane.DATA, [HEAD, PAYLOAD], None),
        (Plane.DATA, [], "a wrong number of frames"),
        (Plane.DATA, [b"", b"", b""], "a wrong number of frames"),
        (Plane.DATA, [HEAD + b"1"], "an oversized frame"),
        (Plane.DATA, [b"", bytes(len(PAYLOAD) + 1)], "an oversized frame"),
        (Plane.DATA, [PAYLOAD, HEAD], "an oversized frame"),
    ],
)
def test_bounds_of_messages(
    plane: Plane, frames: list[bytes], reason: str | None
) -> None:
    assert refusal(plane, frames) == reason
    if reason is None:
        check_outgoing(plane, frames)
    else:
        with pytest.raises(LocalProtocolError, match=reason):
            check_outgoing(plane, frames)


def test_size_is_in_bytes_whatever_the_elements() -> None:
    assert size_bytes([b"123", memoryview(bytes(16)).cast("d")]) == 19


def test_bound_of_banners() -> None:
    check_banner(bytes(MAX_BANNER_BYTES))
    with pytest.raises(LocalProtocolError):
        check_banner(bytes(MAX_BANNER_BYTES + 1))
