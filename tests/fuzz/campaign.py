"""Feeds inputs to every parser for as long as it is told: ``make fuzz``.

    python -m tests.fuzz.campaign --minutes 60 [--seed 0] [--only NAME]

Inputs begin with what is kept in ``corpus/`` and what each parser is known to take;
they are damaged, and whatever reaches lines of the package that none has reached before
is kept in ``corpus/``, if it is short. Between the parsers, a part of the time, run the
worlds of ``frames.py``, whose peers keep what they have heard. An exception, more than
``MOST_CPU_S`` of the processor or ``MOST_GROWTH_BYTES`` of memory for one input is a
finding: its input is saved in ``corpus/``, where the normal tests try it again, the
campaign goes on with the next parser, and its exit is 1 in the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz import doors, files, frames
from tests.fuzz.mutation import damaged
from tests.fuzz.novelty import Novelty
from tests.fuzz.parsers import PARSERS, Parser

CORPUS = Path(__file__).parent / "corpus"

BATCH = 250
BATCH_S = 4.0
"""Inputs of one parser before it is the next one's turn, and how long they may take:
of those that wait for an answer there are fewer."""

WORLD_EVERY = 8
"""Batches between two worlds of peers: some half of the time."""

WORLD_FRAMES = 250

MOST_KEPT_BYTES = 2_048
MOST_KEPT = 48
"""Of one parser in ``corpus/``."""

MOST_CORPUS_BYTES = 384 << 10
"""All that is kept, but for findings."""

MOST_CPU_S = 5.0
MOST_GROWTH_BYTES = 256 << 20

LAST_INPUT = Path(tempfile.gettempdir()) / "p2pfusion-fuzz-input"
"""What is being tried, should the process not survive it."""


class TooSlow(Exception):
    """One input has taken more of the processor than any should."""


class TooLarge(Exception):
    """One input has taken more memory than any should."""


@dataclass
class Tally:
    """What came of one parser's inputs."""

    inputs: int = 0
    kept: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)


@dataclass
class Campaign:
    """All parsers, their inputs, and what was found."""

    rng: random.Random
    parsers: Sequence[Parser]
    corpus: Path
    novelty: Novelty = field(default_factory=Novelty)
    tallies: dict[str, Tally] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    pools: dict[str, list[bytes]] = field(default_factory=dict)
    _places: set[str] = field(default_factory=set)

    def begin(self) -> None:
        """Reads the corpus, and follows everything in it once."""
        for parser in self.parsers:
            self.tallies[parser.name] = Tally()
            pool = [*parser.seeds(self.rng), *kept(self.corpus, parser.name).values()]
            self.pools[parser.name] = pool
            for data in pool:
                self.try_(parser, data)

    def batch(self, parser: Parser, count: int) -> None:
        """So many inputs; fewer if one is a finding, or they take long."""
        pool, end = self.pools[parser.name], time.monotonic() + BATCH_S
        for _ in range(count):
            right = self.try_(parser, self._damaged(parser, pool))
            if not right or time.monotonic() > end:
                return

    def _damaged(self, parser: Parser, pool: list[bytes]) -> bytes:
        """An input after an accident: to its bytes, or to what they say."""
        data = self.rng.choice(pool)
        if parser.change is not None and self.rng.random() < 0.6:
            # Not every input has a form, and not every value can be written in it.
            with suppress(ValueError, TypeError, OverflowError, RecursionError):
                return parser.change(self.rng, data)
        return damaged(self.rng, data, pool)

    def try_(self, parser: Parser, data: bytes) -> bool:
        """One input; whether nothing is wrong with what came of it."""
        tally = self.tallies[parser.name]
        tally.inputs += 1
        try:
            outcome, is_new = self.novelty.follow(lambda: bounded(parser, data))
        except Exception as error:
            self._found(parser, data, error)
            return False
        tally.outcomes[outcome] += 1
        if is_new:
            self.pools[parser.name].append(data)
            self._keep(parser, data)
        return True

    def _keep(self, parser: Parser, data: bytes) -> None:
        tally = self.tallies[parser.name]
        before = kept(self.corpus, parser.name)
        is_small = len(data) + corpus_bytes(self.corpus) <= MOST_CORPUS_BYTES
        if is_small and len(data) <= MOST_KEPT_BYTES and len(before) < MOST_KEPT:
            tally.kept += save(self.corpus, parser.name, data) not in before

    def _found(self, parser: Parser, data: bytes, error: Exception) -> None:
        *_, last = traceback.extract_tb(error.__traceback__)
        where = f"{parser.name}: {type(error).__name__} in {last.name}, {last.lineno}"
        if where in self._places:
            return  # of many inputs that find the same, one is enough
        self._places.add(where)
        name = save(self.corpus, parser.name, data)
        shown = "".join(traceback.format_exception(error)[-3:])
        self.findings.append(f"{parser.name}/{name}: {error!r}")
        print(f"FINDING {parser.name}/{name}\n{shown}", file=sys.stderr, flush=True)


def bounded(parser: Parser, data: bytes) -> str:
    """The parser's outcome, within what one input may cost."""
    before = frames.peak_memory_bytes()
    if parser.is_native:
        LAST_INPUT.write_bytes(data)
    with _processor_time():
        outcome = parser.read(data)
    if frames.peak_memory_bytes() - before > MOST_GROWTH_BYTES:
        raise TooLarge(f"{frames.peak_memory_bytes() - before} bytes")
    return outcome


@contextmanager
def _processor_time() -> Iterator[None]:
    """Time of the processor, which other programs do not shorten."""
    signal.setitimer(signal.ITIMER_PROF, MOST_CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _too_slow(number: int, frame: object) -> None:
    raise TooSlow(f"over {MOST_CPU_S} s of the processor")


def watch_time() -> None:
    """From now on an input that takes too long is interrupted."""
    signal.signal(signal.SIGPROF, _too_slow)


def kept(corpus: Path, name: str) -> dict[str, bytes]:
    """The inputs that are kept for a parser, by the names of their files."""
    paths = sorted((corpus / name).glob("*"))
    return {path.name: path.read_bytes() for path in paths}


def corpus_bytes(corpus: Path) -> int:
    """How much is kept for all parsers."""
    return sum(path.stat().st_size for path in corpus.rglob("*") if path.is_file())


def save(corpus: Path, name: str, data: bytes) -> str:
    """Keeps an input; the name of its file."""
    (corpus / name).mkdir(parents=True, exist_ok=True)
    file = hashlib.sha256(data).hexdigest()[:16]
    (corpus / name / file).write_bytes(data)
    return file


@contextmanager
def every_parser() -> Iterator[list[Parser]]:
    """All of them, with their files and sockets."""
    with ExitStack() as closing:
        root = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="t-")))
        yield [*PARSERS, *files.parsers(root), *doors.parsers(closing, root)]


def run(
    minutes: float, seed: int, only: str | None, corpus: Path = CORPUS
) -> dict[str, object]:
    """A campaign of so long; the document about it."""
    watch_time()
    logging.disable()  # of what is refused, and of a server of pages whose client left
    end = time.monotonic() + 60 * minutes
    worlds = frames.Tally()
    with every_parser() as parsers:
        chosen = [each for each in parsers if only in (None, each.name)]
        campaign = Campaign(random.Random(seed), chosen, corpus)
        campaign.begin()
        turns = 0
        while time.monotonic() < end:
            campaign.batch(chosen[turns % len(chosen)], BATCH)
            turns += 1
            if turns % WORLD_EVERY == 0 and only is None:
                _world(campaign, seed, turns, worlds)
            if turns % 100 == 0:
                _say_how_far(campaign, worlds, end)
    return _document(campaign, worlds, minutes, seed)


def _world(campaign: Campaign, seed: int, number: int, tally: frames.Tally) -> None:
    """One world of peers that are fed; it says itself how to have it again."""
    try:
        frames.play(seed, number, WORLD_FRAMES, tally)
    except frames.Finding as finding:
        campaign.findings.append(str(finding).splitlines()[0])
        traceback.print_exception(finding, file=sys.stderr)
        again = f"--seed {seed} --world {number} --frames {WORLD_FRAMES}"
        print(f"again: python -m tests.fuzz.frames {again}", file=sys.stderr)


def _say_how_far(campaign: Campaign, worlds: frames.Tally, end: float) -> None:
    inputs = sum(tally.inputs for tally in campaign.tallies.values())
    left_s = max(0.0, end - time.monotonic())
    print(
        f"{inputs} inputs, {worlds.frames.total()} frames, {len(campaign.novelty)} "
        f"lines, {len(campaign.findings)} findings, {left_s:.0f} s left",
        file=sys.stderr,
        flush=True,
    )


def _document(
    campaign: Campaign, worlds: frames.Tally, minutes: float, seed: int
) -> dict[str, object]:
    return {
        "minutes": minutes,
        "seed": seed,
        "inputs": sum(tally.inputs for tally in campaign.tallies.values()),
        "frames": worlds.frames.total(),
        "lines_reached": len(campaign.novelty),
        "findings": campaign.findings,
        "parsers": {
            name: {
                "inputs": tally.inputs,
                "kept": tally.kept,
                "outcomes": dict(tally.outcomes.most_common(12)),
            }
            for name, tally in campaign.tallies.items()
        },
    }


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.campaign")
    parser.add_argument("--minutes", type=float, default=5.0, help="for how long")
    parser.add_argument("--seed", type=int, help="another run than others")
    parser.add_argument("--only", help="one parser, by its name")
    given = parser.parse_args(arguments)
    seed = random.randrange(1 << 31) if given.seed is None else given.seed
    found = run(given.minutes, seed, given.only)
    print(json.dumps(found, indent=2))
    return 1 if found["findings"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
