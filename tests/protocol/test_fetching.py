"""Getting the checkpoint from members: the honest, the silent, the lying, the gone."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfusion.limits import CHECKPOINT_PIECE_BYTES, CREDIT_CHUNKS, MAX_CHECKPOINT_BYTES
from p2pfusion.protocol import events as e
from p2pfusion.protocol.fetching import (
    ASK_AGAIN_S,
    GIVE_UP_S,
    HEAD_PATIENCE_S,
    PIECE_PATIENCE_S,
)
from p2pfusion.protocol.messages import (
    CHECKPOINT,
    NEVER,
    Chunk,
    Message,
    Refusal,
    Request,
)
from p2pfusion.protocol.picking import pick
from p2pfusion.protocol.standing import Standing
from p2pfusion.protocol.waiting import waiting_for
from tests.protocol.stage import Host
from tests.protocol.swarm import GUEST, Swarm, small_manifest, started

PIECE = CHECKPOINT_PIECE_BYTES
WINDOW = CREDIT_CHUNKS * PIECE
FILE = random.Random(0).randbytes(3 * WINDOW + 5)
SMALL = FILE[: 2 * PIECE + 5]
WRONG = SMALL[:-1] + bytes([SMALL[-1] ^ 1])

Told = Callable[[str, Message], bool]


def swarm_of(count: int, file: bytes = SMALL, **changes: object) -> Swarm:
    """So many members that wait for another one; all have the file."""
    name = hashlib.sha256(file).hexdigest()
    values = {"pretrained": name, "min_peers": count + 1, **changes}
    swarm = Swarm(small_manifest(**values))
    for number in range(count):
        swarm.add(f"p{number}").checkpoint = file
    swarm.found("p0")
    for number in range(1, count):
        swarm.join(f"p{number}", by="p0")
    swarm.run_to(2.0)
    return swarm


def newcomer(swarm: Swarm) -> Host:
    """Somebody without the file is told to join."""
    host = swarm.add("p9")
    swarm.join("p9", by="p0")
    return host


def takes_part(host: Host) -> bool:
    return host.peer.standing is Standing.RUNNING


def sources(host: Host) -> list[str]:
    """Who began to send the file, one after the other."""
    return [str(report.details["peer"]) for report in host.reported("fetching")]


def loses(swarm: Swarm, is_lost: Told, *, by: str = "") -> None:
    """From now on such messages to the newcomer, or from it, are lost on the wire."""

    def cut(sender: str, to: str, message: Message) -> bool:
        ends = {sender, to}
        return "p9" in ends and (not by or by in ends) and is_lost(sender, message)

    swarm.cut = cut


def test_a_newcomer_gets_the_file_and_takes_part_after_that() -> None:
    swarm = swarm_of(2)
    host = newcomer(swarm)
    fetching = host.peer.exchange.fetching
    swarm.run(lambda: fetching.is_on)
    assert host.peer.standing is Standing.WAITING
    (reason,) = waiting_for(host.peer, swarm.now).values()
    assert reason.startswith(f"the checkpoint {swarm.manifest.pretrained[:12]}")
    saved = host.facts
    swarm.run(lambda: takes_part(host))
    assert host.checkpoint == SMALL and not fetching.is_on
    assert host.facts != saved, "a peer that has its store is a member from then on"
    (fetched,) = host.reported("fetched")
    assert fetched.details["peers"] == sources(host)
    swarm.run_until_done()
    contributors = [row["contributors"] for row in host.sealed]
    assert all("p9" in each for each in contributors)  # type: ignore[operator]


def test_all_but_the_founder_can_be_without_the_file() -> None:
    swarm = started(3, checkpoint=FILE)
    swarm.run_until_done()
    assert all(host.checkpoint == FILE for host in swarm.hosts.values())


def test_who_joins_late_gets_the_file_before_it_asks_for_an_epoch() -> None:
    swarm = swarm_of(2, min_peers=2, rounds=20)
    swarm.run(lambda: all(takes_part(host) for host in swarm.hosts.values()))
    host = newcomer(swarm)
    swarm.run(lambda: bool(host.reported("admitted")))
    kinds = [report.kind for report in host.reports]
    assert kinds.index("fetched") < kinds.index("admitted")
    swarm.run(lambda: takes_part(host))


def test_progress_is_told_in_mebibytes() -> None:
    swarm = swarm_of(1, FILE)
    host = newcomer(swarm)
    swarm.run(lambda: len(host.arrived) >= WINDOW)
    fetching = host.peer.exchange.fetching
    assert fetching.source == "p0"
    assert fetching.text.endswith(", 2.0 of 6.0 MiB")


def test_no_more_than_a_window_is_on_its_way_in_pieces() -> None:
    swarm = swarm_of(1, FILE)
    sizes: list[int] = []

    def watch(name: str, what: e.Event | e.Effect, mark: str) -> None:
        if isinstance(what, e.SendChunk) and what.stream.hop == CHECKPOINT:
            sizes.append(what.size)
            pull = swarm.hosts["p9"].peer.exchange.pulls.find(what.pull, "p0")
            assert pull is not None
            assert what.offset + what.size - pull.received <= WINDOW

    swarm.watch = watch
    host = newcomer(swarm)
    swarm.run(lambda: host.checkpoint == FILE)
    assert max(sizes) == PIECE and sum(sizes) == len(FILE)


# --- Holders that are of no use ------------------------------------------------------


def test_who_vanishes_is_left_for_another_that_goes_on_from_there() -> None:
    swarm = swarm_of(3, FILE)
    host = newcomer(swarm)
    swarm.run(lambda: len(host.arrived) >= WINDOW)
    (first,) = sources(host)
    swarm.kill(first)
    swarm.run(lambda: host.checkpoint == FILE)
    first_report, second_report = host.reported("fetching")
    assert second_report.details["peer"] != first
    assert int(str(second_report.details["offset"])) >= WINDOW
    assert first_report.details["offset"] == 0


def test_a_connection_that_comes_back_is_gone_on_with() -> None:
    swarm = swarm_of(1, FILE)
    host = newcomer(swarm)
    swarm.run(lambda: len(host.arrived) >= WINDOW)
    loses(swarm, lambda sender, message: True)
    swarm.run_to(swarm.now + GIVE_UP_S / 2)
    assert 0 < len(host.arrived) < len(FILE) and not host.is_lost
    before = len(host.arrived)
    swarm.cut = lambda a, b, m: False
    swarm.run(lambda: host.checkpoint == FILE)
    assert host.reported("fetching")[-1].details["offset"] == before


def test_who_answers_probes_and_nothing_else_is_left_for_another() -> None:
    swarm = swarm_of(2)
    asked: list[str] = []

    def is_lost(sender: str, message: Message) -> bool:
        return isinstance(message, Request) and message.hop == CHECKPOINT

    def watch(name: str, what: e.Event | e.Effect, mark: str) -> None:
        if name != "p9" or not isinstance(what, e.Send):
            return
        if isinstance(what.message, Request) and what.peer not in asked:
            asked.append(what.peer)
            if len(asked) == 1:
                loses(swarm, is_lost, by=what.peer)

    swarm.watch = watch
    host = newcomer(swarm)
    begun = swarm.now
    swarm.run(lambda: host.checkpoint == SMALL)
    assert HEAD_PATIENCE_S <= swarm.now - begun < HEAD_PATIENCE_S + 2.0
    assert sources(host) == [asked[1]]


def test_who_stands_still_is_left_for_another() -> None:
    swarm = swarm_of(2, FILE)
    host = newcomer(swarm)
    swarm.run(lambda: len(host.arrived) >= WINDOW)
    (first,) = sources(host)
    loses(swarm, lambda sender, message: isinstance(message, Chunk), by=first)
    begun = swarm.now
    swarm.run(lambda: host.checkpoint == FILE)
    assert swarm.now - begun < PIECE_PATIENCE_S + 2.0
    assert len(set(sources(host))) == 2


def test_one_that_is_slow_is_kept_where_there_is_no_other() -> None:
    swarm = swarm_of(1, FILE)
    host = newcomer(swarm)
    slow = 0.0

    def is_lost(sender: str, message: Message) -> bool:
        nonlocal slow
        if not isinstance(message, Chunk):
            return False
        late = swarm.now < slow
        slow = slow if late else swarm.now + 2 * PIECE_PATIENCE_S
        return late

    loses(swarm, is_lost)
    swarm.run(lambda: host.checkpoint == FILE, limit_s=60 * 2 * PIECE_PATIENCE_S)
    assert sources(host) == ["p0"]


def test_one_that_lies_about_the_content_is_found_out() -> None:
    swarm = swarm_of(3)
    liars = ["p0", "p1"]
    for name in liars:
        swarm.hosts[name].checkpoint = WRONG
    host = newcomer(swarm)
    swarm.run(lambda: host.checkpoint is not None)
    assert host.checkpoint == SMALL
    assert sources(host)[-1] == "p2" and len(sources(host)) <= 3
    assert host.peer.exchange.fetching._liars <= set(liars)


def test_a_lie_that_another_has_gone_on_with_costs_no_honest_member_its_name() -> None:
    swarm = swarm_of(2, FILE)
    (first,) = pick(["p0", "p1"], 1, "p9")
    other = "p1" if first == "p0" else "p0"
    swarm.hosts[first].checkpoint = bytes(len(FILE))
    host = newcomer(swarm)
    swarm.run(lambda: len(host.arrived) >= WINDOW)
    # It is heard, and gives nothing more for a while.
    loses(swarm, lambda sender, message: isinstance(message, Chunk), by=first)
    swarm.run(lambda: other in sources(host))
    assert sources(host) == [first, other] and host.arrived
    swarm.cut = lambda a, b, m: False
    swarm.run(lambda: host.checkpoint is not None)
    assert host.checkpoint == FILE
    fetching = host.peer.exchange.fetching
    assert other not in fetching._liars and fetching._givers == {other}


def test_a_file_that_is_too_long_is_refused_before_it_comes() -> None:
    swarm = swarm_of(2)
    for name in ("p0", "p1"):
        swarm.hosts[name].peer.exchange.fetching.held_bytes = MAX_CHECKPOINT_BYTES + 1
    host = newcomer(swarm)
    swarm.run(lambda: host.is_lost)
    assert not host.arrived
    errors = {str(report.details["peer"]) for report in host.reported("protocol-error")}
    assert errors == {"p0", "p1"}


@pytest.mark.parametrize("more", [-PIECE, PIECE])
def test_one_that_says_another_length_than_before_lies(more: int) -> None:
    swarm = swarm_of(1, FILE)
    host = newcomer(swarm)
    swarm.run(lambda: len(host.arrived) >= WINDOW)
    loses(swarm, lambda sender, message: True)
    swarm.run(lambda: host.peer.exchange.fetching.source is None)
    swarm.hosts["p0"].peer.exchange.fetching.held_bytes += more
    swarm.cut = lambda a, b, m: False
    swarm.run(lambda: host.is_lost)
    assert host.checkpoint is None


def test_two_that_say_different_lengths_are_both_heard_out() -> None:
    swarm = swarm_of(2, FILE)
    host = newcomer(swarm)
    swarm.run(lambda: bool(sources(host)))
    (first,) = sources(host)
    swarm.run(lambda: len(host.arrived) >= WINDOW)
    other = swarm.hosts["p1" if first == "p0" else "p0"]
    other.checkpoint = FILE + b"more"
    other.peer.exchange.fetching.held_bytes += 4
    loses(swarm, lambda sender, message: isinstance(message, Chunk), by=first)
    swarm.run(lambda: len(host.reported("fetching")) > 1)
    swarm.cut = lambda a, b, m: False
    swarm.run(lambda: host.checkpoint is not None)
    assert host.checkpoint == FILE


# --- Nobody --------------------------------------------------------------------------


def test_when_all_have_lied_nobody_is_left() -> None:
    swarm = swarm_of(2)
    for name in ("p0", "p1"):
        swarm.hosts[name].checkpoint = WRONG
    host = newcomer(swarm)
    begun = swarm.now
    swarm.run(lambda: host.is_lost)
    assert swarm.now - begun < 5.0 and host.checkpoint is None
    log = [line for line in swarm.log if "NoCheckpoint" in line]
    swarm.run_to(swarm.now + GIVE_UP_S)
    assert len(log) == 1 and host.peer.exchange.fetching.source is None


def test_when_nobody_has_it_that_is_said_after_a_while() -> None:
    swarm = swarm_of(2)
    for name in ("p0", "p1"):
        swarm.hosts[name].peer.exchange.fetching.held_bytes = 0
    host = newcomer(swarm)
    begun = swarm.now
    refusals: list[Message] = []

    def watch(name: str, what: e.Event | e.Effect, mark: str) -> None:
        if isinstance(what, e.Send) and isinstance(what.message, Refusal):
            refusals.append(what.message)

    swarm.watch = watch
    swarm.run(lambda: host.is_lost)
    assert GIVE_UP_S <= swarm.now - begun < GIVE_UP_S + 2.0
    assert {refusal.reason for refusal in refusals} == {"lacking"}  # type: ignore[union-attr]
    assert len(refusals) <= 2 * (GIVE_UP_S / ASK_AGAIN_S + 2)
    assert not host.reported("fetching")


def test_when_the_only_member_is_gone_that_is_said_after_a_while() -> None:
    swarm = swarm_of(1)
    host = newcomer(swarm)
    swarm.run(lambda: host.peer.exchange.fetching.is_on)
    swarm.kill("p0")
    swarm.run(lambda: host.is_lost, limit_s=GIVE_UP_S + 5.0)


def test_time_asleep_is_not_time_in_which_nobody_answered() -> None:
    swarm = swarm_of(1, FILE)
    host = newcomer(swarm)
    swarm.run(lambda: len(host.arrived) >= WINDOW)
    peer = host.peer
    later = swarm.now + 2 * GIVE_UP_S
    assert e.NoCheckpoint() not in peer.handle(e.Tick(), later)
    assert peer.exchange.fetching.deadline() > later


# --- Giving --------------------------------------------------------------------------


def answer(swarm: Swarm, asker: str, **changes: object) -> list[e.Effect]:
    """What the founder does about a request of the checkpoint."""
    digest = hashlib.sha256(SMALL).digest()[:16]
    asked = {"round_index": NEVER, "digest": digest, "offset": 0, **changes}
    request = Request(7, CHECKPOINT, instead_of="", limit=1 << 62, **asked)  # type: ignore[arg-type]
    effects = swarm.hosts["p0"].peer.handle(e.Received(asker, request), swarm.now)
    kinds = (e.SendStart, e.SendChunk, e.Send)
    return [x for x in effects if isinstance(x, kinds) and x.peer == asker]


def test_a_member_gets_the_named_file_from_where_it_says() -> None:
    swarm = swarm_of(2)
    start, *chunks = answer(swarm, "p1", offset=PIECE)
    assert isinstance(start, e.SendStart) and start.stream.hop == CHECKPOINT
    spans = [(c.offset, c.size) for c in chunks if isinstance(c, e.SendChunk)]
    assert spans == [(PIECE, PIECE), (2 * PIECE, 5)]


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": bytes(16)},
        {"round_index": 0},
        {"round_index": NEVER + 1},
        {"offset": len(SMALL) + 1},
    ],
)
def test_nothing_else_is_given(changes: dict[str, object]) -> None:
    swarm = swarm_of(2)
    assert answer(swarm, "p1", **changes) == [e.Send("p1", Refusal(7, "plan"))]


@pytest.mark.parametrize("asker", ["p8", GUEST + "00" * 32])
def test_strangers_are_given_nothing(asker: str) -> None:
    assert answer(swarm_of(2), asker) == []


def test_a_swarm_without_a_checkpoint_gives_none() -> None:
    swarm = swarm_of(2)
    plain = Swarm(small_manifest(min_peers=3))
    plain.add("p0")
    plain.add("p1")
    plain.found("p0")
    plain.join("p1", by="p0")
    plain.run_to(2.0)
    assert answer(plain, "p1") == [e.Send("p1", Refusal(7, "plan"))]
    assert answer(swarm, "p1") != answer(plain, "p1")


def test_what_is_too_long_for_others_is_not_offered() -> None:
    swarm = swarm_of(2)
    swarm.event("p0", e.HasCheckpoint(MAX_CHECKPOINT_BYTES + 1))
    assert answer(swarm, "p1") == [e.Send("p1", Refusal(7, "lacking"))]


# --- Whoever they are ----------------------------------------------------------------

KINDS = ("honest", "wrong", "long", "silent", "lacking", "still", "dies")


def spoil(swarm: Swarm, kinds: list[str]) -> None:
    """Makes members what they are; the founder comes last."""
    silent: set[str] = set()
    still: set[str] = set()
    for number, kind in enumerate(kinds):
        host = swarm.hosts[f"p{number}"]
        fetching = host.peer.exchange.fetching
        if kind == "wrong":
            host.checkpoint = WRONG
        elif kind == "long":
            host.checkpoint = SMALL + b"x"
            fetching.held_bytes += 1
        elif kind == "lacking":
            fetching.held_bytes = 0
        elif kind == "silent":
            silent.add(host.name)
        elif kind == "still":
            still.add(host.name)
        elif kind == "dies":
            swarm.at(swarm.now + 0.25, lambda name=host.name: swarm.kill(name))  # type: ignore[misc]

    def cut(sender: str, to: str, message: Message) -> bool:
        asks = isinstance(message, Request) and message.hop == CHECKPOINT
        gives = isinstance(message, Chunk) and to == "p9" and message.offset >= PIECE
        return (to in silent and asks) or (sender in still and gives)

    swarm.cut = cut


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
def test_one_honest_member_is_enough_and_without_one_nothing_is_taken(
    kinds: list[str],
) -> None:
    kinds = ["honest" if k == "dies" and i == 0 else k for i, k in enumerate(kinds)]
    swarm = swarm_of(len(kinds))
    host = newcomer(swarm)
    swarm.run(lambda: host.peer.exchange.fetching.is_on)
    spoil(swarm, kinds)
    swarm.run(lambda: host.is_lost or host.checkpoint is not None, limit_s=3_600.0)
    if "honest" in kinds:
        assert host.checkpoint == SMALL and not host.is_lost
    assert host.checkpoint in (None, SMALL)
