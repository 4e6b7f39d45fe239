"""Commands about the model: split show, export, evaluate."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from p2pfusion.cli.budget import Budget
from p2pfusion.cli.command import LazyGroup, command
from p2pfusion.cli.connection import ask
from p2pfusion.cli.fields import rows
from p2pfusion.cli.output import Data, note, settings, show
from p2pfusion.cli.shown import live_swarm, planned_swarm
from p2pfusion.cli.splits import report
from p2pfusion.cli.text import (
    is_terminal,
    number,
    percent,
    perplexity,
    screen_width,
    size,
)
from p2pfusion.cli.windows import split_screen
from p2pfusion.errors import ConfigError, NotFoundError
from p2pfusion.limits import MAX_ROSTER

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
    "--memory", metavar="SIZE", help="As much of the model as it suffices for."
)
@click.option("--data", metavar="NAME|PATH", help="Of --memory. Default: digits.")
@click.option("--batch", type=click.IntRange(1), help="Of --memory. Default: 32.")
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
    memory: str | None,
    data: str | None,
    batch: int | None,
    rounds: int,
    seed: int,
    round_index: int | None,
    peer: str | None,
    plot: Path | None,
) -> None:
    """Who trains what, in which round, and what it costs.

    With --method or --model for a swarm that you think about; otherwise for the swarm
    that the running daemon is in. With --memory also how much of the model fits into so
    much, and why not more.
    """
    _check_plot(plot)
    budget = Budget.of(memory, data, batch)
    if method is None and model is None:
        shown = live_swarm()
        found = budget.explain(shown.manifest)
    else:
        titles = {"method": method or DEFAULT_METHOD, "model": model or DEFAULT_MODEL}
        numbers = {"rounds": rounds, "seed": seed, "batch": budget.batch}
        planned = planned_swarm(titles, model_arguments, budget.data, numbers)
        found = budget.explain(planned.manifest)
        fraction = split_fraction if found is None else str(found["split_fraction"])
        shown = planned.with_peers(peers, fraction, "--split-fraction")
    swarm = shown.swarm
    chosen = shown.now if round_index is None else round_index
    if chosen >= swarm.context.rounds:
        raise click.BadParameter(
            f"{chosen} is not below the number of rounds, {swarm.context.rounds}",
            param_hint="--round",
        )
    told = {**shown.titles, **report(swarm, chosen)}
    if found is not None:
        told["memory"] = found
    if peer is not None:
        told["peers"] = [_find_peer(rows(told, "peers"), peer)]
    if plot is not None:
        from p2pfusion.cli.plot import plot_windows

        plot_windows(swarm, plot)
        told["plot"] = str(plot)
    show(told, lambda: split_screen(told, screen_width()))


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
