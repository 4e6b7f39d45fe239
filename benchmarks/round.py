"""What a round of real daemons costs beside its training, and what for.

    python benchmarks/round.py [--json] [--sizes small,large] [--rounds 30] [--peers 4]
    python benchmarks/round.py --sizes resnet --peers 2 --rounds 8 --repeats 3

So many real daemons on loopback, encrypted, that joined by ticket, each with a real
trainer, half of every width, the method and the outer momentum of a founder who states
nothing, on its share of the digits, dealt out evenly; every round is 20 steps of 32
images. The whole model of ``small`` has 0.34 MB, that of ``large`` 17 MB; with
``--sizes resnet``, a ResNet18 of 45 MB on random images of 32 x 32, of which each step
takes most of a second: with as many peers as there are cores the part of the round that
is overhead (*part*) says most.

*round* is the time from one seal to the next, as the daemons report it (``rounds``),
the median over all peers and all rounds but the first two, in which memory is touched
and files get their blocks.

*pure* is what is subtracted: as many processes without daemon, store, files, network,
as nice and with as many threads as trainers, each with the same records and the
sub-model of one of the peers, built before the clock runs. In each turn they all take
the same 20 steps (``train_round``, the very loop), beginning together; a turn is over
when the slowest is done. The median over all turns but two. So both contend for the
same cores with the same work, a round cannot be shorter than its slowest training, and
everything else counts as overhead: telling the trainer, reading the store, building the
module, the sizes of the update, the outer momentum, writing the offer, exchange,
averages, the journal and its syncs, planning the next round.

The two take turns: a swarm, the processes, and so on. *overhead* of a repetition is
round less pure, both of the same repetition; shown are the median and the range of the
repetitions. Where the time goes: ``train`` is from the round's beginning until the
peer knew that its own values were ready, less pure; ``offers`` until the last of the
others had said so; ``exchange`` until the seal. These are medians of their own.

*processor* is what one daemon, one trainer and one of the other processes use in a
round, in all their threads: whoever else uses the machine changes the times much, and
this little.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.segment import Split
from p2pfusion.store import Store
from p2pfusion.training import submodel
from p2pfusion.training.data import DataOptions, Records, load, own_records
from p2pfusion.training.descent import Optimiser
from p2pfusion.training.loop import (
    Schedule,
    batch_generator,
    train_round,
    view_generator,
)
from p2pfusion.training.models import find_model
from p2pfusion.training.objectives import Objective, create_objective
from p2pfusion.training.worker import bound_heap
from tests.end_to_end.swarm import Daemon, gather, manifest_of, planned, swarms

PEERS = 4
STEPS = 20
SKIPPED = 2
NICENESS = 5
"""As ``training/worker.py`` is."""

LONGEST_S = 3600.0
"""No swarm here takes so long; rounds of the ResNet take most of a minute."""

IMAGES = 256
MODELS: dict[str, dict[str, object]] = {
    "small": {"model": "mlp", "model_arguments": {"hidden": [256, 256]}},
    "large": {"model": "mlp", "model_arguments": {"hidden": [2048, 2048]}},
    "resnet": {"model": "resnet18", "model_arguments": {}},
}
REPORTED = (
    "round_s",
    "pure_s",
    "train_s",
    "offers_s",
    "exchange_s",
    "daemon_used_s",
    "trainer_used_s",
    "pure_used_s",
)
MOST_OVERHEAD_S = {"small": 0.030, "large": 0.150}
USERS = ("daemon", "trainer", "pure")
MOST_PART = {"resnet": 0.02}

Data = dict[str, object]


@dataclass(frozen=True)
class Repetition:
    """Medians of one swarm and of the processes beside it, in seconds."""

    round_s: float
    pure_s: float
    train_s: float
    offers_s: float
    exchange_s: float
    daemon_used_s: float
    trainer_used_s: float
    pure_used_s: float

    @property
    def overhead_s(self) -> float:
        """What a round costs beside its training."""
        return self.round_s - self.pure_s


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--sizes", default="small,large", help=", ".join(MODELS))
    parser.add_argument("--rounds", type=int, default=30, help="of each swarm")
    parser.add_argument("--repeats", type=int, default=5, help="swarms of each size")
    parser.add_argument("--peers", type=int, default=PEERS, help="of each swarm")
    parser.add_argument("--seed", type=int, default=0, help="of the swarms")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    sizes: list[str] = options.sizes.split(",")
    found: dict[str, list[Repetition]] = {size: [] for size in sizes}
    for _ in range(options.repeats):
        for size in sizes:
            stated = settings(size, options.rounds, options.seed, options.peers)
            found[size].append(measure(size, stated, options.peers))
    rows = {size: summary(size, repetitions) for size, repetitions in found.items()}
    if options.json:
        told = {
            "benchmark": "round",
            "seed": options.seed,
            "peers": options.peers,
            "rounds": options.rounds,
            "load": os.getloadavg(),
            "sizes": rows,
        }
        print(json.dumps(told, indent=2))
    else:
        print_table(rows)


def measure(size: str, stated: Data, peers: int) -> Repetition:
    """One swarm, and then the same training alone."""
    with TemporaryDirectory(prefix="round-") as place:
        shares = [share(size, number, peers, Path(place)) for number in range(peers)]
        rows, used, manifest, splits = trained(shares, stated)
        turns = alone(manifest, splits, shares, manifest.rounds)[SKIPPED:]
    return Repetition(
        round_s=median(rows, "seconds"),
        pure_s=statistics.median(took for took, _ in turns),
        train_s=median(rows, "phases", "train"),
        offers_s=median(rows, "phases", "offers"),
        exchange_s=median(rows, "phases", "exchange"),
        daemon_used_s=used[0],
        trainer_used_s=used[1],
        pure_used_s=statistics.mean(used for _, used in turns),
    )


def settings(size: str, round_count: int, seed: int, peers: int) -> Data:
    """What the founder states."""
    return {
        **MODELS[size],
        "name": "rounds",
        "seed": seed,
        "rounds": round_count,
        "local_steps": STEPS,
        "min_peers": peers,
        "network": "local",
        "deadline_min_s": 60.0,
    }


def share(size: str, number: int, peers: int, place: Path) -> Data:
    """One peer's records: a part of the digits, or of random images."""
    partition = {"rule": "iid", "share": f"{number}/{peers}"}
    if size != "resnet":
        return {"kind": "digits", "partition": partition}
    file = place / "images.npz"
    if not file.exists():
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (peers * IMAGES, 32, 32, 3), np.uint8)
        np.savez(file, images=images, labels=random.integers(0, 10, len(images)))
    return {"kind": "npz", "path": str(file), "partition": partition}


# --- The swarm -----------------------------------------------------------------------


def trained(
    shares: Sequence[Data], stated: Data
) -> tuple[list[Data], tuple[float, float], Manifest, list[Split]]:
    """A swarm from its start to its end: what each peer tells of each round, what a
    daemon and a trainer used in one, and what was trained in the first."""
    with swarms() as swarm:
        for number, data in enumerate(shares):
            swarm.add(data=data, swarm=None if number else stated)
        gather(swarm.daemons)
        last = int(str(stated["rounds"])) - 1
        swarm.daemons[0].wait(f"round={SKIPPED}", LONGEST_S)
        before = processor_s(swarm.daemons)
        swarm.daemons[0].wait(f"round={last}", LONGEST_S)
        after = processor_s(swarm.daemons)
        for daemon in swarm.daemons:
            daemon.wait("done", LONGEST_S)
        rows = [row for d in swarm.daemons for row in d.rounds()[SKIPPED:]]
        _, splits = next(planned(swarm.daemons[0]))
        manifest = manifest_of(swarm.daemons[0].ask("plan"))
    turns = len(shares) * (last - SKIPPED)
    used = (after[0] - before[0]) / turns, (after[1] - before[1]) / turns
    return rows, used, manifest, list(splits.values())


def processor_s(daemons: Sequence[Daemon]) -> tuple[float, float]:
    """What all daemons, and all trainers, have used so far."""
    ours = [psutil.Process(daemon.pid).cpu_times() for daemon in daemons]
    theirs = [daemon.trainer.cpu_times() for daemon in daemons]
    daemon_s = sum(times.user + times.system for times in ours)
    return daemon_s, sum(times.user + times.system for times in theirs)


def median(rows: Sequence[Data], *keys: str) -> float:
    """The median of a number that every row has somewhere."""
    found: list[float] = []
    for row in rows:
        value: object = row
        for key in keys:
            assert isinstance(value, dict)
            value = value[key]
        assert isinstance(value, float)
        found.append(value)
    return statistics.median(found)


# --- The same training alone ---------------------------------------------------------


def alone(
    manifest: Manifest, splits: Sequence[Split], shares: Sequence[Data], turns: int
) -> list[tuple[float, float]]:
    """Seconds of every turn in which all splits are trained at once, and what the first
    of the processes used in it."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(splits))
    lines: list[Connection] = []
    for split, data in zip(splits, shares, strict=True):
        line, far = context.Pipe()
        given = manifest.to_bytes(), split.to_data(), data
        context.Process(
            target=training, args=(far, barrier, turns, *given), daemon=True
        ).start()
        lines.append(line)
    told: list[list[tuple[float, float]]] = [line.recv() for line in lines]
    return told[0]


def training(
    line: Connection,
    barrier: Barrier,
    turns: int,
    packed: bytes,
    split_data: object,
    data: Data,
) -> None:
    """One of the processes: the steps of a round, turn after turn."""
    os.nice(NICENESS)
    torch.set_num_threads(1)
    bound_heap()
    manifest = Manifest.from_bytes(packed)
    split = Split.from_data(split_data, manifest.layout)
    module, records, objective = prepared(manifest, split, data)
    told: list[tuple[float, float]] = []
    for turn in range(turns):
        barrier.wait()
        begun, used = time.perf_counter(), time.process_time()
        train_round(
            module,
            records,
            objective=objective,
            optimiser=Optimiser.from_data(manifest.step_settings),
            schedule=Schedule(manifest.batch, steps=manifest.local_steps),
            learning_rate=manifest.learning_rate_at(turn),
            generator=batch_generator(manifest.seed, turn, 0),
            device=torch.device("cpu"),
        )
        used = time.process_time() - used
        barrier.wait()
        told.append((time.perf_counter() - begun, used))
    line.send(told)


def prepared(
    manifest: Manifest, split: Split, data: Data
) -> tuple[nn.Module, Records, Objective]:
    """A module with initial values, a peer's records, and its loss."""
    options = DataOptions.from_data(data)
    loaded = load(options, "train")
    assert loaded is not None
    records, _ = own_records(loaded, options, manifest.seed)
    model, arguments = find_model(manifest.model), manifest.model_arguments
    module = submodel.build(model, arguments, manifest.layout, split)
    with TemporaryDirectory() as place:
        store = Store.create(Path(place) / "store", manifest.layout, manifest.seed)
        submodel.load(module, submodel.cut(store.read, manifest.layout, split))
    counts = records.answer_counts(records.traits.classes).tolist()
    objective = create_objective(
        manifest.objective_options, counts, torch.device("cpu"), manifest.layout
    )
    objective.begin(module, split, view_generator(manifest.seed, 0, 0))
    return module, records, objective


# --- What people read ----------------------------------------------------------------


def summary(size: str, found: Sequence[Repetition]) -> Data:
    """Medians over repetitions, and the range of the overhead."""
    overheads = [each.overhead_s for each in found]
    parts = [each.overhead_s / each.round_s for each in found]
    medians = {
        key: statistics.median(getattr(each, key) for each in found) for key in REPORTED
    }
    return {
        **medians,
        "overhead_s": statistics.median(overheads),
        "overhead_min_s": min(overheads),
        "overhead_max_s": max(overheads),
        "overhead_part": statistics.median(parts),
        "most_s": MOST_OVERHEAD_S.get(size),
        "most_part": MOST_PART.get(size),
        "repetitions": [asdict(each) for each in found],
    }


def print_table(rows: dict[str, Data]) -> None:
    """One line per size, in milliseconds."""
    print(
        "size       round    pure  overhead (min, max)      aim  part   "
        "train-pure  offers  exchange"
    )
    for size, row in rows.items():
        keys = "round pure overhead overhead_min overhead_max train offers exchange"
        round_, pure, over, least, most, train, offers, exchange = (
            1e3 * float(str(row[f"{key}_s"])) for key in keys.split()
        )
        aim = row["most_s"] or f"{float(str(row['most_part'])):.0%}"
        print(
            f"{size:8} {round_:7.1f} {pure:7.1f} {over:9.1f} ({least:.1f}, {most:.1f})"
            f"  {aim!s:>7} {float(str(row['overhead_part'])):5.1%} "
            f"{train - pure:11.1f} {offers:7.1f} {exchange:9.1f}"
        )
    print("\nprocessor   daemon  trainer     pure")
    for size, row in rows.items():
        used = (1e3 * float(str(row[f"{k}_used_s"])) for k in USERS)
        print(f"{size:10}" + "".join(f" {each:8.1f}" for each in used))


if __name__ == "__main__":
    main()
