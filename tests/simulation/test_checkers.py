"""Every check finds the peer that it is made for, and nothing in a sound swarm."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest

from p2pfusion.limits import MAX_VIOLATIONS
from p2pfusion.protocol import events as e
from p2pfusion.protocol.messages import Facts, Hello, Offer, PeerRecord
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.restoring import Restoring
from p2pfusion.protocol.transfer import Pulls
from p2pfusion.simulation import seeds
from p2pfusion.simulation.checkers import Violation
from p2pfusion.simulation.disk import Disk, File
from p2pfusion.simulation.gaps import KNOWN_GAPS, OBSERVED
from p2pfusion.simulation.machine import Machine
from p2pfusion.simulation.run import Outcome, Setting, simulate
from p2pfusion.simulation.world import Make, World, make_peer
from p2pfusion.split.plan import Hop
from tests.simulation.broken import After, broken, deaf, twice

SMALL = Setting(peers=3, rounds=4, faults="none")


def found(make: Make, setting: Setting = SMALL) -> list[Violation]:
    return simulate(setting, make=make).violations


def checks(violations: list[Violation]) -> set[str]:
    return {violation.check for violation in violations}


def changed(kind: type, **changes: object) -> After:
    """The first effect of a kind is done with other fields."""
    done: list[e.Effect] = []

    def after(peer: Peer, effects: list[e.Effect]) -> list[e.Effect]:
        for at, effect in enumerate(effects):
            if isinstance(effect, kind) and not done:
                done.append(effect)
                effects[at] = dataclasses.replace(effect, **changes)  # type: ignore[type-var]
        return effects

    return after


def test_nothing_is_found_in_a_sound_swarm() -> None:
    outcome = simulate(SMALL)
    assert outcome.violations == []
    assert outcome.gaps == [] and not outcome.observed
    assert outcome.rounds_completed_min == 4


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (e.CloseReduction, "fused twice"),
        (e.Seal, "sealed twice"),
        (e.StartTraining, "trained twice"),
        (e.EnterRound, "order"),
    ],
)
def test_what_is_done_twice_is_found(kind: type, check: str) -> None:
    violations = found(broken("p1", after=twice(kind)))
    assert checks(violations) == {check}
    assert {violation.peer for violation in violations} == {"p1"}
    assert [v.at_s for v in violations] == sorted(v.at_s for v in violations)


def test_fusing_the_ranges_of_two_at_once_is_found() -> None:
    """A backup that takes its own ranges for those of a silent reducer."""

    def after(peer: Peer, effects: list[e.Effect]) -> list[e.Effect]:
        closed = [x for x in effects if isinstance(x, e.CloseReduction)]
        for close in closed:
            plan = peer.exchange.rounds[close.round_index].plan
            object.__setattr__(plan, "backup", plan.reducer)
            effects.append(e.OpenReduction(close.round_index, "p1"))
            effects.append(e.CloseReduction(close.round_index, "p1"))
        return effects

    assert "fused twice" in checks(found(broken("p1", after=after)))


def test_a_peer_that_ignores_facts_is_found() -> None:
    violations = found(
        broken("p2", before=deaf(Facts)), dataclasses.replace(SMALL, rounds=12)
    )
    assert checks(violations) == {"roster"}


def test_a_peer_that_never_hears_its_trainer_is_found() -> None:
    violations = found(broken("p1", before=deaf(e.TrainingFinished)))
    assert "wait without reason" in checks(violations)


def test_a_swarm_in_which_nothing_happens_any_more_is_found() -> None:
    def forever(world: World) -> None:
        for machine in world.machines.values():
            machine.slowness = 1e9

    violations = simulate(SMALL, on_world=forever).violations
    assert checks(violations) == {"stall"}
    assert "waits for {'p1': 'training'" in violations[1].text


def test_an_exception_is_found_with_its_place_and_ends_the_daemon() -> None:
    def before(peer: Peer, event: e.Event) -> e.Event | None:
        if isinstance(event, e.TrainingFinished) and event.round_index == 1:
            raise ZeroDivisionError("on purpose")
        return event

    (violation,) = found(broken("p1", before=before))
    assert violation.check == "exception" and violation.peer == "p1"
    assert "TrainingFinished raised ZeroDivisionError" in violation.text
    assert "test_checkers.py:" in violation.text


def test_a_value_for_other_coordinates_is_found() -> None:
    def after(peer: Peer, effects: list[e.Effect]) -> list[e.Effect]:
        for at, effect in enumerate(effects):
            if isinstance(effect, e.SendStart) and effect.stream.hop == Hop.FUSED:
                other = "p0" if effect.stream.target == "p2" else "p2"
                stream = dataclasses.replace(effect.stream, target=other)
                effects[at] = dataclasses.replace(effect, stream=stream)
        return effects

    # Everybody trains everything: all streams of one reducer are equally long.
    whole = dataclasses.replace(SMALL, split_fraction=Fraction(1))
    assert "coordinates" in checks(found(broken("p1", after=after), whole))


def test_a_gap_in_a_stream_is_found() -> None:
    violations = found(broken("p1", after=changed(e.Absorb, offset=4)))
    assert checks(violations) == {"coordinates"}
    assert "a gap in" in violations[0].text


def test_a_stream_that_ends_too_early_is_found() -> None:
    def after(peer: Peer, effects: list[e.Effect]) -> list[e.Effect]:
        return [x for x in effects if not isinstance(x, e.Absorb)]

    violations = found(broken("p1", after=after))
    assert "ends too early" in violations[0].text


def test_an_offer_that_was_never_made_is_found() -> None:
    def after(peer: Peer, effects: list[e.Effect]) -> list[e.Effect]:
        round_ = peer.round
        if round_ is not None and "p2" in round_.offers:
            forged = Offer(round_.number, bytes(16), 999, 0.0, 0.0, 0.0)
            round_.offers["p2"] = (round_.offers["p2"][0], forged)
        return effects

    violations = found(broken("p1", after=after))
    assert checks(violations) == {"spoken for"}
    assert "an offer of p2" in violations[0].text


def test_a_record_that_its_subject_never_signed_is_found() -> None:
    """A peer that makes up a record, and is believed for want of a check."""
    from p2pfusion.protocol.statements import sign_record
    from p2pfusion.simulation.keys import NamedKey

    lied: list[bool] = []

    def before(peer: Peer, event: e.Event) -> e.Event | None:
        known = peer.gossip.facts.records.get("p2")
        if isinstance(event, e.Tick) and known is not None and not lied:
            lied.append(True)
            lie = dataclasses.replace(known, sequence=known.sequence + 1)
            signed = sign_record(lie, NamedKey("p2"))
            credential = peer.gossip.facts.membership("p2").credential
            from p2pfusion.protocol.messages import Membership

            return e.Received("p0", Facts((Membership(signed, credential),)))
        return event

    def after(peer: Peer, effects: list[e.Effect]) -> list[e.Effect]:
        # At once: the subject says soon that it was not its own word.
        saved = e.SaveFacts(tuple(peer.gossip.facts.messages()))
        return [*effects, saved] if len(lied) == 1 else effects

    violations = found(broken("p1", before=before, after=after))
    assert {"spoken for", "cloned"} <= checks(violations)


def test_tables_that_grow_without_bound_are_found() -> None:
    def after(peer: Peer, effects: list[e.Effect]) -> list[e.Effect]:
        for number in range(50):
            peer.gossip.detector.watch(f"stranger {number}", 0.0)
        return effects

    violations = found(broken("p1", after=after))
    assert "limits" in checks(violations)
    assert any("contacts" in v.text for v in violations if v.check == "limits")


def test_a_need_that_is_given_up_without_a_word_is_found() -> None:
    """A peer that drops what it received, and goes on as if it had it."""

    def after(peer: Peer, effects: list[e.Effect]) -> list[e.Effect]:
        return [
            dataclasses.replace(x, complete=False) if isinstance(x, e.CloseSink) else x
            for x in effects
        ]

    assert "silently stale" in checks(found(broken("p1", after=after)))


def test_ranges_that_somebody_has_and_an_export_does_not_get_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The homes say what they lack, and nobody listens, nor makes up for it."""
    started = Pulls.started

    def deafly(self: Pulls, pull, start, weight, now):  # type: ignore[no-untyped-def]
        effects = started(self, pull, start, weight, now)
        pull.absent_count = 0
        return effects

    monkeypatch.setattr(Pulls, "started", deafly)
    monkeypatch.setattr(Restoring, "begin", lambda *_, **__: [])
    found = (checks(simulate(Setting(5, 20, seed)).violations) for seed in (12, 13, 37))
    assert any("lost" in each for each in found)


# --- Crashes -------------------------------------------------------------------------


def crashed(monkeypatch: pytest.MonkeyPatch, setting: Setting) -> Outcome:
    return simulate(setting)


RESTARTS = Setting(peers=3, rounds=8, faults="none")


def restarted() -> list[Violation]:
    def on_world(world: World) -> None:
        def down(name: str) -> None:
            world.kill(name, power=True)
            world.at(world.now + 0.4, world.start, name)

        for number in range(12):
            world.at(2.0 + 0.11 * number, down, f"p{number % 3}")

    return simulate(RESTARTS, on_world=on_world).violations


def test_a_sound_disk_survives() -> None:
    assert restarted() == []


def test_an_incarnation_that_comes_back_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def once(disk: Disk) -> int:
        disk.incarnation = 1
        return 1

    monkeypatch.setattr(Disk, "next_incarnation", once)
    assert any("once more" in v.text for v in restarted() if v.check == "restart")


def test_a_file_that_forgets_what_was_durable_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crash = File.crash

    def forgetful(self: File[object], at: float, *, keeps: bool) -> None:
        older = self._writes[-2:-1]
        crash(self, at, keeps=keeps)
        self._writes = older or self._writes

    monkeypatch.setattr(File, "crash", forgetful)
    assert any("none that was durable" in v.text for v in restarted())


# --- What is kept --------------------------------------------------------------------


def test_only_so_many_violations_are_kept() -> None:
    def after(peer: Peer, effects: list[e.Effect]) -> list[e.Effect]:
        return effects + effects

    assert len(found(broken("p1", after=after))) <= MAX_VIOLATIONS


def test_known_gaps_are_counted_and_are_no_violations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(KNOWN_GAPS, "fused twice", "for this test")
    outcome = simulate(SMALL, make=broken("p1", after=twice(e.CloseReduction)))
    assert outcome.violations == []
    assert "fused twice" in outcome.to_data()["known_gaps"]  # type: ignore[operator]


def test_what_is_not_promised_is_observed_and_hides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(OBSERVED, "fused twice", "for this test")
    outcome = simulate(SMALL, make=broken("p1", after=twice(e.CloseReduction)))
    assert outcome.violations == outcome.gaps == []
    observed = outcome.to_data()["observed"]
    assert observed == {"fused twice": outcome.observed["fused twice"]}
    assert outcome.observed["fused twice"] > 0


def test_what_is_lacking_and_never_asked_for_is_found() -> None:
    """Whoever was away counts as a copy for ever, if it does not look what it has; and
    who is done does not come to rest."""
    setting = seeds.random_setting(207)
    assert not simulate(setting).violations

    def make(record: PeerRecord, *rest: object) -> Peer:
        return broken(record.peer, before=deaf(e.FoundLacking))(record, *rest)  # type: ignore[arg-type]

    violations = simulate(setting, make=make).violations
    assert checks(violations) == {"replication", "stall"}
    assert all("not at rest" in v.text for v in violations if v.check == "stall")


def test_a_dead_member_in_the_roster_is_found() -> None:
    """Nobody accuses anybody."""

    def after(peer: Peer, effects: list[e.Effect]) -> list[e.Effect]:
        peer.gossip.detector.silent.clear()
        return effects

    setting = Setting(peers=4, rounds=60, faults="none")

    def on_world(world: World) -> None:
        world.at(4.0, world.kill, "p3")

    def make(record: PeerRecord, *rest: object) -> Peer:
        return broken(record.peer, after=after)(record, *rest)  # type: ignore[arg-type]

    violations = simulate(setting, make=make, on_world=on_world).violations
    assert ("dead member", "p3") in {(v.check, v.peer) for v in violations}
    assert not simulate(setting, on_world=on_world).violations


def test_who_lives_and_does_not_come_back_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A peer that was put out, and says nothing."""
    from p2pfusion.protocol.suspicion import Suspicion

    setting = Setting(peers=4, rounds=60, faults="none")

    def on_world(world: World) -> None:
        world.at(4.0, world.pause, "p3")
        world.at(24.0, world.resume, "p3")

    assert not simulate(setting, on_world=on_world).violations
    monkeypatch.setattr(Suspicion, "answer", lambda self, now: [])
    violations = simulate(setting, on_world=on_world).violations
    assert "p3" in {v.peer for v in violations}


def test_an_accusation_of_a_peer_that_was_just_heard_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from p2pfusion.protocol.statements import AccusationFact, sign_accusation

    def after(peer: Peer, effects: list[e.Effect]) -> list[e.Effect]:
        known = peer.gossip.facts.records.get("p2")
        if known is not None:
            said = AccusationFact("p1", "p2", known.age, 7)
            sign_accusation(peer.gossip.swarm_id, said, peer.gossip.signer)
        return effects

    violations = found(broken("p1", after=after))
    assert checks(violations) == {"accused"} and "heard 0." in violations[0].text


def test_rounds_without_a_majority_are_found() -> None:
    """By the policy that allows them, looked at by the one that does not."""
    setting = Setting(peers=4, rounds=30, faults="none", policy="fork")

    def on_world(world: World) -> None:
        strict = Setting(peers=4, rounds=30, faults="none").manifest()
        for name in ("p1", "p2", "p3"):
            world.at(4.0, world.kill, name)
        world.at(4.0, lambda _: setattr(world, "manifest", strict), None)

    violations = simulate(setting, on_world=on_world).violations
    assert "no quorum" in checks(violations)


def test_a_broken_peer_is_made_only_where_it_is_asked_for() -> None:
    made: list[str] = []

    def make(record: PeerRecord, *rest: object) -> Peer:
        made.append(record.peer)
        return make_peer(record, *rest)  # type: ignore[arg-type]

    simulate(SMALL, make=make)
    assert sorted(made) == ["p0", "p1", "p2"]
    assert isinstance(Machine, type) and issubclass(Hello, object)
