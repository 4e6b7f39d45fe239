"""Our swarm beside hivemind, p2pfl and Flower: the same task, in one run, in turn.

    python benchmarks/rivals.py --install      # once: an environment for each of them
    python benchmarks/rivals.py [--json] [--runs 3] [--part PART] [--only NAME ...]

Two parts. *averaging*: four peers average 16 and 64 MiB of float32. *rounds*: what a
round of a perceptron with 85,002 parameters (0.34 MB) costs beyond the training itself,
which is timed with nothing else around it; and how long such runs take, and what they
send, until the model knows 97 % of the held-out digits.

Every peer is a machine in miniature with a network namespace of its own
(``rivals/network.py``); what crosses the bridge between them is counted. Everybody has
the same shares of the digits, the same first values, and as many steps of the same SGD
in a round. What does not run is named with its error, and is in no table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCHMARKS / "rivals"), str(BENCHMARKS.parent)]

from network import build, enter  # noqa: E402

DEFAULT = Path.home() / ".cache" / "p2pfusion-rivals"
ENVIRONMENTS = ("hivemind", "flower", "p2pfl")
PARTS = ("averaging", "rounds")
SIZES_MIB = (16, 64)
TARGET = 0.97
"""Of the held-out digits: where the curves of all of them bend."""

Found = dict[str, object]


def main() -> None:
    """Installs, or measures and prints the tables or one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--install", action="store_true", help="make the environments")
    parser.add_argument("--environments", type=Path, default=DEFAULT, metavar="DIR")
    parser.add_argument("--runs", type=int, default=3, help="of each, in turn")
    parser.add_argument("--mib", type=int, nargs="+", default=SIZES_MIB)
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the contestants")
    options = parser.parse_args()
    if options.install:
        return install(options.environments)
    missing = [e for e in ENVIRONMENTS if not (options.environments / e).exists()]
    if missing:
        print(f"not installed: {', '.join(missing)}; see --install", file=sys.stderr)
    enter()
    measure(options, missing)


def install(home: Path) -> None:
    """An environment per rival, with exactly the versions that it was measured with.

    The requirements name every package, so nothing is resolved, and no library for
    accelerators comes along.
    """
    home.mkdir(parents=True, exist_ok=True)
    for name in ENVIRONMENTS:
        subprocess.run([sys.executable, "-m", "venv", str(home / name)], check=True)
        pip = [str(home / name / "bin" / "python"), "-m", "pip", "install", "--no-deps"]
        wanted = BENCHMARKS / "rivals" / f"{name}.txt"
        subprocess.run([*pip, "--quiet", "--requirement", str(wanted)], check=True)


def measure(options: argparse.Namespace, missing: Sequence[str]) -> None:
    """All parts that are asked for."""
    from contestants import CONTESTANTS, PEERS

    build(PEERS + 1)
    found: Found = {
        "benchmark": "rivals",
        "runs": options.runs,
        "load": os.getloadavg(),
    }
    parts = options.part or PARTS
    names = [
        name
        for name, contestant in CONTESTANTS.items()
        if contestant.environment not in missing
        and (not options.only or name in options.only)
    ]
    failed: dict[str, str] = {}
    if "averaging" in parts:
        found["averaging"] = averaging(options, "hivemind" not in missing, failed)
    if "rounds" in parts:
        found["rounds"] = rounds(options, names, failed)
    found |= {"failed": failed, "load_at_the_end": os.getloadavg()}
    print(json.dumps(found, indent=2) if options.json else text(found))


def averaging(
    options: argparse.Namespace, with_hivemind: bool, failed: dict[str, str]
) -> Found:
    """Seconds of each kind of step, by size."""
    from averaging import hivemind_steps, our_exchanges

    found: Found = {}
    for mib in options.mib:
        seconds: dict[str, list[float]] = {}
        for _ in range(options.runs):
            told = [our_exchanges(mib)]
            theirs = hivemind_steps(mib, options.environments) if with_hivemind else {}
            if isinstance(theirs, str):
                failed[f"hivemind, {mib} MiB"] = theirs
            else:
                told.append(theirs)
            for kind, values in (pair for each in told for pair in each.items()):
                seconds.setdefault(kind, []).extend(values)
            print(f"{mib} MiB: {seconds}", file=sys.stderr)
        found[f"{mib} MiB"] = {
            kind: spread(values) for kind, values in seconds.items() if values
        }
    return found


def rounds(
    options: argparse.Namespace, names: Sequence[str], failed: dict[str, str]
) -> Found:
    """Seconds and bytes of rounds, and until the target, by contestant."""
    from contestants import CONTESTANTS, PLAIN
    from race import Race, pure_training, race

    pure: list[tuple[float, float]] = []
    races: dict[str, list[Race]] = {}
    for seed in range(options.runs):
        turn = [name for name in names if not (seed and CONTESTANTS[name].is_slow)]
        first = seed % len(turn) if turn else 0
        turn = turn[first:] + turn[:first]
        pure.append(pure_training(PLAIN, seed, options.environments))
        print(f"seed {seed} pure training: {pure[-1]}", file=sys.stderr)
        for name in turn:
            result = race(CONTESTANTS[name], seed, TARGET, options.environments)
            if isinstance(result, str):
                failed[f"{name}, seed {seed}"] = result
            else:
                races.setdefault(name, []).append(result)
            print(f"seed {seed} {name}: {result}", file=sys.stderr)
    pure_s, pure_used_s = (statistics.median(each) for each in zip(*pure, strict=True))
    found: Found = {
        "pure training": {
            "round_s": spread([took for took, _ in pure]),
            "processor_s": spread([used for _, used in pure]),
        }
    }
    for name in (name for name in names if name in races):
        runs = races[name]
        reached = [run for run in runs if run.rounds_needed]
        found[CONTESTANTS[name].title] = {
            "round_s": spread([run.round_s for run in runs]),
            "overhead_s": statistics.median(run.round_s for run in runs) - pure_s,
            "processor_s": spread([run.round_processor_s for run in runs]),
            "processor_overhead_s": statistics.median(
                run.round_processor_s for run in runs
            )
            - pure_used_s,
            "round_mb": spread([run.round_bytes / 1e6 for run in runs]),
            "first_round_s": spread([run.first_round_s for run in runs]),
            "reached": f"{len(reached)} of {len(runs)}",
            "rounds_needed": spread([run.rounds_needed or 0 for run in reached]),
            "seconds_needed": spread([run.seconds_needed for run in reached]),
            "mb_needed": spread([run.bytes_needed / 1e6 for run in reached]),
        }
    return found


def spread(values: Sequence[float]) -> Mapping[str, float]:
    """Median, least and most; nothing of nothing."""
    if not values:
        return {}
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "count": len(values),
    }


def text(found: Found) -> str:
    """What people read: one line per figure."""
    lines = []
    for part in PARTS:
        rows = found.get(part, {})
        assert isinstance(rows, dict)
        for name, row in rows.items():
            lines.append(f"{part}: {name}")
            lines += [f"    {key:36} {shown(value)}" for key, value in row.items()]
    lines += [f"{key}: {found[key]}" for key in ("load", "load_at_the_end", "failed")]
    return "\n".join(lines)


def shown(value: object) -> str:
    """A figure, or its median with the least and the most."""
    if isinstance(value, dict):
        if not value:
            return "-"
        return f"{value['median']:9.3f}  ({value['min']:.3f} to {value['max']:.3f})"
    return f"{value:9.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
