"""What news costs, and how those who missed it get it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.limits import DIGEST_BUCKETS, FACT_ID_BYTES, FAN_OUT, MAX_FLOODED
from p2pfusion.protocol import events as e
from p2pfusion.protocol import spread
from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.messages import Digests, Facts, Known, Message, Wanted
from p2pfusion.protocol.spread import (
    CALM_INTERVALS,
    EXCHANGE_PAUSE_S,
    PATIENCE_INTERVALS,
    SAVE_PAUSE_S,
    Spread,
)
from tests.protocol.names import NAMES, membership, record
from tests.protocol.swarm import Swarm, small_manifest, started

MANIFEST = small_manifest()
SWARM = MANIFEST.swarm_id


def knowing(me: str, *peers: str) -> Spread:
    """The facts of one peer, which knows these members."""
    facts = FactSet(NAMES, MANIFEST)
    for peer in (me, *peers):
        facts.merge(of(peer))
    return Spread(me, facts)


def of(*peers: str, sequence: int = 0) -> Facts:
    there = (record(peer, sequence=sequence) for peer in peers)
    return Facts(tuple(membership(each, SWARM) for each in there))


def messages(effects: list[e.Effect]) -> list[Message]:
    return [effect.message for effect in effects if isinstance(effect, e.Send)]


def talk(one: Spread, two: Spread, now: float) -> list[Message]:
    """``one`` asks ``two`` to compare; all that both say until they are quiet."""
    sides = {one.me: one, two.me: two}
    said: list[Message] = []
    waiting = [(one.me, x) for x in messages(one.compare(two.me, now))]
    while waiting:
        by, message = waiting.pop(0)
        said.append(message)
        to = two.me if by == one.me else one.me
        side = sides[to]
        match message:
            case Digests():
                answers = side.compared(by, message, now)
            case Known():
                answers = side.known(by, message, now)
            case Wanted():
                answers = side.wanted(by, message)
            case Facts():
                side.facts.merge(message)
                answers = []
        waiting += [(to, answer) for answer in messages(answers)]
    return said


names = st.sets(st.sampled_from([f"m{number}" for number in range(30)]), max_size=20)


@given(names, names)
def test_one_comparison_makes_two_equal(mine: set[str], theirs: set[str]) -> None:
    one, two = knowing("a", *mine), knowing("b", *theirs)
    for each in (one, two):
        each.facts.merge(of("a", "b"))
    said = talk(one, two, 1.0)
    assert one.facts.digest == two.facts.digest
    assert sum(isinstance(message, Digests) for message in said) == 1
    sent = [m for facts in said if isinstance(facts, Facts) for m in facts.members]
    assert len(sent) == len(mine ^ theirs), "each fact that one lacks, once"


def test_only_facts_that_differ_travel_and_names_of_the_parts_that_do() -> None:
    peers = [f"m{number}" for number in range(40)]
    one, two = knowing("a", "b", *peers), knowing("b", "a", *peers)
    assert len(talk(one, two, 0.0)) == 1, "nothing differs"
    two.facts.merge(of("m7", sequence=1))
    asked, listed, *sent = talk(one, two, 2.0)
    assert isinstance(asked, Digests) and isinstance(listed, Known)
    assert len(listed.ids) < 10 * FACT_ID_BYTES
    assert sent[1:] == [Wanted(listed.ids), of("m7", sequence=1)] or (
        len(listed.ids) > FACT_ID_BYTES and sent[2] == of("m7", sequence=1)
    )
    assert sent[0] == of("m7"), "the old record goes the other way"


def test_comparing_and_answering_are_rare() -> None:
    one, two = knowing("a", "b", "c"), knowing("b", "a")
    soon, later = EXCHANGE_PAUSE_S / 2, EXCHANGE_PAUSE_S
    assert one.compare("b", 0.0) and not one.compare("b", soon)
    assert one.compare("c", soon) and one.compare("b", later)
    asked = one.digests()
    assert two.compared("a", asked, 0.0) and not two.compared("a", asked, soon)
    assert two.compared("a", asked, later)


def test_news_goes_to_all_of_a_small_swarm_and_to_a_few_of_a_large_one() -> None:
    peers = [f"m{number:02d}" for number in range(MAX_FLOODED)]
    small, large = knowing("a", *peers[:-1]), knowing("a", *peers)
    assert not small.is_large and large.is_large
    assert list(small.told(but="m00")) == peers[1:-1]
    counts = Counter(peer for _ in range(1_000) for peer in large.told())
    assert sum(counts.values()) == 1_000 * FAN_OUT
    assert len(counts) == len(peers) and "a" not in counts


def test_a_large_swarm_tells_names_to_a_few_and_sends_what_is_asked_for() -> None:
    crowd = [f"m{number:02d}" for number in range(MAX_FLOODED)]
    one, two = knowing("a", "b", *crowd), knowing("b", "a", *crowd)
    news = one.facts.merge(of("new"))
    assert one.tell(news, now=1.0) == [] and one.tick(1.0) == []
    at = one.rumours.tell_at
    told = [x for x in one.tick(at) if isinstance(x, e.Send)]
    assert len({x.peer for x in told}) == FAN_OUT
    (known,) = {x.message for x in told}
    assert isinstance(known, Known) and known.parts == b""
    (wanted,) = messages(two.known("a", known, at))
    assert isinstance(wanted, Wanted)
    assert two.known(crowd[0], known, at) == [], "it was asked for already"
    asker = told[0].peer
    assert messages(one.wanted(asker, wanted)) == [news]
    assert one.wanted(asker, wanted) == [], "once for each time that it was told"
    assert one.wanted("nobody", wanted) == []


def test_who_was_not_asked_for_its_list_is_sent_nothing_for_it() -> None:
    one, two = knowing("a", "b", "c"), knowing("b", "a")
    everything = Known(b"\xff" * 8, b"")
    assert two.known("a", everything, 0.0) == one.known("b", everything, 0.0) == []
    one.compare("b", 0.0)
    mine = one.facts.besides(range(DIGEST_BUCKETS), ())
    assert messages(one.known("b", everything, 0.0)) == [mine]
    assert one.known("b", everything, 0.0) == [], "each part once"


def test_a_large_swarm_compares_when_it_is_calm_or_after_long() -> None:
    large = knowing("a", *(f"m{number:02d}" for number in range(MAX_FLOODED)))
    calm_s = max(EXCHANGE_PAUSE_S, CALM_INTERVALS * large.timing.interval_s)
    long_s = PATIENCE_INTERVALS * large.timing.interval_s
    assert not large.compare("m01", 0.0) and not large.compare("m01", calm_s / 2)
    assert large.compare("m01", calm_s)
    assert not large.compare("m02", calm_s) and not large.compare("m02", 1.9 * calm_s)
    large.agreed("m02")
    assert not large.compare("m02", 2 * calm_s), "the difference is a new one"
    assert large.compare("m02", 3 * calm_s)
    at = 10.0
    assert not large.compare("m03", at)
    while at < 10.0 + long_s:
        large.rumours.learned([], at)
        assert not large.compare("m03", at)
        at += calm_s / 4
    assert large.compare("m03", at)


def test_news_of_others_is_saved_soon_and_not_each_time() -> None:
    kept = knowing("a")
    assert kept.save_at == float("inf") and kept.save_due(0.0) == []
    kept.learned(5.0)
    assert kept.save_at == 5.0
    (saved,) = kept.save_due(5.0)
    assert isinstance(saved, e.SaveFacts) and kept.save_due(5.0) == []
    for instant in (5.1, 5.2, 5.3):
        kept.learned(instant)
        assert kept.save_at == 5.0 + SAVE_PAUSE_S
    assert kept.save_due(5.9) == [] and kept.save_due(6.0)
    kept.learned(20.0)
    kept.saved()
    assert kept.save_at == float("inf"), "all of it is saved already"


# --- A swarm that is too large for flooding ------------------------------------------

LARGE = 40


def crowd(count: int) -> tuple[Swarm, Counter[str]]:
    """A swarm of so many that has not started; counts what is sent, by kind."""
    swarm = Swarm(small_manifest(min_peers=count + 1, network="local"))
    counts: Counter[str] = Counter()

    def counted(a: str, b: str, message: Message) -> bool:
        counts[type(message).__name__] += 1
        return False

    swarm.cut = counted
    for number in range(count):
        swarm.add(f"p{number}")
    swarm.found("p0")
    for number in range(1, count):
        swarm.at(number * 0.05, lambda name=f"p{number}": swarm.join(name, by="p0"))
    swarm.run(lambda: agree(swarm, count), limit_s=60.0)
    return swarm, counts


def agree(swarm: Swarm, count: int) -> bool:
    facts = [host.peer.gossip.facts for host in swarm.hosts.values()]
    return all(len(f.records) == count for f in facts) and (
        len({f.digest for f in facts}) == 1
    )


def test_news_in_a_large_swarm_reaches_everybody_for_a_few_messages_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As large a swarm as is flooded no more would take long here.
    monkeypatch.setattr(spread, "MAX_FLOODED", 4)
    swarm, counts = crowd(LARGE)
    assert counts["Facts"] <= 2 * LARGE * LARGE, "two per join and member"
    swarm.run_to(swarm.now + 3)
    counts.clear()
    begun = swarm.now
    swarm.event("p7", e.ChangeFraction("1/4"))
    swarm.run(lambda: agree(swarm, LARGE), limit_s=10.0)
    assert counts["Facts"] <= (FAN_OUT + 2) * LARGE
    seconds = max(1.0, swarm.now - begun)
    assert counts["Digests"] <= 2 * LARGE * (seconds + 1)
    # Each pings sixteen others or a few more, twice a second.
    swarm.run_to(swarm.now + 1)
    counts.clear()
    swarm.run_to(swarm.now + 5)
    assert counts["Ping"] <= LARGE * 17 * 11
    assert {k: n for k, n in counts.items() if k not in ("Ping", "Pong")} == {}


def test_the_start_of_a_swarm_is_kept_at_once() -> None:
    swarm = started(3)
    swarm.run(lambda: all(host.peer.round for host in swarm.hosts.values()))
    for host in swarm.hosts.values():
        assert any(facts.start is not None for facts in host.facts)
