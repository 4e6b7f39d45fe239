"""Links: what arrives, when, and what a cut, a clog or a break does to it."""

from __future__ import annotations

import random

import pytest

from p2pfusion.simulation.network import Conditions, Link, Network


def network(**changes: object) -> Network[str]:
    return Network(random.Random(1), Conditions(**changes))  # type: ignore[arg-type]


def arrivals(link: Link[str], count: int, size_bytes: int = 100) -> list[float]:
    found: list[float] = []
    for number in range(count):
        found += link.arrivals(number * 0.001, size_bytes)
    return found


def test_a_calm_link_delivers_everything_once_and_in_order() -> None:
    link = network(jitter_s=0.5).link("a", "b", on_data=False)
    found = arrivals(link, 200)
    assert len(found) == 200 and found == sorted(found)
    assert all(at >= 0.005 for at in found)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    rough = {"loss": 0.3, "duplicates": 0.3, "jitter_s": 0.1, "bytes_per_s": 1e4}
    one, other = network(**rough), network(**rough)
    assert arrivals(one.link("a", "b", on_data=False), 50) == arrivals(
        other.link("a", "b", on_data=False), 50
    )


def test_bytes_queue_at_the_bandwidth_of_their_own_link() -> None:
    net = network(bytes_per_s=1000.0, jitter_s=0.0, latency_s=0.1)
    link = net.link("a", "b", on_data=True)
    assert link.arrivals(0.0, 500) == pytest.approx((0.6,))
    assert link.arrivals(0.0, 500) == pytest.approx((1.1,))
    assert link.arrivals(9.0, 500) == pytest.approx((9.6,))
    assert net.link("b", "a", on_data=True).arrivals(0.0, 500) == pytest.approx((0.6,))
    assert net.link("a", "b", on_data=False).arrivals(0.0, 5) == pytest.approx((0.105,))


def test_loss_and_duplicates_come_as_often_as_they_should() -> None:
    link = network(loss=0.2, duplicates=0.1).link("a", "b", on_data=False)
    found = arrivals(link, 5000)
    assert 0.83 < len(found) / 5000 < 0.93
    assert found == sorted(found)


def test_only_where_it_is_asked_for_messages_overtake() -> None:
    link = network(jitter_s=0.5, in_order=False).link("a", "b", on_data=False)
    found = arrivals(link, 50)
    assert len(found) == 50 and found != sorted(found)


def test_a_cut_loses_what_is_on_the_way_and_also_links_to_come() -> None:
    net = network()
    link = net.link("a", "b", on_data=False)
    net.cut([("a", "b")])
    assert link.cut and link.generation == 1
    assert net.link("a", "b", on_data=True).cut
    assert not net.link("b", "a", on_data=False).cut
    net.heal()
    assert not link.cut and not net.link("a", "b", on_data=True).cut


def test_a_break_loses_what_is_on_the_way_and_nothing_else() -> None:
    net = network()
    link = net.link("a", "b", on_data=False)
    net.break_([("a", "b"), ("a", "c")])
    assert link.generation == 1 and not link.cut


def test_a_clogged_link_gives_back_what_it_held() -> None:
    net = network()
    link = net.link("a", "b", on_data=False)
    net.clog([("a", "b"), ("a", "c")])
    assert link.clogged and net.link("a", "c", on_data=False).clogged
    link.held += ["one", "two"]
    assert net.unclog([("a", "b")]) == [link]
    assert not link.clogged and link.release() == ["one", "two"]
    assert link.release() == []
    assert net.heal() == [] and not net.link("a", "c", on_data=False).clogged


def test_conditions_change_for_some_links_until_they_heal() -> None:
    net = network()
    link = net.link("a", "b", on_data=False)
    net.change([("a", "b"), ("a", "d")], loss=1.0)
    net.change([("a", "b")], latency_s=9.0)
    assert link.conditions == Conditions(loss=1.0, latency_s=9.0)
    assert net.link("a", "d", on_data=True).conditions.loss == 1.0
    assert net.link("b", "a", on_data=False).conditions == Conditions()
    net.heal()
    assert link.conditions == Conditions()


def test_links_into_a_machine_are_found() -> None:
    net = network()
    into = [net.link("a", "b", on_data=False), net.link("c", "b", on_data=True)]
    net.link("b", "a", on_data=False)
    assert list(net.into("b")) == into
