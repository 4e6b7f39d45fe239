"""Commands about the model: split show, export, evaluate."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from p2pfusion.cli.command import LazyGroup, command
from p2pfusion.cli.connection import ask
from p2pfusion.cli.fields import rows
from p2pfusion.cli.output import Data, note, settings, show
from p2pfusion.cli.splits import Swarm, report
from p2pfusion.cli.text import (
    is_terminal,
    number,
    percent,
    perplexity,
    screen_width,
    size,
)
from p2pfusion.cli.windows import split_screen
from p2pfusion.errors import (
    ConfigError,
    IncompatibleError,
    NotFoundError,
    NotRunningError,
)
from p2pfusion.limits import MAX_ROSTER
from p2pfusion.methods import (
    Member,
    PlanContext,
    build_method,
    initial_layout,
    split_fraction,
)
from p2pfusion.split.depth import check_depth
from p2pfusion.split.windows import check_fraction

DEFAULT_METHOD, DEFAULT_MODEL = "msfusion", "mlp"
DEFAULT_PEERS, DEFAULT_ROUNDS = 4, 20

split_group = LazyGroup(
    "split",
    {"show": "p2pfusion.cli.model:split_show"},
    text="Look at who trains which part of the model.",
    example="p2pfusion split show --method msfusion --model mlp --peers 4",
)


class JsonTable(click.ParamType):
    """A JSON object on the command line."""

    name = "json"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Data:
        """The table, or a usage error."""
        if isinstance(value, dict):
            return value
        try:
            table = json.loads(str(value))
        except ValueError:
            table = None
        if not isinstance(table, dict):
            self.fail(f"{value!r} is not a JSON object", param, ctx)
        return table


@command("show", example="p2pfusion split show --method msfusion --model mlp --peers 4")
@click.option("--method", metavar="NAME", help="Without a daemon: this method.")
@click.option("--model", metavar="NAME", help="Without a daemon: this model.")
@click.option(
    "--model-arguments", type=JsonTable(), default="{}", metavar="JSON", help="Its own."
)
@click.option(
    "--peers",
    type=click.IntRange(1, MAX_ROSTER),
    default=DEFAULT_PEERS,
    show_default=True,
    help="Without a daemon: so many.",
)
@click.option(
    "--split-fraction",
    metavar="MU",
    default="0.5",
    show_default=True,
    help="Without a daemon: part of every width, at all.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=DEFAULT_ROUNDS,
    show_default=True,
    help="Without a daemon: so many.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Without a daemon: of the swarm.",
)
@click.option(
    "--round",
    "round_index",
    type=click.IntRange(0),
    metavar="T",
    help="Which one (default: the one that the swarm is in).",
)
@click.option("--peer", metavar="P", help="Only this one: its name or its id's start.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw windows over axes and rounds (.png or .svg).",
)
def split_show(
    method: str | None,
    model: str | None,
    model_arguments: Data,
    peers: int,
    split_fraction: str,
    rounds: int,
    seed: int,
    round_index: int | None,
    peer: str | None,
    plot: Path | None,
) -> None:
    """Who trains what, in which round, and what it costs.

    With --method or --model for a swarm that you think about; otherwise for the swarm
    that the running daemon is in.
    """
    _check_plot(plot)
    if method is None and model is None:
        swarm, titles, now = _live_swarm()
    else:
        titles = {"method": method or DEFAULT_METHOD, "model": model or DEFAULT_MODEL}
        swarm = _planned_swarm(
            titles, model_arguments, peers, split_fraction, rounds=rounds, seed=seed
        )
        now = 0
    chosen = now if round_index is None else round_index
    if chosen >= swarm.context.rounds:
        raise click.BadParameter(
            f"{chosen} is not below the number of rounds, {swarm.context.rounds}",
            param_hint="--round",
        )
    data = {**titles, **report(swarm, chosen)}
    if peer is not None:
        data["peers"] = [_find_peer(rows(data, "peers"), peer)]
    if plot is not None:
        from p2pfusion.cli.plot import plot_windows

        plot_windows(swarm, plot)
        data["plot"] = str(plot)
    show(data, lambda: split_screen(data, screen_width()))


@command("export", example="p2pfusion export model.safetensors")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def export(file: Path) -> None:
    """Assemble the whole model from the swarm and write it to FILE."""
    if not file.absolute().parent.is_dir():
        raise ConfigError(
            f"{file}: there is no directory {str(file.parent)!r}",
            hint="create it first",
        )
    data = ask(
        settings().chosen_home,
        "export",
        {"path": str(file.absolute())},
        timeout_s=None,
        on_event=_show_progress if is_terminal(sys.stderr) else None,
    )
    show(
        data,
        lambda: (
            f"Wrote {data.get('path')}: {size(_number(data, 'bytes'))}, after round "
            f"{data.get('round')}, {percent(_number(data, 'ever_trained_fraction'))} "
            f"of it ever trained; pulled {size(_number(data, 'pulled_bytes'))} from "
            f"the other peers."
        ),
    )


@command("evaluate", example="p2pfusion evaluate model.safetensors --data digits")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--data", "data_name", required=True, metavar="NAME|PATH", help="To measure on."
)
@click.option("--model", metavar="NAME", help="For a file that does not say it.")
@click.option("--model-arguments", type=JsonTable(), metavar="JSON", help="Its own.")
def evaluate(
    file: Path, data_name: str, model: str | None, model_arguments: Data | None
) -> None:
    """Measure how good an exported model is on held-out data."""
    data = evaluate_file(file, data_name, model=model, model_arguments=model_arguments)
    show(data, lambda: evaluation_text(data))


def evaluation_text(data: Data) -> str:
    """How good a model is, and how good guessing would be."""
    chance = _number(data, "chance_perplexity")
    what = "examples" if chance is None else "tokens"
    kept = f"held-out {what}" if data.get("held_out") else f"{what}, NOT held out"
    text = (
        f"Accuracy {percent(_number(data, 'accuracy'))} on {data.get('samples')} "
        f"{kept} (chance: {percent(_number(data, 'chance_accuracy'))}), "
        f"loss {number(_number(data, 'loss'), 'not finite')}"
    )
    if data.get("probe_labels") is not None:
        return (
            f"{text}; by a linear probe fitted with {data.get('probe_labels')} labels "
            "of the training part (a random encoder: "
            f"{percent(_number(data, 'random_encoder_accuracy'))})"
        )
    if chance is None:
        return text
    found = perplexity(data.get("perplexity")) or ", perplexity not finite"
    return f"{text}{found} (by frequency alone: {chance:.4g})"


def evaluate_file(
    file: Path,
    data_name: str,
    *,
    model: str | None = None,
    model_arguments: Mapping[str, object] | None = None,
) -> Data:
    """What a trainer process finds when it evaluates an exported model."""
    from p2pfusion.cli.checkpoint import read_metadata
    from p2pfusion.cli.datasets import named_data
    from p2pfusion.cli.trainer import ask_trainer

    metadata = read_metadata(file)
    name = model or metadata.get("model")
    if name is None:
        raise ConfigError(
            f"{file}: does not say which model it is", hint="name it with --model"
        )
    arguments = model_arguments or json.loads(metadata.get("model_arguments", "{}"))
    answer = ask_trainer(
        {
            "do": "evaluate",
            "model": name,
            "arguments": dict(arguments),
            "vocabulary": json.loads(metadata.get("vocabulary", "{}")),
            "objective": metadata.get("objective", "task"),
            "seed": json.loads(metadata.get("seed", "0")),
            "file": str(file.absolute()),
            "data": named_data(data_name).to_data(),
            # What the file itself names may be anybody's.
            "models": [] if model is None else [model],
        }
    )
    answer.pop("done")
    return {**answer, "file": str(file), "model": name, "data": data_name}


def _planned_swarm(
    titles: Mapping[str, str],
    model_arguments: Data,
    peers: int,
    fraction_text: str,
    *,
    rounds: int,
    seed: int,
) -> Swarm:
    from p2pfusion.cli.trainer import describe

    fraction = split_fraction(fraction_text, "--split-fraction")
    method = build_method(titles["method"], {})
    described = describe(titles["model"], model_arguments, None)
    layout = initial_layout(method, described.layout)
    check_depth(layout, is_deep=described.is_deep)
    check_fraction(layout, fraction, "--split-fraction")
    roster = tuple(Member(f"peer-{rank}", fraction) for rank in range(peers))
    context = PlanContext(seed=seed, rounds=rounds, layout=layout, roster=roster)
    names = {member.peer: member.peer for member in roster}
    return Swarm(context, method, names, held=described.held)


def _live_swarm() -> tuple[Swarm, dict[str, str], int]:
    """The swarm of the running daemon, and the round that it is in."""
    from p2pfusion.protocol.manifest import Manifest

    try:
        answer = ask(settings().chosen_home, "plan")
    except NotRunningError as error:
        raise NotRunningError(
            error.message,
            hint=f"{error.hint}; or name a --method and a --model to plan without one",
        ) from None
    try:
        packed = base64.b64decode(str(answer.get("manifest")), validate=True)
    except binascii.Error:
        raise IncompatibleError("the daemon's answer is not a manifest") from None
    manifest = Manifest.from_bytes(packed)
    members = rows(answer, "roster")
    roster = tuple(
        Member(str(m.get("peer")), split_fraction(m.get("split_fraction"), "roster"))
        for m in members
    )
    context = PlanContext(
        seed=manifest.seed,
        rounds=manifest.rounds,
        layout=manifest.layout,
        roster=roster,
    )
    names = {str(m.get("peer")): str(m.get("name")) for m in members}
    method = build_method(manifest.method, manifest.method_arguments)
    swarm = Swarm(
        context,
        method,
        names,
        manifest.wire,
        is_pretrained=bool(manifest.pretrained),
    )
    now = answer.get("round")
    latest = min(now, manifest.rounds - 1) if isinstance(now, int) else 0
    return swarm, {"method": manifest.method, "model": manifest.model}, latest


def _find_peer(peers: list[Mapping[str, object]], wanted: str) -> Mapping[str, object]:
    """By name, or by the beginning of the id if that is unique."""
    found = [
        peer
        for peer in peers
        if peer["name"] == wanted or str(peer["peer"]).startswith(wanted)
    ]
    exact = [peer for peer in found if wanted in (peer["name"], peer["peer"])]
    if len(exact or found) == 1:
        return (exact or found)[0]
    names = ", ".join(str(peer["name"]) for peer in found or peers)
    raise NotFoundError(
        f"{len(found) or 'no'} peers are called {wanted!r}",
        hint=f"choose from: {names}",
    )


def _check_plot(plot: Path | None) -> None:
    if plot is not None and plot.suffix not in (".png", ".svg"):
        raise click.BadParameter(
            f"{plot} is neither .png nor .svg", param_hint="--plot"
        )


def _show_progress(event: Mapping[str, object]) -> None:
    done, total = _number(event, "done_bytes"), _number(event, "total_bytes")
    note(f"pulled {size(done)} of {size(total)}")


def _number(data: Mapping[str, object], key: str) -> float | None:
    value = data.get(key)
    return float(value) if isinstance(value, (int, float)) else None
