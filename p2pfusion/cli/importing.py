"""``import``: a whole model of another program becomes one that swarms begin with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import click

from p2pfusion.cli.command import command
from p2pfusion.cli.model import JsonTable
from p2pfusion.cli.output import Data, settings, show
from p2pfusion.errors import ConfigError


@dataclass(frozen=True)
class Purpose:
    """Which model a file is for, and what data says of it."""

    model: str
    arguments: Data
    data: Data | None
    vocabulary: Data


@command("import", example="p2pfusion import resnet.safetensors --profile founder.toml")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--profile",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PROFILE",
    help="For the swarm of this founder's profile.",
)
@click.option("--model", metavar="NAME", help="Without a profile: for this model.")
@click.option("--model-arguments", type=JsonTable(), metavar="JSON", help="Its own.")
@click.option("--data", metavar="NAME|PATH", help="Data that the model suits.")
@click.option(
    "--ignore",
    multiple=True,
    metavar="PATTERN",
    help="Leave out tensors with such names; may be repeated.",
)
def import_(
    file: Path,
    profile: Path | None,
    model: str | None,
    model_arguments: Data | None,
    data: str | None,
    ignore: tuple[str, ...],
) -> None:
    """Put the whole model FILE, of any program, into the pool of this home.

    FILE is a safetensors file with the names of a module's state dictionary, or the
    index of one in several parts. What a swarm is to begin with is named by the hash
    that is printed: pretrained = "HASH" in the founder's [swarm].
    """
    if profile is not None and (model or model_arguments or data):
        raise click.UsageError("--profile says which model and data; leave them out")
    if profile is not None:
        purpose = _of_profile(profile)
    elif model is not None:
        purpose = _named(model, model_arguments or {}, data)
    else:
        raise click.UsageError("name the model with --model, or give --profile")
    found = _import(file, purpose, ignore)
    show(found, lambda: _screen(found))


def _of_profile(path: Path) -> Purpose:
    from p2pfusion.daemon.config import load_profile

    profile = load_profile(path)
    if profile.swarm is None:
        raise ConfigError(
            f"{path}: has no [swarm], so it names no model",
            hint="give the founder's profile, or --model",
        )
    swarm = profile.swarm
    return Purpose(
        swarm.model,
        dict(swarm.model_arguments),
        profile.data.to_data(),
        dict(swarm.vocabulary),
    )


def _named(model: str, arguments: Data, data: str | None) -> Purpose:
    from p2pfusion.cli.datasets import named_data

    told = None if data is None else named_data(data).to_data()
    return Purpose(model, arguments, told, {})


def _import(file: Path, purpose: Purpose, ignored: tuple[str, ...]) -> Data:
    from p2pfusion.cli.trainer import describe
    from p2pfusion.daemon.pool import Pool
    from p2pfusion.store.foreign import Wanted, import_model

    _check_file(file)
    found = describe(purpose.model, purpose.arguments, purpose.data, purpose.vocabulary)
    wanted = Wanted(found.layout, found.tied, found.buffers)
    metadata = {
        "format": "pt",
        "model": purpose.model,
        "model_arguments": json.dumps(found.arguments, sort_keys=True),
    }
    home = settings().chosen_home
    home.create()
    pool, fresh = Pool(home.pool), list[str]()

    def write(path: Path) -> None:
        fresh.extend(import_model(file, path, wanted, metadata, ignored=ignored))

    name = pool.make(write)
    return {
        "hash": name,
        "path": str(pool.path(name)),
        "model": purpose.model,
        "parameters": found.layout.size,
        "from_the_seed": fresh,
    }


def _check_file(file: Path) -> None:
    if not file.exists():
        raise ConfigError(f"{file}: there is no such file")
    if file.suffix not in (".safetensors", ".json"):
        raise ConfigError(
            f"{file}: only safetensors files are read, because others can run code",
            hint="where you trust it: safetensors.torch.save_file(torch.load(FILE, "
            "weights_only=True), 'model.safetensors')",
        )


def _screen(data: Data) -> str:
    lines = [str(data["hash"])]
    fresh = data["from_the_seed"]
    if isinstance(fresh, list) and fresh:
        lines.append(f"The head is not in the file, and begins anew: {fresh[0]} ...")
    lines.append(
        f'In the founder\'s [swarm]: model = "{data["model"]}", '
        f'pretrained = "{data["hash"]}"'
    )
    lines.append(
        'With the method msfusion also: method_arguments = { start = "dense" }'
    )
    return "\n".join(lines)
