"""Facts travel in frames: each fits, together they are everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.limits import MAX_CHAIN_BYTES, MAX_CONTROL_FRAME_BYTES, MAX_START_BYTES
from p2pfusion.protocol.batches import in_frames
from p2pfusion.protocol.messages import Facts, Recovery, Signed
from p2pfusion.protocol.wire import encode
from tests.protocol.family import SWARM, accused, fresh, lost, out, plain, start
from tests.protocol.names import accusation, membership, record, recovery


def test_messages_carry_everything_in_frames() -> None:
    facts, copy = fresh(), fresh()
    names = [f"x{number}" for number in range(400)]
    facts.merge(Facts(tuple(membership(record(name), SWARM) for name in names)))
    facts.merge(Facts(start=start(*names)))
    for name in names:
        facts.merge(out(name, reason="x" * 200))
        facts.merge(
            accused(name, *names[:3], epoch=4) if name not in names[:3] else Facts()
        )
    facts.merge(lost(*names[:300], reason="flood"))
    facts.merge(lost(*names[100:], reason="fire"))
    messages = facts.messages()
    assert messages[0].start is not None, "so that it never waits for a long list"
    assert sum(len(message.members) for message in messages) == 400
    assert sum(len(message.revocations) for message in messages) == 400
    assert sum(len(message.accusations) for message in messages) == 3 * 397
    assert sum(len(message.recoveries) for message in messages) == 2
    assert len(messages) > 4
    for message in messages:
        assert len(encode(message)[0]) <= MAX_CONTROL_FRAME_BYTES
        copy.merge(message)
    assert copy.digest == facts.digest and copy.all() == facts.all()
    assert in_frames(Facts()) == []


def test_the_longest_recovery_fits_a_frame() -> None:
    longest = Recovery(
        Signed(bytes(MAX_START_BYTES), bytes(64)), bytes(MAX_CHAIN_BYTES)
    )
    short = recovery("a", swarm=SWARM)
    messages = in_frames(Facts(recoveries=(short, longest, short)))
    assert [message.recoveries for message in messages] == [
        *((short,), (longest,), (short,))
    ]
    assert all(encode(message) for message in messages)


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_nothing_is_lost_or_doubled(
    members: int, accusations: int, recoveries: int, starts: bool
) -> None:
    facts = Facts(
        tuple(plain(f"p{n}") for n in range(members)),
        start("p0") if starts else None,
        out("a").revocations,
        tuple(accusation("x", SWARM, by=f"p{n}") for n in range(accusations)),
        tuple(recovery("x", swarm=SWARM, epoch=n) for n in range(recoveries)),
    )
    messages = in_frames(facts)
    assert all(message != Facts() for message in messages)
    together = Facts(
        tuple(m for message in messages for m in message.members),
        next((message.start for message in messages if message.start), None),
        tuple(r for message in messages for r in message.revocations),
        tuple(a for message in messages for a in message.accusations),
        tuple(r for message in messages for r in message.recoveries),
    )
    assert together == facts
    kinds = ["members" if m.members else "other" for m in messages if not m.start]
    assert kinds == sorted(kinds), "who is known comes before what is said of it"
