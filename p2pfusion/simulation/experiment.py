"""A whole swarm's training in one process, without protocol and network.

Plan, methods, fusion, wire format, store and trainer are the daemon's own code
(``swarm.py``). This module runs as a process of its own
(``python -m p2pfusion.simulation.experiment``), with a specification on standard input
and JSON lines on standard output.
"""

from __future__ import annotations

import gc
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from p2pfusion.errors import ConfigError, P2PFusionError
from p2pfusion.protocol.objectives import SELF_SUPERVISED
from p2pfusion.simulation.clock import times_told
from p2pfusion.simulation.design import Experiment
from p2pfusion.simulation.saving import save_model
from p2pfusion.simulation.specification import Fields
from p2pfusion.simulation.swarm import Swarm
from p2pfusion.store import Spent
from p2pfusion.store.beside import read_beside
from p2pfusion.training.cost import costs_told
from p2pfusion.training.devices import use_one_thread
from p2pfusion.training.examination import Examiner, examiner_for
from p2pfusion.training.request import parse
from p2pfusion.training.whole import save_beside

Tell = Callable[[dict[str, object]], None]


@dataclass
class Course:
    """The swarms of an experiment, one unless they are an ensemble, round by round."""

    experiment: Experiment
    swarms: list[Swarm]
    examiner: Examiner
    curve: list[dict[str, object]] = field(default_factory=list)
    beside: dict[str, object] = field(default_factory=dict)
    """What the examiner says beside the curve."""

    @classmethod
    def create(cls, experiment: Experiment, directory: Path) -> Course:
        """Everything is ready; ``ConfigError`` for what cannot be looked at."""
        manifest, count = experiment.manifest, experiment.controls.ensemble
        if count > 1 and manifest.objective in SELF_SUPERVISED:
            raise ConfigError("encoders without labels do not answer as an ensemble")
        swarms = [Swarm.create(experiment, directory, n) for n in range(count)]
        model, arguments = manifest.model, manifest.model_arguments
        examiner = examiner_for(
            manifest.objective,
            Examiner(model, arguments, swarms[0].test),
            labelled=swarms[0].records,
            labels=experiment.labels,
            seed=manifest.seed,
        )
        return cls(experiment, swarms, examiner)

    def run(self, tell: Tell) -> None:
        """All rounds."""
        rounds = self.experiment.manifest.rounds
        self.beside |= self.examiner.before(self.swarms[0].values())
        for done in range(1, rounds + 1):
            losses = [swarm.round(done - 1) for swarm in self.swarms]
            if done % self.experiment.eval_every == 0 or done == rounds:
                found = self.examiner.evaluate([s.values() for s in self.swarms])
                point: dict[str, object] = {
                    "round": done,
                    "loss": _finite(sum(losses) / len(losses)),
                    "virtual_seconds": sum(swarm.clock.now_s for swarm in self.swarms),
                    **{key: _finite(each) for key, each in found.to_data().items()},
                }
                self.curve.append(point)
                tell({"event": "round", "rounds": rounds, **point})
        self.beside |= self.examiner.after(self.swarms[0].values())

    def result(self, seconds: float) -> dict[str, object]:
        """The data of ``p2pfusion sim --train``."""
        experiment, manifest = self.experiment, self.experiment.manifest
        peer_rounds = experiment.peers * manifest.rounds
        last, homes = self.curve[-1], self.swarms[0].homes
        sent_bytes = sum(swarm.sent_bytes for swarm in self.swarms)
        return {
            "method": manifest.method,
            "method_arguments": manifest.method_arguments,
            "objective": manifest.objective,
            "model": manifest.model,
            "data": experiment.data_name,
            "peers": experiment.peers,
            "rounds": manifest.rounds,
            "split_fraction": float(statistics.mean(experiment.split_fractions)),
            "seed": manifest.seed,
            "accuracy": last["accuracy"],
            "loss": last["test_loss"],
            **{key: last[key] for key in ("perplexity",) if key in last},
            **self.beside,
            "curve": self.curve,
            "ever_trained_fraction": homes.ever_trained_fraction(manifest.layout),
            "bytes_per_peer_round": sent_bytes / peer_rounds,
            **costs_told([swarm.meter for swarm in self.swarms], peer_rounds),
            **times_told([swarm.clock for swarm in self.swarms], experiment.peers),
            **_told(self.swarms[0].trainers[0].spent),
            "updates_too_late": sum(swarm.too_late for swarm in self.swarms),
            **watch_told(self.swarms[0]),
            "full_model_parameters": manifest.layout.size * len(self.swarms),
            "seconds": seconds,
        }


def _told(spent: Spent | None) -> dict[str, object]:
    """What a peer's data has told, if that was counted."""
    return {} if spent is None else {"epsilon": spent.epsilon, "delta": spent.delta}


def watch_told(swarm: Swarm) -> dict[str, object]:
    """Who was hostile, and who was found out; nothing where nobody looked."""
    fusion, hostile = swarm.experiment.manifest.fusion, swarm.hostile
    if fusion == "mean" and hostile is None:
        return {}
    attack = swarm.experiment.threat.attack
    peers = sorted(hostile.peers) if hostile is not None else []
    told = {"fusion": fusion, "attack": attack, "attackers": peers}
    return {**told, **swarm.watch.to_data()}


def _finite(number: object) -> object:
    """None for what a broken model gives and JSON has no word for."""
    broken = isinstance(number, float) and not math.isfinite(number)
    return None if broken else number


def run(fields: Fields, tell: Tell) -> dict[str, object]:
    """Runs an experiment in this process."""
    started = time.monotonic()
    use_one_thread()
    with tempfile.TemporaryDirectory(prefix="p2pfusion-experiment-") as directory:
        experiment = Experiment.of(fields)
        course = Course.create(experiment, Path(directory))
        course.run(tell)
        if experiment.files.save is not None:
            _save(course, experiment.files.save, Path(directory) / "beside")
        return course.result(time.monotonic() - started)


def _save(course: Course, path: Path, beside: Path) -> None:
    """Keeps the model; ``beside``: a place for what is beside its layout."""
    manifest, swarm = course.experiment.manifest, course.swarms[0]
    save_beside(manifest.model, manifest.model_arguments, beside)
    save_model(swarm.store, manifest, swarm.homes, path, read_beside(beside))


def serve(run: Callable[[Fields, Tell], dict[str, object]]) -> None:
    """One specification on standard input, JSON lines out."""

    def tell(message: dict[str, object]) -> None:
        print(json.dumps(message), flush=True)

    # What torch brings stays until the end: no collection need look at it.
    gc.freeze()
    try:
        tell({"result": run(parse(sys.stdin.readline(), "experiment"), tell)})
    except P2PFusionError as error:
        failed = {"name": error.name, "message": error.message, "hint": error.hint}
        tell({"failed": failed})


if __name__ == "__main__":
    serve(run)
