"""``p2pfusion demo``: a real swarm on this machine, from nothing to a measured model.

Every peer is a daemon of its own with its own non-IID share of the data. The demo
starts them, watches, kills and restarts some if asked, lets the founder assemble the
model, evaluates it on held-out data and prints what came out and what it is worth.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import click

from p2pfusion.cli.command import command
from p2pfusion.cli.connection import ask
from p2pfusion.cli.datasets import named_data
from p2pfusion.cli.demo_swarms import PERCEPTRON, demo_swarm
from p2pfusion.cli.fields import rows
from p2pfusion.cli.lifecycle import INSECURE
from p2pfusion.cli.local_swarm import Interrupts, LocalPeer, LocalSwarm
from p2pfusion.cli.model import evaluate_file
from p2pfusion.cli.outcome import result_text
from p2pfusion.cli.output import Data, note, settings, show
from p2pfusion.cli.pretraining import Pretrained, pretrain
from p2pfusion.cli.progress import Display, choose_display, finished_rounds
from p2pfusion.cli.splits import Swarm, exchanged_bytes
from p2pfusion.cli.text import plural
from p2pfusion.cli.trainer import describe
from p2pfusion.errors import WaitTimeoutError
from p2pfusion.limits import MAX_ROSTER
from p2pfusion.methods import (
    Member,
    PlanContext,
    build_method,
    initial_layout,
    split_fraction,
)
from p2pfusion.split.depth import check_depth
from p2pfusion.split.layout import Layout
from p2pfusion.split.windows import check_fraction

ALPHA = 0.5
VALIDATION = 0.1
POLL_S = 0.2
"""Between two looks at the daemons: a person sees no finer."""

STALL_TIMEOUT_S = 180.0
"""Without any progress for so long, something is broken: longer than any deadline."""

MODEL_HELP = f"Default: {PERCEPTRON.model}; of some methods another."
DATA_HELP = "A kind of docs/data.md, or a path."
ROUNDS_HELP = f"Default: {PERCEPTRON.rounds}; of some methods another."
KILL_AFTER = Fraction(1, 3)
FOLDER = "p2pfusion-demo"

PROBED = ("probe_labels", "random_encoder_accuracy")
"""What is told of an encoder that was trained without labels."""

ENCRYPTED = "They came in by ticket, and all that they send each other is encrypted."
UNENCRYPTED = "They came in by ticket; what they send each other is NOT ENCRYPTED."


@dataclass(frozen=True)
class Plan:
    """What the options ask for, checked."""

    peers: int
    rounds: int
    method: str
    model: str
    model_arguments: Data
    settings: Data
    pretraining: Data
    data: str
    split_fraction: Fraction
    seed: int
    layout: Layout
    swarm: Swarm
    insecure: bool = False
    pretrained: Pretrained | None = None
    strong: int = 0

    def fraction(self, rank: int) -> Fraction:
        """The split fraction of the peer of this rank."""
        return Fraction(1) if rank < self.strong else self.split_fraction

    def profile(self, rank: int) -> dict[str, Data]:
        """The profile of the peer of this rank; the first founds the swarm."""
        data = named_data(self.data).to_data()
        share = {"alpha": ALPHA, "share": f"{rank}/{self.peers}"}
        profile: dict[str, Data] = {
            "peer": {"split_fraction": float(self.fraction(rank))},
            "data": {**data, "partition": share, "validation": VALIDATION},
        }
        if self.insecure:
            profile["peer"]["insecure_loopback"] = True
        if rank == 0:
            profile["swarm"] = {
                "name": "demo",
                "network": "local",
                "seed": self.seed,
                "model": self.model,
                "model_arguments": self.model_arguments,
                "method": self.method,
                "rounds": self.rounds,
                "min_peers": self.peers,
                **self.settings,
            }
            if self.pretrained is not None:
                profile["swarm"]["pretrained"] = str(self.pretrained.file.absolute())
        return profile


@command("demo", example="p2pfusion demo --peers 4 --kill 1")
@click.option(
    "--peers",
    type=click.IntRange(1, MAX_ROSTER),
    default=4,
    show_default=True,
    help="How many daemons.",
)
@click.option("--rounds", type=click.IntRange(1), help=ROUNDS_HELP)
@click.option(
    "--method",
    default="msfusion",
    metavar="NAME",
    show_default=True,
    help="Who trains what.",
)
@click.option("--model", metavar="NAME", help=MODEL_HELP)
@click.option(
    "--data",
    default="digits",
    metavar="NAME|PATH",
    show_default=True,
    help=DATA_HELP,
)
@click.option(
    "--split-fraction",
    default="0.5",
    metavar="MU",
    show_default=True,
    help="Part of every width that each peer trains.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Fixes initial values and who trains what.",
)
@click.option(
    "--kill",
    type=click.IntRange(0),
    default=0,
    metavar="K",
    help="Kill and restart K peers after a third of the rounds.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(FOLDER),
    metavar="DIR",
    help=f"Where the checkpoint goes (default: {FOLDER}).",
)
@click.option(
    "--insecure-loopback",
    "insecure",
    is_flag=True,
    help="Encrypt nothing, to measure what encryption costs.",
)
def demo(
    peers: int,
    rounds: int | None,
    method: str,
    model: str | None,
    data: str,
    split_fraction: str,
    seed: int,
    kill: int,
    keep: Path,
    insecure: bool,
) -> None:
    """Train a real swarm on this machine and show what comes out."""
    if kill >= peers:
        raise click.BadParameter(
            f"{kill} of {peers} peers: the founder must live", param_hint="--kill"
        )
    started_s = time.monotonic()
    interrupts = Interrupts()
    if insecure:
        note(INSECURE)
    with interrupts.caught():
        plan = _plan(peers, rounds, method, model, data, split_fraction, seed)
        plan = replace(plan, insecure=insecure)
        keep.mkdir(parents=True, exist_ok=True)
        rounds = plan.rounds
        checkpoint = keep / f"{plan.model}-{method}.safetensors"
        display = choose_display(rounds, as_json=settings().as_json)
        with LocalSwarm(interrupts, keep) as swarm:
            with display:
                if plan.pretraining:
                    display.say("Training a model to begin with ...")
                    begins = keep / f"{plan.model}-pretrained.safetensors"
                    plan = replace(plan, pretrained=_pretrain(plan, begins))
                display.say(f"Starting {plural(peers, 'daemon')} on this machine ...")
                swarm.start({f"peer-{r}": plan.profile(r) for r in range(peers)})
                swarm.refresh()
                display.say(ENCRYPTED if swarm.is_encrypted else UNENCRYPTED)
                killed = _watch(swarm, display, rounds, kill, started_s)
                display.say("Assembling the whole model from the peers' segments ...")
                request: Data = {"path": str(checkpoint.absolute())}
                ask(swarm.peers[0].home, "export", request, timeout_s=STALL_TIMEOUT_S)
            swarm.refresh()
            encrypted = swarm.is_encrypted
            missed = _missed(swarm.peers[0], rounds)
            sent_bytes = sum(peer.sent_bytes for peer in swarm.peers)
        found = evaluate_file(checkpoint, data)
    result = _result(plan, found, sent_bytes, killed, checkpoint)
    result["contributions_missed"] = missed
    result["encrypted"] = encrypted
    result["seconds"] = round(time.monotonic() - started_s, 3)
    show(result, lambda: result_text(result))


def _plan(
    peers: int,
    rounds: int | None,
    method: str,
    model: str | None,
    data: str,
    fraction_text: str,
    seed: int,
) -> Plan:
    fraction = split_fraction(fraction_text, "--split-fraction")
    built = build_method(method, {})
    chosen = demo_swarm(method, model)
    rounds = chosen.rounds if rounds is None else rounds
    described = describe(
        chosen.model, chosen.model_arguments, named_data(data).to_data()
    )
    layout = initial_layout(built, described.layout)
    check_depth(layout, is_deep=described.is_deep)
    check_fraction(layout, fraction, "--split-fraction")
    strong = min(chosen.strong, peers)
    fractions = [Fraction(1)] * strong + [fraction] * (peers - strong)
    roster = tuple(Member(f"peer-{n}", each) for n, each in enumerate(fractions))
    context = PlanContext(seed=seed, rounds=rounds, layout=layout, roster=roster)
    return Plan(
        peers=peers,
        rounds=rounds,
        method=method,
        model=chosen.model,
        model_arguments=described.arguments,
        settings=chosen.swarm,
        pretraining=chosen.pretraining,
        data=data,
        split_fraction=fraction,
        seed=seed,
        layout=layout,
        swarm=Swarm(context, built, {}),
        strong=strong,
    )


def _pretrain(plan: Plan, file: Path) -> Pretrained:
    return pretrain(
        plan.model,
        plan.model_arguments,
        named_data(plan.data).to_data(),
        plan.pretraining,
        seed=plan.seed,
        file=file,
    )


def _watch(
    swarm: LocalSwarm, display: Display, rounds: int, kill: int, started_s: float
) -> list[str]:
    """Until all daemons have done all rounds; gives the names of those killed."""
    killed: list[str] = []
    before: list[tuple[int, object]] = []
    moved_s = time.monotonic()
    while True:
        swarm.refresh()
        display.show([(p.name, p.status) for p in swarm.peers], _since(started_s))
        if all(_phase(peer) == "done" for peer in swarm.peers):
            return killed
        founder = finished_rounds(swarm.peers[0].status)
        if kill and not killed and founder >= max(1, int(rounds * KILL_AFTER)):
            for victim in swarm.peers[-kill:]:
                swarm.kill(victim)
                killed.append(victim.name)
            display.say(f"Killed {', '.join(killed)}; starting again ...")
            for victim in swarm.peers[-kill:]:
                swarm.restart(victim)
        now = [_position(peer) for peer in swarm.peers]
        if now != before:
            before, moved_s = now, time.monotonic()
        elif _since(moved_s) > STALL_TIMEOUT_S:
            raise _stalled(swarm)
        time.sleep(POLL_S)


def _position(peer: LocalPeer) -> tuple[int, object]:
    return finished_rounds(peer.status), _phase(peer)


def _phase(peer: LocalPeer) -> object:
    now = peer.status.get("round")
    return now.get("phase") if isinstance(now, dict) else None


def _missed(founder: LocalPeer, rounds: int) -> int:
    """Contributions that came too late or not at all, as the founder saw it."""
    answer = ask(founder.home, "rounds", {"count": rounds})
    return sum(len(rows(done, "missing")) for done in rows(answer, "rounds"))


def _stalled(swarm: LocalSwarm) -> WaitTimeoutError:
    slowest = min(swarm.peers, key=lambda peer: finished_rounds(peer.status))
    now = slowest.status.get("round")
    waiting = now.get("waiting_for") if isinstance(now, dict) else None
    return WaitTimeoutError(
        f"no daemon has moved for {STALL_TIMEOUT_S:.0f} s; {slowest.name} is in round "
        f"{finished_rounds(slowest.status)} and waits for {waiting or 'nothing'}",
        hint="run it again with fewer peers, or report it with the seed",
    )


def _since(start_s: float) -> float:
    return time.monotonic() - start_s


def _result(
    plan: Plan, found: Data, sent_bytes: int, killed: list[str], checkpoint: Path
) -> Data:
    """The data of the interface, but for the seconds."""
    roster = tuple(Member(m.peer, Fraction(1)) for m in plan.swarm.context.roster)
    context = PlanContext(plan.seed, plan.rounds, plan.layout, roster)
    full = Swarm(context, build_method("fedavg", {}), {})
    return {
        "peers": plan.peers,
        "rounds": plan.rounds,
        "method": plan.method,
        "model": plan.model,
        "data": plan.data,
        "split_fraction": float(plan.split_fraction),
        "seed": plan.seed,
        "accuracy": found.get("accuracy"),
        "chance_accuracy": found.get("chance_accuracy"),
        "loss": found.get("loss"),
        "samples": found.get("samples"),
        "held_out": found.get("held_out"),
        **{key: found[key] for key in PROBED if key in found},
        **_beginning(plan.pretrained),
        "bytes_sent": sent_bytes,
        "bytes_full_exchange": plan.rounds * exchanged_bytes(full, 1),
        "strong_peers": plan.strong,
        "sub_model_parameters": _largest(plan),
        "full_model_parameters": plan.layout.size,
        "checkpoint": str(checkpoint),
        "killed": len(killed),
        "killed_peers": killed,
    }


def _largest(plan: Plan) -> int:
    """The largest sub-model of a peer that is not strong, if there is one."""
    everybody = list(plan.swarm.splits(0))
    weaker = everybody[plan.strong :] or everybody
    return max(
        splits[name].trained.size(plan.layout)
        for splits in map(plan.swarm.splits, range(plan.rounds))
        for name in weaker
    )


def _beginning(pretrained: Pretrained | None) -> Data:
    if pretrained is None:
        return {}
    return {
        "pretrained": str(pretrained.file),
        "pretrained_accuracy": pretrained.accuracy,
    }
