"""Who runs what: every system's programs for one run of the task, and its outcome."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from network import Meter, Program, address, run
from ours import Table, swarm
from task import Settings

from p2pfusion.store import read_checkpoint
from p2pfusion.store.initial import initial_values
from p2pfusion.training.data.images import digits
from p2pfusion.training.data.partition import Partition, share
from p2pfusion.training.models.mlp import Mlp

HERE = Path(__file__).resolve().parent
PEERS = 4
ALPHA = 0.5
LIMIT_S = 400.0
"""Nobody needs so long; who does has stopped, which is said in place of a result."""

WIDTHS = (64, 256, 256, 10)
"""85,002 parameters: 0.34 MB of float32."""

QUICK_GOSSIP = {"MODELS_PERIOD": 0.05, "EXIT_ON_X_EQUAL_ROUNDS": 400}
"""p2pfl's own settings for the wait between two looks at what neighbours lack, in
seconds, and for how many such looks without news end a round: as long as before."""


@dataclass(frozen=True)
class Contestant:
    """One row of the tables."""

    title: str
    environment: str = ""
    """The directory of its virtual environment; none: ours."""
    server: str = ""
    """The script that runs once, on the server's machine, and ends."""
    peer: str = ""
    """The script that runs on every peer's."""
    system: Mapping[str, float] = field(default_factory=dict)
    """Settings of its own."""
    rounds: int = 20
    is_slow: bool = False
    """Whether it runs once only, with the first seed."""
    swarm: Mapping[str, object] = field(default_factory=dict)
    """Of ours: what a founder's profile says."""


MATCHMAKING = {"matchmaking_s": 2.0, "request_timeout_s": 1.0}
PLAIN = Contestant("pure training", peer="plain.py")
CONTESTANTS = {
    "fedavg": Contestant(
        "p2pfusion, whole models (fedavg)", swarm={"method": "fedavg"}
    ),
    "msfusion": Contestant(
        "p2pfusion, half of every width (msfusion)", swarm={"method": "msfusion"}
    ),
    "hivemind": Contestant(
        "hivemind", "hivemind", peer="hivemind_peer.py", system=MATCHMAKING
    ),
    "flower": Contestant(
        "Flower, SuperLink",
        "flower",
        "flower_machine.py",
        "flower_machine.py",
        rounds=7,
    ),
    "flower-quick": Contestant(
        "Flower, start_server", "flower", "flower_server.py", "flower_client.py"
    ),
    "p2pfl": Contestant("p2pfl, as its examples", "p2pfl", peer="p2pfl_peer.py"),
    "p2pfl-quick": Contestant(
        "p2pfl, no waits", "p2pfl", peer="p2pfl_peer.py", system=QUICK_GOSSIP
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What one run came to; times are the machine's clock, in seconds."""

    started_at: float
    ends: tuple[float, ...]
    """When each round was over at the last peer."""
    meter: Meter
    kept: Mapping[int, Sequence[np.ndarray]]
    """The model's values after so many rounds."""


@contextmanager
def directory_of(settings: Settings, seed: int) -> Iterator[Path]:
    """A directory with a run's data, for programs that know nothing of us."""
    # A short path: sockets lie below it.
    root = Path(tempfile.mkdtemp(prefix="r-", dir="/tmp"))
    try:
        (root / "task.json").write_text(json.dumps(asdict(settings)))
        data = digits(None, "train")
        images = data.images.numpy().astype(np.float32) * (2 / data.scale) - 1
        labels = data.labels.numpy()
        for rank in range(settings.peers):
            part = Partition("dirichlet", rank, settings.peers, ALPHA)
            rows = share(labels, part, seed)
            shared = {"images": images[rows], "labels": labels[rows]}
            np.savez(root / f"share-{rank}.npz", **shared)
        values = first_values(settings.widths, seed)
        np.savez(root / "initial.npz", **{f"v{n}": v for n, v in enumerate(values)})
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def first_values(widths: Sequence[int], seed: int) -> list[np.ndarray]:
    """What our swarms of this seed begin with."""
    layout = Mlp().layout(arguments(widths))
    return [
        np.asarray(initial_values(layout, seed, n, 0, parameter.shape[0]))
        for n, parameter in enumerate(layout.parameters)
    ]


def arguments(widths: Sequence[int]) -> dict[str, object]:
    """Of our perceptron with these widths."""
    inputs, *hidden, classes = widths
    return {"inputs": inputs, "hidden": hidden, "classes": classes}


def compete(
    contestant: Contestant, settings: Settings, seed: int, home: Path
) -> Outcome | str:
    """One run; or why there is no result."""
    settings = replace(settings, system=dict(contestant.system))
    with directory_of(settings, seed) as root:
        if contestant.swarm:
            return our_run(contestant, settings, seed, root)
        return their_run(contestant, settings, root, home)


def their_run(
    contestant: Contestant, settings: Settings, root: Path, home: Path
) -> Outcome | str:
    """A run of one process per machine, which take notes."""
    meter = Meter()
    with meter.running():
        failed = run(programs(contestant, settings, root, home), LIMIT_S)
    if failed:
        return failed
    rounds: dict[int, float] = {}
    for note in notes(root):
        if note["event"] == "round":
            number, at = int(str(note["number"])), float(str(note["at"]))
            rounds[number] = max(at, rounds.get(number, 0.0))
    kept = {}
    for path in root.glob("kept-*.npz"):
        with np.load(path) as found:
            values = [found[f"v{n}"] for n in range(len(found.files))]
        kept[int(path.stem.partition("-")[2])] = values
    ends = tuple(rounds[number] for number in sorted(rounds))
    return Outcome(meter.times[0], ends, meter, kept)


def programs(
    contestant: Contestant, settings: Settings, root: Path, home: Path
) -> list[Program]:
    """One per machine."""
    python = home / contestant.environment / "bin" / "python"
    if not contestant.environment:
        python = HERE.parents[1] / ".venv" / "bin" / "python"
    quiet = {"OMP_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0"}
    scripts = [contestant.peer] * settings.peers + [contestant.server]
    return [
        Program(
            rank,
            [str(python), str(HERE / script), str(root), str(rank)],
            root / f"log-{rank}",
            quiet,
            ends=rank == settings.peers or not contestant.server,
        )
        for rank, script in enumerate(scripts)
        if script
    ]


def notes(root: Path) -> Iterator[Table]:
    """What the peers of a run have noted."""
    for path in root.glob("notes-*.jsonl"):
        yield from map(json.loads, path.read_text().splitlines())


def our_run(
    contestant: Contestant, settings: Settings, seed: int, root: Path
) -> Outcome:
    """A run of our daemons."""
    profiles = [profile(contestant, settings, seed, n) for n in range(settings.peers)]
    meter = Meter()
    with meter.running(), swarm(root / "homes", profiles) as daemons:
        for daemon in daemons:
            daemon.wait("done")
        sealed = [daemon.sealed() for daemon in daemons]
        kept = {}
        names = [
            each.name for each in Mlp().layout(arguments(settings.widths)).parameters
        ]
        for number in range(1, settings.rounds + 1):
            if settings.keep_every and number % settings.keep_every == 0:
                values, _ = read_checkpoint(daemons[0].checkpoint(number))
                kept[number] = [values[name] for name in names]
    ends = tuple(max(each) for each in zip(*sealed, strict=True))
    return Outcome(meter.times[0], ends, meter, kept)


def profile(
    contestant: Contestant, settings: Settings, seed: int, rank: int
) -> dict[str, Table]:
    """The profile of one daemon; the first one founds the swarm."""
    half = contestant.swarm["method"] == "msfusion"
    peer: Table = {"split_fraction": 0.5 if half else 1.0}
    deal = {"rule": "dirichlet", "alpha": ALPHA, "share": f"{rank}/{settings.peers}"}
    tables: dict[str, Table] = {
        "peer": peer,
        "data": {"kind": "digits", "partition": deal, "validation": 0.0},
    }
    if rank == 0:
        peer["checkpoint_every"] = settings.keep_every
        peer["checkpoints_kept"] = settings.rounds + 1
        tables["swarm"] = {
            **{"name": "rivals", "network": "lan", "seed": seed},
            **{"model": "mlp", "model_arguments": arguments(settings.widths)},
            **{"rounds": settings.rounds, "min_peers": settings.peers},
            **{"batch": settings.batch, "local_epochs": settings.epochs},
            **{"learning_rate": settings.rate, "momentum": settings.momentum},
            # What the others do not do, either.
            **{"schedule": "constant", "clip": 0.0, "logit_adjustment": 0.0},
            "weighting": "samples",
            **contestant.swarm,
        }
    return tables


def settings_of(
    *, rounds: int, keep_every: int, widths: Sequence[int] = WIDTHS
) -> Settings:
    """The task: SGD with momentum on shares of the digits."""
    return Settings(
        peers=PEERS,
        rounds=rounds,
        epochs=2,
        batch=32,
        rate=0.05,
        momentum=0.9,
        keep_every=keep_every,
        widths=tuple(widths),
        addresses=tuple(address(rank) for rank in range(PEERS + 1)),
        system={},
    )
