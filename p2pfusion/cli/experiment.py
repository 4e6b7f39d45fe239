"""``p2pfusion sim``, and what it does with ``--train``.

Then the same methods, plan and training run in one process. The runner is a process of
its own, because it trains. It gets one JSON object on its standard input and answers in
JSON lines on its standard output:

    {"event": "round", "round", "rounds", "loss", "accuracy"}     at each evaluation
    {"result": {...}}                 at last: the data of this command's interface
    {"failed": {"name", "message", "hint"}}       or what went wrong

``round`` counts the finished rounds; ``loss`` and ``accuracy`` may be null.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click
from click.core import ParameterSource

from p2pfusion.cli.command import command
from p2pfusion.cli.datasets import named_data
from p2pfusion.cli.launch import python_environment
from p2pfusion.cli.model import JsonTable
from p2pfusion.cli.output import Data, note, settings, show
from p2pfusion.cli.simulate import (
    DEFAULT_PEERS,
    DEFAULT_ROUNDS,
    NETWORKS,
    POLICIES,
    run_simulation,
    show_outcome,
)
from p2pfusion.cli.text import duration, number, percent, perplexity, size
from p2pfusion.cli.threats import THREATS, threat_lines, threat_options
from p2pfusion.daemon.config import PARTITION_RULES
from p2pfusion.daemon.presets import BY_METHOD, PRESETS, expanded, suited
from p2pfusion.errors import ConfigError, TrainerError, reported
from p2pfusion.limits import MAX_ROSTER
from p2pfusion.methods import build_method, split_fraction
from p2pfusion.protocol.manifest import AUGMENTATIONS, OPTIMISERS
from p2pfusion.protocol.objectives import (
    OBJECTIVES,
    SELF_SUPERVISED,
    check_objective,
)
from p2pfusion.split.forms import WIRE
from p2pfusion.split.layout import Layout

TRAINING_PEERS, TRAINING_ROUNDS = 4, 20
SEED_HELP = "Same seed, same run."
EVAL_HELP = "Measure after every so many rounds. Default: 1."
DATA_HELP = "A kind of docs/data.md, or a path."
PEERS_HELP = f"Default: {DEFAULT_PEERS}; {TRAINING_PEERS} with --train."
ROUNDS_HELP = f"Default: {DEFAULT_ROUNDS}; {TRAINING_ROUNDS} with --train."
PARTITION_HELP = "Default: dirichlet; by-document for running text."
OUTER = ", ".join(f"{v['outer_momentum']} with {k}" for k, v in BY_METHOD.items())
OUTER_HELP = f"Of the swarm, over rounds. Default: {OUTER}, else 0."
PRESET_HELP = "Values of many options at once; docs/methods.md has them."
FAULTS_HELP = "What goes wrong: a fault script, or drawn from the seed (the default)."
PROXIMAL_HELP = "FedProx's mu: stay near what was received. Default: 0, off."
CLIP_RELATIVE_HELP = "Bound each gradient by this part of its tensor. Default: 0, off."
DELAY_HELP = "Rounds by which averages come late, where splits stay. Default: 0."
STEPS_HELP = "Train so many batches a round; 0: --local-epochs."
SHARES_HELP = "Deal the data to so many, if more than peers."
PARTICIPANTS_HELP = "So many peers train in a round, drawn anew. Default: all."
ENSEMBLE_HELP = "So many swarms, whose models answer together."
FULL_FORWARD_HELP = "Compute with the whole model, train a split of it."
PROBE_HELP = "Without labels: fit a probe with so many. Default: 2,000."
FINE_TUNE_HELP = "Without labels: fine-tune at the end on so many of each class."
OBJECTIVE_HELP = f"{', '.join(OBJECTIVES)}, or package.module:function."
WIRE_HELP = "What values travel as, rounded as between daemons."
PRETRAINED_HELP = "Begin with the values of this checkpoint."
SAVE_HELP = "Write the assembled model to this file at the end."
SLOWNESS_HELP = "How slow peers are, dealt out in turn: 1,4. Default: all alike."
QUORUM_HELP = "Close rounds with so many updates; means then have stale values."
STALENESS_HELP = "With a quorum: drop updates that are more rounds old. Default: 3."
FRACTION_HELP = "With --train, several with commas are dealt out to the peers in turn."
CONTROLS = ("shares", "participants", "ensemble", "full_forward", "quorum")
PROBES = {"probe_labels", "fine_tune_labels"}
FILES = ("pretrained", "save")
TIMES = ("slowness", "max_staleness")
CHECKPOINT = click.Path(path_type=Path, dir_okay=False)

RUNNER = "p2pfusion.simulation.experiment"
SIMULATOR = "p2pfusion.simulation.trained"
END_TIMEOUT_S = 3.0


@command("sim", example="p2pfusion sim --peers 12 --rounds 100 --seed 7")
@click.option("--peers", type=click.IntRange(1, MAX_ROSTER), help=PEERS_HELP)
@click.option("--rounds", type=click.IntRange(1), help=ROUNDS_HELP)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help=SEED_HELP
)
@click.option(
    "--split-fraction",
    default="0.5",
    metavar="MU",
    show_default=True,
    help=FRACTION_HELP,
)
@click.option("--faults", metavar="FILE|random|none", help=FAULTS_HELP)
@click.option(
    "--network",
    type=click.Choice(NETWORKS),
    default=NETWORKS[0],
    show_default=True,
    help="With --faults: how far apart the peers are.",
)
@click.option(
    "--policy",
    type=click.Choice(POLICIES),
    default=POLICIES[0],
    show_default=True,
    help="Of a part without contact to the rest: pause, or go on.",
)
@click.option("--train", is_flag=True, help="Really train.")
@click.option("--method", default="msfusion", metavar="NAME", show_default=True)
@click.option("--method-arguments", type=JsonTable(), default="{}", metavar="JSON")
@click.option("--objective", default="task", metavar="NAME", help=OBJECTIVE_HELP)
@click.option("--objective-arguments", type=JsonTable(), default="{}", metavar="JSON")
@click.option("--preset", type=click.Choice(sorted(PRESETS)), help=PRESET_HELP)
@click.option("--model", default="mlp", metavar="NAME", show_default=True)
@click.option("--model-arguments", type=JsonTable(), default="{}", metavar="JSON")
@click.option("--data", default="digits", metavar="NAME|PATH", help=DATA_HELP)
@click.option("--limit", type=click.IntRange(1), help="Deal out so many examples.")
@click.option("--limit-test", type=click.IntRange(1), help="Evaluate on so many.")
@click.option("--vocabulary", type=JsonTable(), default="{}", metavar="JSON")
@click.option("--augment", type=click.Choice(AUGMENTATIONS), default="none")
@click.option("--partition", type=click.Choice(PARTITION_RULES), help=PARTITION_HELP)
@click.option("--alpha", type=click.FloatRange(1e-3), default=0.5, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True)
@click.option("--local-epochs", type=click.IntRange(1), default=1, show_default=True)
@click.option("--local-steps", type=click.IntRange(0), default=0, help=STEPS_HELP)
@click.option("--learning-rate", type=float, default=0.05, show_default=True)
@click.option("--optimiser", type=click.Choice(OPTIMISERS), default="sgd")
@click.option("--momentum", type=float, default=0.9, show_default=True)
@click.option("--outer-momentum", type=float, help=OUTER_HELP)
@click.option("--clip-relative", type=float, default=0.0, help=CLIP_RELATIVE_HELP)
@click.option("--proximal", type=float, default=0.0, help=PROXIMAL_HELP)
@click.option("--delay", type=click.IntRange(0, 1), help=DELAY_HELP)
@click.option("--label-mask/--no-label-mask", default=False, show_default=True)
@click.option("--logit-adjustment", type=float, default=1.0, show_default=True)
@click.option("--wire-dtype", type=click.Choice(tuple(WIRE)), help=WIRE_HELP)
@threat_options
@click.option("--eval-every", type=click.IntRange(1), default=1, help=EVAL_HELP)
@click.option("--shares", type=click.IntRange(1), help=SHARES_HELP)
@click.option("--participants", type=click.IntRange(1), help=PARTICIPANTS_HELP)
@click.option("--ensemble", type=click.IntRange(1), default=1, help=ENSEMBLE_HELP)
@click.option("--full-forward", is_flag=True, help=FULL_FORWARD_HELP)
@click.option("--slowness", metavar="X,...", help=SLOWNESS_HELP)
@click.option("--quorum", type=click.IntRange(1), help=QUORUM_HELP)
@click.option("--max-staleness", type=click.IntRange(0), help=STALENESS_HELP)
@click.option("--pretrained", type=CHECKPOINT, help=PRETRAINED_HELP)
@click.option("--save", type=CHECKPOINT, help=SAVE_HELP)
@click.option("--probe-labels", type=click.IntRange(1), help=PROBE_HELP)
@click.option("--fine-tune-labels", type=click.IntRange(1), help=FINE_TUNE_HELP)
@click.pass_context
def sim(
    context: click.Context,
    train: bool,
    peers: int | None,
    rounds: int | None,
    faults: str | None,
    network: str,
    policy: str,
    **options: object,
) -> None:
    """Simulate a swarm of real peers in virtual time, while things go wrong.

    Protocol only, unless --train is given: then one process trains, with the same
    methods and plans. Nothing goes wrong there, and there is no protocol, unless
    --faults is given, too: then the simulated peers really train. Options from --method
    on are for --train.
    """
    if not train:
        _refuse(context, set(options) - {"seed", "split_fraction"}, "only with --train")
        seed = options["seed"]
        assert isinstance(seed, int)
        run_simulation(
            peers=peers,
            rounds=rounds,
            seed=seed,
            fraction=options["split_fraction"],
            faults="random" if faults is None else faults,
            network=network,
            policy=policy,
        )
        return
    preset = options.pop("preset")
    if preset is not None:
        stated = {name: options[name] for name in options if _given(context, name)}
        options |= expanded(preset, stated)
    if options["outer_momentum"] is None:
        del options["outer_momentum"]
    options = suited(options)
    options["peers"] = TRAINING_PEERS if peers is None else peers
    options["rounds"] = TRAINING_ROUNDS if rounds is None else rounds
    if options["objective"] not in SELF_SUPERVISED:
        _refuse(context, PROBES, "only with an objective without labels")
    if faults is not None:
        ignored = {"eval_every", *CONTROLS, *PROBES, *FILES, *TIMES, *THREATS}
        _refuse(context, ignored, "not with --faults")
        told = {"faults": faults, "network": network, "policy": policy}
        specified = {**specification(options), **told}
        found = run_experiment(specified, runner=SIMULATOR, quiet=True)
        show_outcome(found, replay=_typed(context))
        return
    _refuse(context, {"network", "policy"}, "with --train only beside --faults")
    specified = specification(options)
    result = run_experiment(specified, runner=RUNNER, quiet=settings().as_json)
    show(result, lambda: result_text(result))


def _refuse(context: click.Context, names: set[str], why: str) -> None:
    """Options that would be ignored are a mistake."""
    for name in context.params:
        if name in names and _given(context, name):
            option = "--" + name.replace("_", "-")
            raise click.BadOptionUsage(option, f"Option '{option}' works {why}")


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _typed(context: click.Context) -> str:
    """The command with the options that were typed, but for how its result is shown."""
    words = context.command_path.split()
    for option in context.command.params:
        if option.name in context.params and _given(context, option.name):
            value = context.params[option.name]
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            words += [option.opts[0]] if value is True else [option.opts[0], text]
    return shlex.join(words)


def specification(options: Data) -> Data:
    """What the runner is told: the options, checked as far as torch is not needed."""
    texts = str(options["split_fraction"]).split(",")
    fractions = [str(split_fraction(text, "--split-fraction")) for text in texts]
    arguments = options["method_arguments"]
    assert isinstance(arguments, dict)
    build_method(str(options["method"]), arguments)
    objective_arguments = options["objective_arguments"]
    assert isinstance(objective_arguments, dict)
    check_objective(options["objective"], objective_arguments, Layout((), ()))
    given = {key: value for key, value in options.items() if key != "alpha"}
    paths = ((key, given.get(key)) for key in FILES)
    return {
        **given,
        **{key: str(path.absolute()) for key, path in paths if isinstance(path, Path)},
        "split_fraction": ",".join(fractions),
        "data": named_data(str(options["data"])).to_data(),
        "data_name": options["data"],
        "partition": {"rule": options["partition"], "alpha": options["alpha"]},
    }


def run_experiment(specified: Data, *, runner: str, quiet: bool) -> Data:
    """The result of a runner, a module's name; raises the error that it names."""
    with _runner(specified, runner) as answers:
        for line in answers:
            message = _message(line)
            if "result" in message and isinstance(message["result"], dict):
                return message["result"]
            failed = message.get("failed")
            if isinstance(failed, dict):
                raise reported(failed)
            if message.get("event") == "round" and not quiet:
                note(round_text(message))
    raise TrainerError(
        "the experiment ended without a result", hint="its last words are above"
    )


@contextlib.contextmanager
def _runner(specified: Data, runner: str) -> Iterator[IO[str]]:
    """The runner's answers, line by line; its process ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", runner],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        process_group=0,
        env=python_environment(),
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(specified) + "\n")
            process.stdin.close()
        yield process.stdout
    finally:
        process.terminate()
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _message(line: str) -> Data:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise ConfigError(
            f"the experiment printed something else than its answers: {line.strip()!r}",
            hint="a model or a method of another package prints to standard output",
        )
    return message


def round_text(message: Data) -> str:
    """One line of progress."""
    return (
        f"Round {message.get('round')} of {message.get('rounds')}: "
        f"loss {number(message.get('loss'), 'not measured')}, "
        f"accuracy {percent(_real(message.get('accuracy')), 'not measured')}"
        f"{perplexity(message.get('perplexity'))}"
    )


def result_text(result: Data) -> str:
    """The result in a few lines."""

    def real(key: str) -> float | None:
        return _real(result.get(key))

    flops = real("train_flops_per_peer_round")
    accuracy = percent(real("accuracy")) + perplexity(result.get("perplexity"))
    return "\n".join(
        (
            f"Accuracy  {accuracy}  ({result.get('method')} on "
            f"{result.get('model')}, {result.get('data')})",
            *_encoder_lines(result),
            f"Swarm     {result.get('peers')} peers, split fraction "
            f"{result.get('split_fraction')}, {result.get('rounds')} rounds, seed "
            f"{result.get('seed')}",
            f"Trained   {percent(real('ever_trained_fraction'))} of the parameters",
            f"Cost      {size(real('bytes_per_peer_round'))} and "
            f"{'unknown' if flops is None else f'{flops:.3g}'} training FLOPs per "
            "peer and round",
            *_clock_lines(result),
            *threat_lines(result),
            f"Time      {duration(real('seconds'))}",
        )
    )


def _clock_lines(result: Data) -> list[str]:
    """What a swarm of such machines would take, if the runner told it."""
    virtual_s, used = _real(result.get("virtual_seconds")), result.get("utilisation")
    if virtual_s is None or not isinstance(used, float):
        return []
    late = result.get("updates_too_late")
    return [
        f"Clock     {virtual_s:.3g} virtual seconds, peers busy for {percent(used)}"
        + (f"; {late} updates came too late" if late else "")
    ]


def _encoder_lines(result: Data) -> list[str]:
    """What stands beside an accuracy that is a probe's; nothing beside others."""
    if result.get("probe_labels") is None:
        return []
    random = _real(result.get("random_encoder_accuracy"))
    lines = [
        f"Probe     linear, fitted with {result['probe_labels']} labels; a random "
        f"encoder has {percent(random)}"
    ]
    tuned = _real(result.get("fine_tuned_accuracy"))
    if tuned is not None:
        random = _real(result.get("random_encoder_fine_tuned_accuracy"))
        lines.append(f"Tuned     {percent(tuned)}; a random encoder: {percent(random)}")
    return lines


def _real(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
