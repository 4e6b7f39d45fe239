"""Tickets there and back, every typing error, hostile texts, and proofs."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
from dataclasses import astuple, replace

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2pfusion.errors import DeniedError, LocalProtocolError
from p2pfusion.limits import MAX_TICKET_CHARACTERS, TICKET_CLOCK_TOLERANCE_S
from p2pfusion.security.credential import ROLES
from p2pfusion.security.identity import DeviceKey
from p2pfusion.security.ticket import (
    PREFIX,
    Ticket,
    invite_secret_key,
    is_ticket,
    proof,
    proves,
)
from tests.security import by_hand
from tests.strategies import plain_data

LAST_SECOND = 253_402_300_799
TICKET = Ticket(
    addresses=("192.168.1.5:7788", "[fe80::1]:7788"),
    issuer=DeviceKey.from_seed(bytes(32)).peer,
    transport_key=bytes(range(32)),
    swarm="mfrggzdfmztwq2lkmfrggzdfmy",
    invite="i7",
    secret=bytes(range(100, 116)),
    role="member",
    uses=3,
    expires=1_800_000_000,
)
TEXT = TICKET.encode()
TYPED = "".join(map(chr, range(32, 127)))

names = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20)
tickets = st.builds(
    Ticket,
    addresses=st.lists(names, min_size=1, max_size=8).map(tuple),
    issuer=names,
    transport_key=st.binary(min_size=32, max_size=32),
    swarm=names,
    invite=names,
    secret=st.binary(min_size=16, max_size=16),
    role=st.sampled_from(ROLES),
    uses=st.integers(0, 2**32 - 1),
    expires=st.integers(0, LAST_SECOND),
)


def refused(text: str) -> str:
    with pytest.raises(DeniedError) as caught:
        Ticket.decode(text)
    return caught.value.message


def written(content: bytes, prefix: str = PREFIX) -> str:
    """A text with a checksum that fits, whatever the content."""
    data = content + hashlib.sha256(prefix.encode() + content).digest()[:5]
    return prefix + base64.b32encode(data).decode().rstrip("=").lower()


def _packed(value: object) -> bytes:
    packed = b""
    # Some of these values are too large for msgpack; then there is nothing to send.
    with contextlib.suppress(ValueError, OverflowError):
        packed = msgpack.packb(value)
    return packed


# --- There and back ------------------------------------------------------------------


@given(tickets)
def test_a_ticket_comes_back(ticket: Ticket) -> None:
    text = ticket.encode()
    assert Ticket.decode(text) == ticket
    assert is_ticket(text)
    assert text.isalnum()
    assert text == text.lower()
    assert text == written(msgpack.packb(astuple(ticket)))


def test_the_text_is_base32_as_everybody_writes_it() -> None:
    content = msgpack.packb(astuple(TICKET))
    data = content + hashlib.sha256(b"p2pf1" + content).digest()[:5]
    padding = -len(data) % 5
    digits = by_hand.base32(data + bytes(padding))
    assert PREFIX + digits[: -(-len(data) * 8 // 5)] == TEXT


@given(
    st.lists(st.integers(0, len(TEXT)), max_size=9),
    st.sampled_from([" ", "\n", "\r\n", "\t", "-", " - "]),
    st.booleans(),
)
def test_spaces_lines_dashes_and_case_do_not_matter(
    places: list[int], filling: str, capitals: bool
) -> None:
    text = TEXT.upper() if capitals else TEXT
    for place in sorted(places, reverse=True):
        text = text[:place] + filling + text[place:]
    if is_ticket(text):
        assert Ticket.decode(text) == TICKET
    else:
        assert min(places) < len(PREFIX)


def test_a_secret_does_not_show() -> None:
    assert "secret" not in repr(TICKET)
    assert repr(TICKET.secret) not in repr(TICKET)
    assert TICKET.swarm in repr(TICKET)


# --- Typing errors -------------------------------------------------------------------


def test_every_wrong_character_is_found() -> None:
    for place, right in enumerate(TEXT):
        for character in TYPED:
            if character.lower() != right:
                refused(TEXT[:place] + character + TEXT[place + 1 :])


@given(tickets, st.data())
def test_a_wrong_character_of_any_ticket_is_found(
    ticket: Ticket, data: st.DataObject
) -> None:
    text = ticket.encode()
    place = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters() | st.sampled_from(TYPED))
    if character not in (text[place], text[place].upper()):
        refused(text[:place] + character + text[place + 1 :])


def test_every_other_slip_is_found() -> None:
    for place in range(len(TEXT)):
        refused(TEXT[:place])
        refused(TEXT[:place] + TEXT[place + 1 :])
        refused(TEXT[:place] + "a" + TEXT[place:])
        swapped = TEXT[:place] + TEXT[place : place + 2][::-1] + TEXT[place + 2 :]
        if swapped != TEXT:
            refused(swapped)


@given(tickets, st.sampled_from(by_hand.ALPHABET))
def test_a_wrong_last_character_counts_as_mistyped(ticket: Ticket, last: str) -> None:
    text = ticket.encode()
    if text[-1] != last:
        assert "mistyped" in refused(text[:-1] + last)


def test_a_letter_that_only_becomes_the_right_one_is_wrong() -> None:
    place = TEXT.index("k")
    kelvin = "\N{KELVIN SIGN}"
    assert kelvin.lower() == "k"
    refused(TEXT[:place] + kelvin + TEXT[place + 1 :])


def test_each_mistake_has_its_own_words() -> None:
    assert refused("hello") == "this is not a ticket"
    assert refused("") == "this is not a ticket"
    assert refused(TEXT[:-1]) == "the ticket is mistyped or cut off"
    assert refused(PREFIX) == "the ticket is mistyped or cut off"
    newer = written(msgpack.packb(["anything"]), "p2pf2")
    assert refused(newer) == "the ticket was made by a newer version"
    assert refused(written(b"\xc0")).startswith("this is not a ticket")


def test_a_text_that_is_too_long_is_refused() -> None:
    refused(PREFIX + "a" * (MAX_TICKET_CHARACTERS + 1))
    refused(written(bytes(MAX_TICKET_CHARACTERS)))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("p2pf1", True),
        ("P2PF1ABC", True),
        ("  p2pf9xyz\n", True),
        ("p2pf", False),
        ("p2pfx", False),
        ("p2p-f1", False),
        ("example.org:7788", False),
        ("", False),
    ],
)
def test_a_text_is_meant_as_a_ticket_by_its_beginning(text: str, meant: bool) -> None:
    assert is_ticket(text) is meant


# --- Hostile texts and fields --------------------------------------------------------


@given(st.text() | st.text("abcdefgh234567-  ").map(lambda text: PREFIX + text))
def test_no_text_raises_another_error(text: str) -> None:
    is_ticket(text)
    refused(text)


@given(st.binary(max_size=60) | st.lists(plain_data, max_size=10).map(_packed))
def test_a_fitting_checksum_excuses_nothing(content: bytes) -> None:
    refused(written(content))


@given(st.integers(0, 8), plain_data)
def test_any_field_gives_a_ticket_or_one_error(place: int, value: object) -> None:
    fields = [list(TICKET.addresses), *astuple(TICKET)[1:]]
    fields[place] = value
    text = written(_packed(fields))
    with contextlib.suppress(DeniedError):
        assert Ticket.decode(text).encode() == text


def test_only_the_shortest_encoding_counts() -> None:
    content = msgpack.packb(astuple(TICKET))
    longer = b"\xdc\x00\x09" + content[1:]
    assert msgpack.unpackb(longer) == msgpack.unpackb(content)
    refused(written(longer))


@pytest.mark.parametrize(
    "wrong",
    [
        {"addresses": ()},
        {"addresses": ("a:1",) * 9},
        {"addresses": ("a" * 256,)},
        {"addresses": ("",)},
        {"addresses": ("a:1\n",)},
        {"issuer": ""},
        {"issuer": "a" * 65},
        {"transport_key": bytes(31)},
        {"swarm": ""},
        {"invite": "\x1b[2J"},
        {"secret": bytes(15)},
        {"role": "founder"},
        {"uses": -1},
        {"uses": 2**32},
        {"uses": True},
        {"expires": -1},
        {"expires": LAST_SECOND + 1},
        {"addresses": ("\N{GREEK SMALL LETTER ALPHA}" * 255,) * 8},
    ],
)
def test_a_field_out_of_its_bounds_is_neither_written_nor_read(
    wrong: dict[str, object],
) -> None:
    ticket = replace(TICKET, **wrong)
    with pytest.raises(LocalProtocolError):
        ticket.encode()
    refused(written(msgpack.packb(astuple(ticket))))


# --- The end of a ticket -------------------------------------------------------------


@given(st.integers(1, LAST_SECOND), st.floats(-1e6, 1e6))
@example(LAST_SECOND, 1e6)  # a clock that is set to after the year 9999
def test_a_ticket_ends_when_the_tolerance_is_over(expires: int, late: float) -> None:
    ticket = replace(TICKET, expires=expires)
    now = expires + TICKET_CLOCK_TOLERANCE_S + late
    if now - expires <= TICKET_CLOCK_TOLERANCE_S:
        ticket.check_expiry(now)
    else:
        with pytest.raises(DeniedError):
            ticket.check_expiry(now)


def test_a_ticket_that_is_over_says_since_when_and_what_to_do() -> None:
    with pytest.raises(DeniedError) as caught:
        TICKET.check_expiry(1_900_000_000.0)
    assert caught.value.message == (
        "the ticket ended on 2027-01-15 at 08:00 UTC, and this machine's clock says "
        "2030-03-17 17:46"
    )
    assert "new ticket" in caught.value.hint


def test_a_ticket_without_an_end_never_ends() -> None:
    replace(TICKET, expires=0).check_expiry(1e18)


# --- Proofs --------------------------------------------------------------------------


@given(st.binary(min_size=16, max_size=16), names, names, names)
def test_a_proof_binds_secret_swarm_and_peer(
    secret: bytes, swarm: str, peer: str, other: str
) -> None:
    shown = proof(secret, swarm=swarm, peer=peer)
    said = f"p2pfusion invitation/v1\0{swarm}\0{peer}".encode()
    assert shown == hmac.new(secret, said, hashlib.sha256).digest()
    assert proves(secret, shown, swarm=swarm, peer=peer)
    assert not proves(secret[::-1] + b"x", shown, swarm=swarm, peer=peer)
    assert proves(secret, shown, swarm=swarm, peer=other) is (other == peer)
    assert proves(secret, shown, swarm=other, peer=peer) is (other == swarm)


def test_no_other_bytes_are_a_proof() -> None:
    shown = proof(TICKET.secret, swarm="s", peer="p")
    for wrong in [*by_hand.flipped_bits(shown), b"", shown[:-1], shown + b"\0"]:
        assert not proves(TICKET.secret, wrong, swarm="s", peer="p")


@given(st.binary(min_size=16, max_size=16))
def test_the_knocking_key_follows_from_the_secret(secret: bytes) -> None:
    expected = by_hand.hkdf(secret, b"p2pfusion invitation key/v1")
    assert invite_secret_key(secret) == expected
