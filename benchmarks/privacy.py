"""What secure aggregation costs, and for how much of a model there is anybody to hide
among.

    python benchmarks/privacy.py [--json] [--values 1000000] [--turns 5]

Three tables. *Processor time* of a holder and of a reducer per million values, by the
number of holders, against what the same code does without masks; in turns, medians of
the process' own time. *Bytes*: the streams of seeds beside all that a round moves, by
the plans. *Cover*: the part of all trained values that has at least three holders, by
method, split fraction and number of peers, as a mean over rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pfusion.daemon.masking import Hiding, Masks, Opening
from p2pfusion.fusion import MeanChange, decode, encode
from p2pfusion.methods import Member, PlanContext, build_method
from p2pfusion.split.coverage import traffic
from p2pfusion.split.forms import HIDDEN
from p2pfusion.split.groups import (
    FEWEST,
    pack_missing,
    seed_elements,
    withheld_part,
)
from p2pfusion.split.homes import Homes
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.plan import ExchangePlan, Hop, plan_round

Row = dict[str, object]

HOLDERS = (3, 4, 8, 16)
COVERED = (
    ("fedavg", "1", 4),
    *(("msfusion", fraction, n) for fraction in ("1/2", "1/4") for n in (4, 8, 16, 32)),
    *(("fedrolex", "1/2", n) for n in (4, 16)),
    ("heterofl", "1/2", 4),
)
ROUNDS = 8
WIDTH = 512


def perceptron(width: int = WIDTH) -> Layout:
    """Two hidden layers: both kinds of cut, on one axis and on two."""
    uniform = Initial("uniform", 0.1)
    one, two = Dimension(width, "one"), Dimension(width, "two")
    return Layout(
        (Axis("one", width), Axis("two", width)),
        (
            ParameterSpec("in", (one, Dimension(784)), uniform),
            ParameterSpec("mid", (two, one), uniform),
            ParameterSpec("out", (Dimension(10), two), uniform),
        ),
    )


def planned(
    layout: Layout, method: str, fraction: str, peers: int
) -> Iterator[ExchangePlan]:
    """The plans of some rounds."""
    made = build_method(method, {})
    roster = tuple(Member(f"p{n:02}", Fraction(fraction)) for n in range(peers))
    context = PlanContext(0, ROUNDS, layout, roster)
    homes = Homes.initial(layout)
    for number in range(ROUNDS):
        now, then = (
            {
                member.peer: made.split(context, at, rank)
                for rank, member in enumerate(roster)
            }
            for at in (number, number + 1)
        )
        plan = plan_round(
            layout,
            seed=0,
            round_index=number,
            current=now,
            following=then,
            homes=homes,
            among_holders=True,
        )
        homes = plan.homes_after()
        yield plan


def cover(method: str, fraction: str, peers: int) -> Row:
    """How much can be hidden, and what the seeds take of all bytes."""
    parts, shares = [], []
    for plan in planned(perceptron(), method, fraction, peers):
        parts.append(1.0 - withheld_part(plan))
        seeds = sum(
            4 * seed_elements(plan, source, reducer)
            for reducer in plan.peers
            for source in plan.peers
        )
        sent = sum(traffic(plan, peer, wire=HIDDEN).sent_bytes for peer in plan.peers)
        shares.append(seeds / sent if sent else 0.0)
    return {
        "method": method,
        "split_fraction": fraction,
        "peers": peers,
        "hidden": statistics.mean(parts),
        "seeds_to_all_bytes": statistics.mean(shares),
    }


def _pair(one: str) -> Callable[[str], bytes]:
    return lambda other: hashlib.sha256(
        "+".join(sorted((one, other))).encode()
    ).digest()


def _cpu_s(work: Callable[[], object]) -> float:
    begun_s = time.process_time()
    work()
    return time.process_time() - begun_s


def cost(holders: int, values: int, turns: int) -> Row:
    """Of one holder, and of one reducer with all of its holders."""
    width = max(32, 32 * round(values / (32 * 784)))
    layout = Layout(
        (Axis("one", width),),
        (
            ParameterSpec(
                "in", (Dimension(width, "one"), Dimension(784)), Initial("zeros")
            ),
        ),
    )
    plan = next(planned(layout, "fedavg", "1", holders))
    reducer = max(plan.peers, key=lambda peer: plan.reduced_by(peer).size)
    ids = plan.reduced_by(reducer)
    size = int(plan.range_sizes[ids].sum())
    changes = np.random.default_rng(0).normal(0, 0.01, size).astype(np.float32)
    sources = plan.sources(Hop.CONTRIBUTION, reducer)
    masks = {peer: Masks("withhold", _pair(peer)) for peer in plan.peers}
    hidings = {s: Hiding(plan, s, reducer, "", masks[s]) for s in sources}
    masked = {source: hidings[source].hidden(changes) for source in sources}

    def open_them(lost: tuple[str, ...] = ()) -> None:
        opening = Opening(plan, reducer, "", masks[reducer], own=True)
        asked = pack_missing(plan, lost)
        for source in set(sources) - set(lost):
            opening.came(source, masked[source])
            opening.told(source, asked, hidings[source].seeds(asked))
        opening.fuse(MeanChange(plan.range_sizes[ids]), lambda _: changes)

    def add_them() -> None:
        total = MeanChange(plan.range_sizes[ids])
        for _ in plan.peers:
            cursor = total.open(np.arange(len(ids)), 1.0)
            cursor.add(decode(encode(changes, "float32"), "float32"))

    works = {
        "hide_s": lambda: hidings[sources[0]].hidden(changes),
        "open_s": open_them,
        "open_without_one_s": lambda: open_them(sources[:1]),
        "plain_sum_s": add_them,
    }
    if holders == FEWEST:
        del works["open_without_one_s"]  # two are too few
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(turns):
        for name, work in works.items():
            found[name].append(_cpu_s(work) * 1e6 / size)
    return {
        "holders": holders,
        **{name: statistics.median(times) for name, times in found.items()},
    }


def table(rows: list[Row]) -> str:
    """Rows of the same keys, or fewer, as Markdown."""
    keys = list(dict.fromkeys(key for row in rows for key in row))

    def cell(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = [f"| {' | '.join(keys)} |", "|---" * len(keys) + "|"]
    lines += [f"| {' | '.join(cell(row.get(k, '')) for k in keys)} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Measures, and prints tables or one document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    costs = [cost(n, options.values, options.turns) for n in HOLDERS]
    covers = [cover(*each) for each in COVERED]
    if options.json:
        print(json.dumps({"seconds_per_million_values": costs, "cover": covers}))
        return
    print("Processor seconds per million values of a reducer:\n")
    print(table(costs))
    print("\nWhat has at least three holders:\n")
    print(table(covers))


if __name__ == "__main__":
    main()
