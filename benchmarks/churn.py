"""A swarm that is killed, frozen and joined: how long it stands still, what it learns.

    python benchmarks/churn.py [--json] [--seeds 5] [--rounds N]

Every run is the script of ``tests/end_to_end/churn.py`` with real daemons on loopback:
six peers train the digits, two are killed with signal 9 in the middle of a round, one
of them comes back, a newcomer joins by ticket, another is frozen for 20 s. The seed
draws who it is that this happens to; ids, and with them who trains what, are drawn anew
in every run. ``wrong names`` counts sentences of sealed rounds that name somebody as
missing who was there, or do not name somebody who was not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.end_to_end.absences import wrong_names
from tests.end_to_end.churn import EPOCH, SETTINGS, Outcome, churn
from tests.end_to_end.swarm import swarms


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--seeds", type=int, default=5, help="runs, seeds from 0")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of each")
    arguments = parser.parse_args()
    runs = [run(seed, arguments.rounds) for seed in range(arguments.seeds)]
    found = {
        "benchmark": "churn",
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count()},
        "settings": SETTINGS,
        "runs": runs,
        "summary": {key: spread(runs, key) for key in ("next_fused_s", "accuracy")},
    }
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    print("| seed | next fused round, s | accuracy | wrong names | seconds |")
    print("|---|---|---|---|---|")
    for each in runs:
        print(
            f"| {each['seed']} | {each['first_fused_s']:.2f} to "
            f"{each['next_fused_s']:.2f} | {each['accuracy']:.3f} | "
            f"{len(each['wrong_names'])} | {each['seconds']:.0f} |"
        )
    for key, value in found["summary"].items():
        print(f"{key}: median {value['median']:.3f}, max {value['max']:.3f}")


def run(seed: int, rounds: int) -> dict[str, object]:
    """One run in plain values."""
    with swarms() as swarm, tempfile.TemporaryDirectory() as folder:
        outcome = churn(swarm, seed=seed, folder=Path(folder), rounds=rounds)
    print(f"seed {seed}: accuracy {outcome.accuracy:.3f}", file=sys.stderr)
    return {
        "seed": seed,
        "first_fused_s": round(outcome.first_fused_s, 3),
        "next_fused_s": round(outcome.next_fused_s, 3),
        "accuracy": outcome.accuracy,
        "wrong_names": names(outcome),
        "seconds": round(outcome.seconds, 1),
        "told": outcome.told,
    }


def names(outcome: Outcome) -> list[str]:
    """What is wrong in the sealed rounds."""
    return wrong_names(outcome.rounds, outcome.absences, rounds_per_epoch=EPOCH)


def spread(runs: list[dict[str, object]], key: str) -> dict[str, float]:
    """Median, least and most of one figure."""
    values = [float(str(each[key])) for each in runs]
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
    }


if __name__ == "__main__":
    main()
