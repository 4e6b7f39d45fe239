"""Accuracy of every method at equal rounds, on the same data, shares and seeds.

    python benchmarks/methods.py [--json] [--seeds 3] [--rounds 40] [--data digits]

Each arm trains the same number of rounds on the same Dirichlet shares; no peer ever
trains more than its split fraction of a width, but for the first arm. ``fedavg`` is the
whole model at every peer (the reference), ``fedavg-small`` a model built at the split
fraction's width and trained whole by everybody (what one would do without this
program). Accuracy is the assembled full model's on held-out data. Seeds are paired:
seed k has the same shares, initial values and batch order in every arm.

Every run is one ``p2pfusion sim --train`` process; two run at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 2

CHANNELS = (64, 64, 64)
HIDDEN = (128, 128)

RIVALS = ("heterofl", "fedrolex", "federated-dropout")


@dataclass(frozen=True)
class Arm:
    """One row of the table."""

    name: str
    method: str
    split_fraction: str
    model_arguments: Mapping[str, object]
    method_arguments: Mapping[str, object]


def arms(model: str, fraction: str) -> list[Arm]:
    """The reference, the floor, the rivals, and msfusion at three paces."""
    key, widths = ("channels", CHANNELS) if model == "cnn" else ("hidden", HIDDEN)
    full = {key: list(widths)}
    small = {key: [int(width * Fraction(fraction)) for width in widths]}
    return [
        Arm("fedavg (whole model)", "fedavg", "1", full, {}),
        Arm("fedavg-small", "fedavg", "1", small, {}),
        *(Arm(name, name, fraction, full, {}) for name in RIVALS),
        Arm("msfusion", "msfusion", fraction, full, {}),
        Arm("msfusion, one-cell steps", "msfusion", fraction, full, {"step": 1}),
        Arm("msfusion, skewed", "msfusion", fraction, full, {"shift": "skewed"}),
    ]


def command(arm: Arm, options: argparse.Namespace, seed: int) -> list[str]:
    """One run as a user would type it."""
    words = {
        "--method": arm.method,
        "--method-arguments": json.dumps(arm.method_arguments),
        "--model": options.model,
        "--model-arguments": json.dumps(arm.model_arguments),
        "--split-fraction": arm.split_fraction,
        "--data": options.data,
        "--peers": options.peers,
        "--rounds": options.rounds,
        "--seed": seed,
        "--alpha": options.alpha,
        "--eval-every": options.rounds,
    }
    limits = {"--limit": options.limit, "--limit-test": options.limit_test}
    words |= {key: value for key, value in limits.items() if value}
    flat = [str(word) for pair in words.items() for word in pair]
    return [sys.executable, str(ROOT / "cli.py"), "--json", "sim", "--train", *flat]


def measure(arm: Arm, options: argparse.Namespace, seed: int) -> dict[str, object]:
    """Runs one arm with one seed; ends the benchmark if it fails."""
    done = subprocess.run(
        command(arm, options, seed), capture_output=True, text=True, env=_environment()
    )
    if done.returncode:
        sys.exit(f"{arm.name}, seed {seed}: {done.stdout}{done.stderr}")
    data: dict[str, object] = json.loads(done.stdout)["data"]
    print(f"{arm.name}, seed {seed}: {data['accuracy']:.3f}", file=sys.stderr)
    return data


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def summarise(arm: Arm, runs: list[dict[str, object]]) -> dict[str, object]:
    """One row: accuracies, their mean and spread, and what a round cost a peer."""
    accuracies = [float(str(run["accuracy"])) for run in runs]
    last = runs[-1]
    return {
        "arm": arm.name,
        "split_fraction": arm.split_fraction,
        "accuracies": accuracies,
        "mean": statistics.mean(accuracies),
        "deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "ever_trained_fraction": last["ever_trained_fraction"],
        "bytes_per_peer_round": last["bytes_per_peer_round"],
        "train_flops_per_peer_round": last["train_flops_per_peer_round"],
    }


def table(rows: list[dict[str, object]]) -> str:
    """The rows as Markdown."""
    head = "| arm | accuracy | ever trained | sent per peer and round | MFLOPs |"
    lines = [head, "|---|---|---|---|---|"]
    for row in rows:
        spread = "" if row["deviation"] is None else f" ± {100 * row['deviation']:.1f}"
        lines.append(
            f"| {row['arm']} | {100 * row['mean']:.1f}{spread} "
            f"| {100 * row['ever_trained_fraction']:.0f} % "
            f"| {row['bytes_per_peer_round'] / 1024:.0f} KiB "
            f"| {row['train_flops_per_peer_round'] / 1e6:.0f} |"
        )
    return "\n".join(lines)


def beats_rivals(rows: list[dict[str, object]]) -> dict[str, bool]:
    """Whether msfusion's mean is above each rival's at the same split fraction."""
    means = {str(row["arm"]): float(str(row["mean"])) for row in rows}
    return {rival: means["msfusion"] > means[rival] for rival in RIVALS}


def main() -> None:
    """Runs all arms and prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--split-fraction", default="0.25")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--model", default="cnn", choices=("cnn", "mlp"))
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--limit", type=int, default=4000, help="training examples")
    parser.add_argument("--limit-test", type=int, default=2000, help="test examples")
    options = parser.parse_args()
    chosen = arms(options.model, options.split_fraction)
    jobs = [(arm, seed) for arm in chosen for seed in range(options.seeds)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        runs = list(pool.map(lambda job: measure(job[0], options, job[1]), jobs))
    rows = [
        summarise(
            arm, [run for (a, _), run in zip(jobs, runs, strict=True) if a == arm]
        )
        for arm in chosen
    ]
    verdict = beats_rivals(rows)
    if options.json:
        document = {"settings": vars(options), "rows": rows, "msfusion_beats": verdict}
        print(json.dumps(document, indent=1))
        return
    print(table(rows))
    for rival, won in verdict.items():
        print(f"msfusion {'beats' if won else 'does not beat'} {rival} here")


if __name__ == "__main__":
    main()
