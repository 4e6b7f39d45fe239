"""How long ``p2pfusion status`` takes to answer, and a daemon to be READY.

    python benchmarks/startup.py [--json] [--runs 20]

Both are whole processes, as a user starts them: from the start of the interpreter to
the end of ``status``, or to the line READY. The rival is the interpreter itself,
``python -c pass``, in the same run and in turn. The daemon that answers has founded a
swarm and waits for a second member; its trainer, which imports torch, is idle.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.end_to_end.programs import PROGRAM
from tests.end_to_end.swarm import QUICK, Daemon, swarms

STATUS_LIMIT_S = 0.25
READY_RUNS = 5
"""A start costs a trainer's torch import besides, so there are fewer."""

Row = dict[str, float]


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--runs", type=int, default=20, help="runs of each command")
    arguments = parser.parse_args()
    rows = measure(arguments.runs)
    python_s = rows["python"]["median_s"]
    ratios = {
        "status_to_python": rows["status"]["median_s"] / python_s,
        "ready_to_python": rows["ready"]["median_s"] / python_s,
    }
    found = {
        "benchmark": "startup",
        "runs": arguments.runs,
        "ready_runs": READY_RUNS,
        "status_limit_s": STATUS_LIMIT_S,
        "rows": rows,
        "ratios": ratios,
    }
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    print("what               median s    min s    max s   median / python")
    for name, row in rows.items():
        print(
            f"{name:17}  {row['median_s']:8.3f}  {row['min_s']:7.3f}  "
            f"{row['max_s']:7.3f}   {row['median_s'] / python_s:15.1f}"
        )


def measure(run_count: int) -> dict[str, Row]:
    """Seconds of the interpreter alone, of ``status``, also on the processor, and until
    READY."""
    with swarms() as swarm:
        settings = {**QUICK, "min_peers": 2}
        daemon = swarm.add(data={"kind": "digits"}, swarm=settings)
        daemon.start()
        daemon.wait("joined")
        python, status, processor = [], [], []
        for _ in range(run_count):  # in turn, so that both see the same machine
            python.append(seconds([sys.executable, "-c", "pass"]))
            home = ["--home", str(daemon.home)]
            status.append(seconds([*PROGRAM, *home, "status", "--json"]))
            processor.append(processor_s([*PROGRAM, *home, "status", "--json"]))
        daemon.ask("stop")
        daemon.ended()
        ready = [ready_s(daemon) for _ in range(READY_RUNS)]
    return {
        "python": row(python),
        "status": row(status),
        "status, processor": row(processor),
        "ready": row(ready),
    }


def seconds(command: list[str]) -> float:
    """From start to end of a process."""

    def run() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return timed(run)


def processor_s(command: list[str]) -> float:
    """What a process takes of the processor, however busy the machine is."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def ready_s(daemon: Daemon) -> float:
    """From start to READY; the daemon is stopped afterwards."""
    found = timed(daemon.start)
    daemon.ask("stop")
    daemon.ended()
    return found


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def row(samples: list[float]) -> Row:
    """The figures that are reported."""
    return {
        "median_s": round(statistics.median(samples), 4),
        "min_s": round(min(samples), 4),
        "max_s": round(max(samples), 4),
    }


if __name__ == "__main__":
    main()
