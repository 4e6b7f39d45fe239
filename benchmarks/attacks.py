"""What hostile peers do to a model, with the mean and with a rule that withstands them.

    python benchmarks/attacks.py [--tasks digits,fashion,pairs,honest] [--seeds 3]
                                 [--minutes 10] [--processes 2]
    python benchmarks/attacks.py --table

Ten peers, of which two are hostile, train half of every width each, so that five hold
everything; ``pairs``: eight peers train a quarter, so that two hold everything. Every
attack meets four swarms: the mean; the trimmed mean; that, and peers that put out whom
they find out; and the median with such peers, which is recommended. ``honest``: nobody
is hostile and the data is less alike (Dirichlet 0.3); whoever is suspected there is so
wrongly.

Every run is one ``p2pfusion sim --train`` process. Runs are kept in
``docs/attacks.jsonl``, and a run that is there already is not done again: stop it
whenever you like, and go on later. ``--table`` prints what is there as Markdown.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from runs import ROOT, Found, known, simulated, spread

from p2pfusion.simulation.attacks import ATTACKS

RESULTS = ROOT / "docs" / "attacks.jsonl"
RECOMMENDED = "median"
"""The arm that ``docs/robustness.md`` recommends."""

NONE = "none"
HOSTILE = 2
HONEST_SEEDS = 20
ARMS = {
    "mean": {"--fusion": "mean"},
    "rule": {"--fusion": "trimmed"},
    "put-out": {"--fusion": "trimmed", "--quarantine": None},
    "median": {"--fusion": "median", "--quarantine": None},
}
TASKS: dict[str, dict[str, object]] = {
    "digits": {"--peers": 10, "--split-fraction": "1/2", "--rounds": 20},
    "fashion": {
        **{"--data": "fashion-mnist", "--model": "cnn", "--limit": 4000},
        **{"--limit-test": 2000, "--learning-rate": 0.1},
        **{"--peers": 10, "--split-fraction": "1/2", "--rounds": 20},
    },
    "pairs": {"--peers": 8, "--split-fraction": "1/4", "--rounds": 40},
    "honest": {
        **{"--peers": 10, "--split-fraction": "1/2", "--rounds": 20},
        **{"--alpha": 0.3, "--fusion": "trimmed"},
    },
}
KEPT = (
    *("accuracy", "attackers", "suspected", "refused", "scores", "fusion", "seconds"),
    "bytes_per_peer_round",
)


@dataclass(frozen=True)
class Run:
    """One process; what it is told is what it is known by."""

    task: str
    attack: str
    arm: str
    seed: int

    def words(self) -> list[str]:
        """The command's options."""
        told: dict[str, object] = {**TASKS[self.task], "--eval-every": 5}
        if self.task != "honest":
            told |= ARMS[self.arm]
        elif self.arm == RECOMMENDED:
            told["--fusion"] = ARMS[self.arm]["--fusion"]
        if self.attack == "reducer" and "--quarantine" in ARMS[self.arm]:
            told["--second-opinions"] = None  # it changes nothing where nobody lies so
        if self.attack != NONE:
            told |= {"--attack": self.attack, "--attackers": HOSTILE}
            if ATTACKS[self.attack].samples > 1:
                told["--weighting"] = "samples"
        told["--seed"] = self.seed
        pairs = ([key] if v is None else [key, str(v)] for key, v in told.items())
        return [word for pair in pairs for word in pair]

    def measure(self) -> Found:
        """Runs it; ends the benchmark if it fails."""
        data = simulated(self.words())
        known_by = {"task": self.task, "attack": self.attack, "arm": self.arm}
        kept = {key: data[key] for key in KEPT if key in data}
        return {**known_by, "seed": self.seed, "words": self.words(), **kept}


def chosen(tasks: list[str], seeds: int) -> Iterator[Run]:
    """The runs that are asked for, all seeds of what is recommended first."""
    for task in tasks:
        if task == "honest":
            for arm in (RECOMMENDED, "rule"):
                yield from (Run(task, NONE, arm, seed) for seed in range(HONEST_SEEDS))
            continue
        for arm in (RECOMMENDED, "put-out", "mean", "rule"):
            # With nobody hostile nobody is put out, so that is no arm of its own.
            attacks = ATTACKS if arm == "put-out" else (NONE, *ATTACKS)
            for seed in range(seeds):
                yield from (Run(task, attack, arm, seed) for attack in attacks)


def do(runs: list[Run], processes: int, minutes: float) -> None:
    """What is missing, until the time is over."""
    done, end, lock = known(RESULTS), time.monotonic() + 60 * minutes, Lock()

    def one(run: Run) -> None:
        if time.monotonic() > end:
            return
        found = run.measure()
        with lock, RESULTS.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(f"{run.task} {run.attack} {run.arm} {run.seed}: {found['accuracy']:.3f}")

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(one, [run for run in runs if tuple(run.words()) not in done]))


def table(task: str) -> str:
    """Markdown: accuracy of every attack and arm, and when attackers were found."""
    found = known(RESULTS)

    def runs(attack: str, arm: str) -> list[Found]:
        every = (Run(task, attack, arm, seed) for seed in range(HONEST_SEEDS))
        keys = (tuple(run.words()) for run in every)
        return [found[key] for key in keys if key in found]

    def cell(attack: str, arm: str) -> str:
        return spread([100 * float(str(r["accuracy"])) for r in runs(attack, arm)])

    lines = [
        f"{task}:",
        "",
        "| attack | mean | trimmed | trimmed, and put out | median, and put out "
        "| put out there, of hostile peers | in round | honest ones put out |",
        "|---|---|---|---|---|---|---|---|",
        f"| none | {cell(NONE, 'mean')} | {cell(NONE, 'rule')} | "
        f"| {cell(NONE, RECOMMENDED)} | | | |",
    ]
    for attack in ATTACKS:
        cells = " | ".join(cell(attack, arm) for arm in ARMS)
        lines.append(f"| {attack} | {cells} | {caught(runs(attack, RECOMMENDED))} |")
    return "\n".join(lines)


def caught(runs: list[Found]) -> str:
    """How many of the hostile peers were put out, when, and how many honest ones."""
    rounds: list[int] = []
    hostile = wrongly = 0
    for run in runs:
        attackers, suspected = run["attackers"], run["suspected"]
        assert isinstance(attackers, list) and isinstance(suspected, dict)
        hostile += len(attackers)
        rounds += [suspected[peer] for peer in attackers if peer in suspected]
        wrongly += sum(peer not in attackers for peer in suspected)
    when = f"{min(rounds)} to {max(rounds)}" if rounds else "-"
    return f"{len(rounds)} of {hostile} | {when} | {wrongly}"


def honest(arm: str) -> str:
    """How often somebody was suspected where nobody is hostile."""
    keys = (
        tuple(Run("honest", NONE, arm, seed).words()) for seed in range(HONEST_SEEDS)
    )
    found = known(RESULTS)
    runs = [found[key] for key in keys if key in found]
    wrongly = sum(len(run["suspected"]) for run in runs)  # type: ignore[arg-type]
    return (
        f"honest, {ARMS[arm]['--fusion']}, Dirichlet 0.3, {len(runs)} seeds of 10 "
        f"peers: {wrongly} suspected; "
        f"accuracy {spread([100 * float(str(run['accuracy'])) for run in runs])}"
    )


def main() -> None:
    """Does what is missing, then prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--tasks", default="digits,fashion,pairs,honest")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=10, help="start none later")
    options = parser.parse_args()
    tasks = options.tasks.split(",")
    if not options.table:
        runs = list(chosen(tasks, options.seeds))
        do(runs, options.processes, options.minutes)
    arms = (RECOMMENDED, "rule")
    told = (
        "\n".join(map(honest, arms)) if task == "honest" else table(task)
        for task in tasks
    )
    print("\n\n".join(told))


if __name__ == "__main__":
    main()
