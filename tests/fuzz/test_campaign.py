"""Every input that was ever worth keeping is tried again, and some new ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import campaign
from tests.fuzz.campaign import CORPUS, Campaign, every_parser, kept
from tests.fuzz.novelty import Novelty
from tests.fuzz.parsers import Parser

MOST_CORPUS_BYTES = 512 << 10
"""With what was found."""

NEW_INPUTS = 40
"""Of each parser, in the normal tests."""


@pytest.fixture(scope="module")
def parsers() -> Iterator[list[Parser]]:
    """All of them."""
    campaign.watch_time()
    with every_parser() as made:
        yield made


def test_inputs_that_were_kept_are_refused_or_understood(parsers: list[Parser]) -> None:
    assert {parser.name for parser in parsers} >= {
        path.name for path in CORPUS.iterdir() if path.is_dir()
    }
    for parser in parsers:
        for name, data in kept(CORPUS, parser.name).items():
            assert campaign.bounded(parser, data), f"{parser.name}/{name}"
    assert 0 < campaign.corpus_bytes(CORPUS) < MOST_CORPUS_BYTES


def test_new_inputs_are_refused_or_understood(
    parsers: list[Parser], tmp_path: Path
) -> None:
    made = Campaign(random.Random(0), parsers, tmp_path)
    made.begin()
    for parser in parsers:
        made.batch(parser, NEW_INPUTS)
        tally = made.tallies[parser.name]
        assert tally.inputs > 2 and tally.outcomes
    assert made.findings == []
    assert any(tmp_path.iterdir())  # what reached something new


def fragile(data: bytes) -> str:
    """Breaks where two bytes that are not in any seed stand together."""
    if b"\x00\xff" in data or b"\xff\xff" in data:
        raise ZeroDivisionError("planted")
    return "taken"


def test_a_finding_is_kept_once_and_what_is_slow_or_large_is_one(
    tmp_path: Path,
) -> None:
    parser = Parser("fragile", fragile, lambda rng: [b"\x00" * 8, b"\xff\x01\xff"])
    made = Campaign(random.Random(0), [parser], tmp_path)
    made.begin()
    for _ in range(200):
        made.batch(parser, 20)
    assert len(made.findings) == 1 and "planted" in made.findings[0]
    (path,) = (tmp_path / "fragile").iterdir()
    with pytest.raises(ZeroDivisionError):
        fragile(path.read_bytes())


def test_an_input_may_take_so_much_time_and_memory_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign.watch_time()
    monkeypatch.setattr(campaign, "MOST_CPU_S", 0.05)

    def endless(data: bytes) -> str:
        while True:
            data = data[1:] + data[:1]

    with pytest.raises(campaign.TooSlow):
        campaign.bounded(Parser("endless", endless, lambda rng: []), b"ab")
    monkeypatch.setattr(campaign, "MOST_CPU_S", 60.0)
    monkeypatch.setattr(campaign, "MOST_GROWTH_BYTES", 1 << 20)
    peak = campaign.frames.peak_memory_bytes()

    def greedy(data: bytes) -> str:
        return str(len(b"x" * (peak + (64 << 20))))

    with pytest.raises(campaign.TooLarge):
        campaign.bounded(Parser("greedy", greedy, lambda rng: []), b"")


def test_a_line_is_new_once() -> None:
    from p2pfusion.transport.budget import source_of

    novelty = Novelty()
    assert novelty.follow(lambda: source_of("192.0.2.1")) == ("192.0.2.1", True)
    assert novelty.follow(lambda: source_of("192.0.2.2")) == ("192.0.2.2", False)
    assert novelty.follow(lambda: source_of("2001:db8::1"))[1]
