"""What encryption costs a whole swarm: the demonstration with it and without.

    python benchmarks/encryption.py [--json] [--runs 5] [--rounds N]

Every run is ``p2pfusion demo``, real daemons that join by ticket; the rival is the same
with ``--insecure-loopback``, in the same run and in turn, with the same seeds. Seconds
are those of the whole command, from the start of the interpreter to its end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.end_to_end.programs import PROGRAM

WAYS = {"encrypted": [], "insecure": ["--insecure-loopback"]}


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--runs", type=int, default=5, help="runs of each")
    parser.add_argument("--rounds", type=int, help="rounds; default: the demo's own")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    accuracies: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(arguments.runs):
        order = list(WAYS) if seed % 2 else list(reversed(WAYS))
        for way in order:
            took, accuracy = demonstration(seed, arguments.rounds, WAYS[way])
            seconds[way].append(took)
            accuracies[way].append(accuracy)
            print(
                f"seed {seed}  {way:10}  {took:6.2f} s  {accuracy:.4f}", file=sys.stderr
            )
    pairs = zip(seconds["encrypted"], seconds["insecure"], strict=True)
    ratios = [encrypted / insecure for encrypted, insecure in pairs]
    found = {
        "benchmark": "encryption",
        "runs": arguments.runs,
        "seconds": seconds,
        "accuracies": accuracies,
        "ratios": {
            "encrypted_to_insecure": round(statistics.median(ratios), 4),
            "encrypted_to_insecure_min": round(min(ratios), 4),
            "encrypted_to_insecure_max": round(max(ratios), 4),
        },
    }
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    print("way          median s    min s    max s")
    for way, samples in seconds.items():
        median = statistics.median(samples)
        print(f"{way:10}  {median:9.2f}  {min(samples):7.2f}  {max(samples):7.2f}")
    print(f"encrypted / insecure, pair by pair: median {statistics.median(ratios):.3f}")


def demonstration(
    seed: int, rounds: int | None, options: list[str]
) -> tuple[float, float]:
    """Seconds of one demonstration, and the accuracy that it reached."""
    with tempfile.TemporaryDirectory() as place:
        command = [*PROGRAM, "demo", "--seed", str(seed), "--json", *options]
        if rounds is not None:
            command += ["--rounds", str(rounds)]
        started = time.perf_counter()
        done = subprocess.run(
            command, cwd=place, check=True, capture_output=True, text=True
        )
        took = time.perf_counter() - started
    return took, float(json.loads(done.stdout)["data"]["accuracy"])


if __name__ == "__main__":
    main()
