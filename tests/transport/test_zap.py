"""Every decision about a key, without sockets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion import limits
from p2pfusion.transport import bounds
from p2pfusion.transport.base import GUEST
from p2pfusion.transport.zap import (
    Door,
    Handshake,
    Verdict,
    guest_name,
    is_sender,
)

WELCOME, REFUSED, PARKED = Verdict.WELCOME, Verdict.REFUSED, Verdict.PARKED

# As libzmq 4.3.5 asks: the way back, an empty frame, and the request.
QUESTION = [
    b"\0route",
    b"",
    b"1.0",
    b"1",
    b"p2pfusion",
    b"192.0.2.7",
    b"",
    b"CURVE",
    b"k" * 32,
]


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def handshake(number: int, *, source: str = "192.0.2.7", route: int = 0) -> Handshake:
    """Somebody who has proven a key."""
    return Handshake(b"%d.%d" % (number, route), b"1", source, key(number))


def test_question_is_read_and_answered() -> None:
    asked = Handshake.parse(QUESTION)
    assert asked == Handshake(b"\0route", b"1", "192.0.2.7", b"k" * 32)
    user = (b"k" * 32).hex().encode()
    begin = [b"\0route", b"", b"1.0", b"1"]
    assert asked.answer(WELCOME) == [*begin, b"200", b"", user, b""]
    assert asked.answer(REFUSED) == [*begin, b"400", b"", b"", b""]


@pytest.mark.parametrize("place", [1, 2, 4, 7])
def test_question_about_something_else_is_passed_over(place: int) -> None:
    assert Handshake.parse([*QUESTION[:place], b"?", *QUESTION[place + 1 :]]) is None


@given(st.lists(st.binary(max_size=40), min_size=7, max_size=11))
def test_any_frames_are_a_question_or_none(frames: list[bytes]) -> None:
    assert Handshake.parse(frames) is None


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_host_and_key_can_be_judged(host: bytes, key: bytes) -> None:
    asked = Handshake.parse([*QUESTION[:5], host, b"", b"CURVE", key])
    assert asked is not None
    verdict = Door().judge(asked, 0.0)
    assert verdict is (PARKED if len(key) == 32 else REFUSED)


def test_sources_of_one_network_are_one() -> None:
    frames = list(QUESTION)
    frames[5] = b"2001:db8::1"
    asked = Handshake.parse(frames)
    assert asked is not None and asked.source == "2001:db8::/64"


def test_admitted_key_is_welcome_under_its_name() -> None:
    door = Door()
    door.admit("a", key(1))
    assert door.judge(handshake(1), 0.0) is WELCOME
    assert door.sender(key(1)) == "a" and door.is_member(key(1))
    assert door.sender(key(2)) is None and not door.is_member(key(2))


def test_name_has_one_key_and_a_key_one_name() -> None:
    door = Door()
    door.admit("a", key(1))
    door.admit("a", key(2))
    assert (door.sender(key(1)), door.sender(key(2))) == (None, "a")
    door.admit("b", key(2))
    assert door.sender(key(2)) == "b"
    door.admit("a", key(1))
    assert (door.sender(key(1)), door.sender(key(2))) == ("a", "b")


def test_expelled_key_is_refused_wherever_the_door_stands_open() -> None:
    door = Door()
    door.admit("a", key(1))
    door.expel("a")
    door.set(guests=[key(1)], strangers=True)
    assert door.judge(handshake(1), 0.0) is REFUSED
    assert door.sender(key(1)) is None and not door.is_member(key(1))
    assert door.claimed("a") is None
    door.expel("a")
    assert door.judge(handshake(1), 0.0) is REFUSED
    door.admit("a", key(1))
    assert door.judge(handshake(1), 0.0) is WELCOME
    assert door.claimed("a") == "a"


def test_key_that_is_admitted_under_another_name_is_not_refused() -> None:
    door = Door()
    door.admit("a", key(1))
    door.expel("a")
    door.admit("b", key(1))
    assert door.judge(handshake(1), 0.0) is WELCOME


def test_expelled_name_that_had_no_key_is_not_heard_in_plain_mode() -> None:
    door = Door()
    door.expel("a")
    assert door.claimed("a") is None and door.claimed("b") == "b"


def test_guest_is_welcome_under_its_key() -> None:
    door = Door()
    door.set(guests=[key(1)], strangers=False)
    assert door.judge(handshake(1), 0.0) is WELCOME
    assert door.sender(key(1)) == guest_name(key(1)) == GUEST + key(1).hex()
    assert door.claimed(guest_name(key(1))) == guest_name(key(1))
    door.set(guests=[], strangers=False)
    assert door.judge(handshake(1), 0.0) is PARKED
    assert door.sender(key(1)) is None
    assert door.claimed(guest_name(key(1))) is None


def test_key_of_another_length_is_refused() -> None:
    door = Door()
    door.set(guests=[], strangers=True)
    odd = Handshake(b"route", b"1", "192.0.2.7", b"short")
    assert door.judge(odd, 0.0) is REFUSED


def test_unknown_key_is_parked_until_it_is_welcome() -> None:
    door = Door()
    assert door.judge(handshake(1), 0.0) is PARKED
    assert door.judge(handshake(2), 0.0) is PARKED
    assert list(door.released(0.0)) == []
    door.admit("a", key(1))
    assert list(door.released(0.1)) == [(handshake(1), WELCOME)]
    assert list(door.released(0.1)) == []
    door.set(guests=[key(2)], strangers=False)
    assert list(door.released(0.1)) == [(handshake(2), WELCOME)]
    assert door.deadline() is None


def test_unknown_key_is_refused_after_a_while() -> None:
    door = Door()
    door.judge(handshake(1), 10.0)
    door.judge(handshake(2), 11.0)
    end = 10.0 + limits.UNKNOWN_KEY_PATIENCE_S
    assert door.deadline() == end
    assert list(door.released(end - 0.1)) == []
    assert list(door.released(end)) == [(handshake(1), REFUSED)]
    assert door.deadline() == end + 1.0


def test_oldest_parked_handshake_gives_way_without_an_answer() -> None:
    door = Door()
    for number in range(limits.MAX_PARKED_HANDSHAKES + 1):
        assert door.judge(handshake(number), 0.0) is PARKED
    door.set(guests=[key(0), key(1)], strangers=False)
    assert list(door.released(0.0)) == [(handshake(1), WELCOME)]


def test_stranger_without_room_is_parked_and_never_refused() -> None:
    door = Door()
    door.set(guests=[], strangers=True)
    for number in range(limits.MAX_GUESTS_PER_SOURCE):
        assert door.judge(handshake(number), 0.0) is WELCOME
    late = handshake(99)
    assert door.judge(late, 0.0) is PARKED
    assert list(door.released(limits.UNKNOWN_KEY_PATIENCE_S)) == []
    assert door.heard(key(0)) and not door.heard(key(0))
    assert list(door.released(4.0)) == [(late, WELCOME)]
    assert door.judge(handshake(100), 4.0) is PARKED
    assert list(door.released(4.0 + bounds.HANDSHAKE_TIMEOUT_MS / 1_000)) == []
    assert door.deadline() is None


def test_silent_stranger_keeps_its_place_for_a_while_only() -> None:
    door = Door()
    door.set(guests=[], strangers=True)
    for number in range(limits.MAX_GUESTS_PER_SOURCE):
        assert door.judge(handshake(number), 0.0) is WELCOME
    assert door.judge(handshake(99), limits.FIRST_MESSAGE_TIMEOUT_S - 0.1) is PARKED
    assert door.judge(handshake(98), limits.FIRST_MESSAGE_TIMEOUT_S) is WELCOME


def test_strangers_are_bounded_whatever_their_sources() -> None:
    door = Door()
    door.set(guests=[], strangers=True)
    verdicts = [
        door.judge(handshake(number, source=f"192.0.2.{number}"), 0.0)
        for number in range(2 * limits.MAX_GUESTS)
    ]
    assert verdicts == [WELCOME] * limits.MAX_GUESTS + [PARKED] * limits.MAX_GUESTS


def test_handshakes_of_strangers_have_a_rate_for_each_source() -> None:
    door = Door()
    door.set(guests=[], strangers=True)
    welcome = 0
    while door.judge(handshake(1, route=welcome), 0.0) is WELCOME:
        welcome += 1
    assert welcome == limits.HANDSHAKE_BURST
    assert door.judge(handshake(2, source="192.0.2.8"), 0.0) is WELCOME
    door.admit("a", key(1))
    assert door.judge(handshake(1), 0.0) is WELCOME  # members need no budget


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("peer", True),
        (guest_name(key(1)), True),
        ("", False),
        ("two words", False),
        (GUEST, False),
        (GUEST + "ab" * 31, False),
        (GUEST + "AB" * 32, False),
        (GUEST + "xy" * 32, False),
        (guest_name(key(1)) + "\n", False),
    ],
)
def test_who_can_be_a_sender(name: str, wanted: bool) -> None:
    assert is_sender(name) == wanted
