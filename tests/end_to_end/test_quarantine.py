"""Real daemons, one of which lies: it is in quarantine soon, and changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from p2pfusion.daemon.state import SwarmState
from p2pfusion.errors import ConflictError, ResourceError
from p2pfusion.fusion.agreement import MIN_NOTES
from p2pfusion.split.segment import Split
from p2pfusion.store import Store
from tests.end_to_end.hostile import FIRST_LIE
from tests.end_to_end.programs import Program
from tests.end_to_end.swarm import QUICK, Daemon, Data, Swarm, gather, share

pytestmark = pytest.mark.slow

ROUNDS, PEERS = 14, 4
SETTINGS = {**QUICK, "rounds": ROUNDS, "min_peers": PEERS, "local_steps": 2}

WITHIN = 3
"""So many rounds after the first lie everybody to whom something false was sent has the
liar in quarantine: the second false value is enough, and the round of that one ends."""

CAUGHT = {
    "not-finite": ("values", "not a finite number"),
    "too-long": ("stream", "the plan says"),
    "unlike-its-offer": ("digest", "other values than its offer"),
    "two-offers": ("equivocation", "two different offers"),
}
HEAVY = [
    pytest.param(lie, marks=[] if lie == "not-finite" else pytest.mark.soak)
    for lie in CAUGHT
]


CHECKED = {**SETTINGS, "min_peers": 5, "fusion": "trimmed", "second_opinions": True}

ALIKE = {**SETTINGS, "min_peers": 5, "rounds": 30, "fusion": "trimmed"}


def with_a_liar(
    swarm: Swarm, lie: str, settings: Data = SETTINGS, fraction: float = 0.5
) -> tuple[list[Daemon], Daemon]:
    """A swarm, the last of which lies."""
    honest, liars = with_liars(swarm, [lie], settings, fraction)
    return honest, liars[0]


def with_liars(
    swarm: Swarm, lies: list[str], settings: Data, fraction: float
) -> tuple[list[Daemon], list[Daemon]]:
    """A swarm, the last ones of which lie, each in its way."""
    count = int(str(settings["min_peers"]))
    made = [
        swarm.add(
            peer={"split_fraction": fraction},
            data=share(number, count),
            swarm=settings if number == 0 else None,
        )
        for number in range(count)
    ]
    liars = made[-len(lies) :]
    for liar, lie in zip(liars, lies, strict=True):
        liar.program = (sys.executable, "-m", "tests.end_to_end.hostile", lie)
    gather(made)
    return made[: -len(lies)], liars


def rows(daemon: Daemon) -> dict[str, dict[str, object]]:
    """What it says of each member, by id."""
    found = daemon.ask("peers")["peers"]
    assert isinstance(found, list)
    return {row["id"]: row for row in found}


def has_exported(daemon: Daemon, path: Path) -> bool:
    """Whether it has the whole model: what lived at the liar alone has to be replaced
    by what the others had before."""
    try:
        daemon.ask("export", path=str(path))
    except ResourceError:
        return False
    return True


def stored(daemon: Daemon) -> np.ndarray:
    """Every value in a daemon's store."""
    state = SwarmState(daemon.home / "swarm")
    manifest = state.load_manifest()
    assert manifest is not None
    store = Store.open(state.store, manifest.layout, manifest.seed)
    full = Split.full(manifest.layout)
    indices = range(len(manifest.layout.parameters))
    parts = [store.read(full.segment(manifest.layout, each)) for each in indices]
    return np.concatenate([np.ravel(part) for part in parts])


@pytest.mark.parametrize("lie", HEAVY)
def test_a_liar_is_in_quarantine_and_nobody_else(
    swarm: Swarm, tmp_path: Path, lie: str
) -> None:
    honest, liar = with_a_liar(swarm, lie)
    kind, text = CAUGHT[lie]
    names = {f"p{number}" for number in range(PEERS - 1)}
    for daemon in honest:
        daemon.wait("done")
    for daemon in honest:
        said = rows(daemon)
        held = said[liar.peer]["quarantine"]
        assert isinstance(held, dict), daemon.rounds()
        assert held["kind"] == kind and text in held["why"]
        assert held["proven"] is (lie == "two-offers")
        if not held["proven"]:
            assert FIRST_LIE <= held["since_round"] <= FIRST_LIE + WITHIN
        assert all(said[d.peer]["quarantine"] is None for d in honest)
        done = daemon.rounds()
        assert [row["number"] for row in done] == list(range(ROUNDS))
        last = done[-1]
        assert set(last["contributors"]) <= names, "as far as offers came in time"
        missed = [m for row in done for m in row["missing"]]
        assert {m["peer"] for m in missed} == {liar.peer}
        assert str(missed[-1]["reason"]).startswith("quarantined: ")
        trouble = daemon.ask("status")["health"]
        assert "quarantined" in {row["code"] for row in trouble}
    first = honest[0]
    shown = Program(first.home, swarm.mark).run("peers").out
    assert ("convicted" if lie == "two-offers" else "quarantined") in shown
    if lie == "two-offers":
        with pytest.raises(ConflictError, match="its own signatures prove"):
            first.ask("trust-pardon", peer="p3")
    else:
        assert first.ask("trust-pardon", peer="p3")["was_quarantined"] is True
        assert rows(first)[liar.peer]["quarantine"] is None
    first.until(lambda: has_exported(first, tmp_path / "model.safetensors"))
    for daemon in honest:
        daemon.ask("stop")
        daemon.ended()
        assert np.isfinite(stored(daemon)).all()


def found_in(
    honest: list[Daemon], liar: Daemon, kind: str, words: str
) -> Iterator[tuple[Daemon, int]]:
    """The round in which each has put the liar, and nobody else, into quarantine."""
    for daemon in honest:
        daemon.wait("done")
    for daemon in honest:
        said = rows(daemon)
        held = said[liar.peer]["quarantine"]
        assert isinstance(held, dict), said[liar.peer]
        assert held["kind"] == kind and words in held["why"]
        assert all(said[d.peer]["quarantine"] is None for d in honest)
        yield daemon, int(held["since_round"])


@pytest.mark.soak  # simulation/test_attacks.py has it without processes
def test_who_turns_its_changes_around_is_found_by_comparing(swarm: Swarm) -> None:
    """No rule of the protocol is broken: it is only unlike the others, every time.
    Everybody has everything here, so that all can be compared."""
    honest, liar = with_a_liar(swarm, "turned", ALIKE, 1.0)
    for daemon, number in found_in(honest, liar, "outlying", "unlike the others"):
        assert number >= MIN_NOTES
        assert "p4" not in daemon.rounds()[-1]["contributors"]


@pytest.mark.soak  # as above
def test_who_repeats_itself_is_found_before_it_could_be_by_comparing(
    swarm: Swarm,
) -> None:
    honest, liar = with_a_liar(swarm, "repeating", ALIKE, 1.0)
    for _, number in found_in(honest, liar, "outlying", "unlike the others"):
        assert FIRST_LIE < number < MIN_NOTES


@pytest.mark.soak
@pytest.mark.parametrize("lies", [["turned"] * 2, ["repeating", "turned"]], ids=str)
def test_two_liars_of_seven_are_found_at_every_other_peer(
    swarm: Swarm, lies: list[str]
) -> None:
    honest, liars = with_liars(swarm, lies, {**ALIKE, "min_peers": 7}, 1.0)
    for daemon in honest:
        daemon.wait("done")
    for daemon in honest:
        held = {peer for peer, row in rows(daemon).items() if row["quarantine"]}
        assert held == {liar.peer for liar in liars}


def test_a_reducer_that_lies_is_not_believed_and_soon_not_asked(swarm: Swarm) -> None:
    """Its backups make other values, which are nearer to those from before, and are
    taken in place of its own from the first lie on; the second is enough."""
    honest, liar = with_a_liar(swarm, "reducing", CHECKED, 1.0)
    for daemon, number in found_in(honest, liar, "reducing", "several others"):
        assert FIRST_LIE < number <= FIRST_LIE + WITHIN
        losses = [row["loss"] for row in daemon.rounds()]
        assert losses[-1] < losses[0]
