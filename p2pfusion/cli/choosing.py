"""``pool choose``: which pretrained model a swarm of some strength should finetune."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import fmean

import click

from p2pfusion.cli.command import command
from p2pfusion.cli.output import Data, settings, show
from p2pfusion.cli.text import number, screen_width, table
from p2pfusion.errors import DataError, P2PFusionError
from p2pfusion.methods import split_fraction
from p2pfusion.methods.layer_finetune import LIMITS, Prospect, choose, prospects
from p2pfusion.split.depth import cut_in_depth
from p2pfusion.split.layout import Layout


@dataclass(frozen=True)
class Candidate:
    """A checkpoint of the pool whose model can be finetuned layer by layer."""

    name: str
    """Its hash."""
    model: str
    layout: Layout


@dataclass(frozen=True)
class Skipped:
    """A checkpoint of the pool that cannot be, and why."""

    name: str
    reason: str


@command("choose", example="p2pfusion pool choose --split-fraction 1/6,1/2")
@click.option(
    "--split-fraction",
    metavar="MU,…",
    required=True,
    help="What each peer can afford, in parts of training the deepest model whole.",
)
@click.option(
    "--limit",
    type=click.Choice(LIMITS),
    default=LIMITS[0],
    show_default=True,
    help="What these are parts of; layers is close to memory.",
)
def pool_choose(split_fraction: str, limit: str) -> None:
    """Which model of the pool peers of these split fractions should finetune.

    The one of which they would train most blocks on average with the method
    layer-finetune; of equals the one of which that is the larger part.
    """
    home = settings().chosen_home
    allowed = _fractions(split_fraction)
    looked_at = list(_look(home.pool))
    candidates = [found for found in looked_at if isinstance(found, Candidate)]
    skipped = [found for found in looked_at if isinstance(found, Skipped)]
    if not candidates:
        raise _nothing(home.pool, skipped)
    found = prospects([each.layout for each in candidates], allowed, limit)
    rows = [_row(*each) for each in zip(candidates, found, strict=True)]
    chosen = choose(found)
    data: Data = {
        "limit": limit,
        "split_fractions": list(map(str, allowed)),
        "chosen": candidates[chosen].name,
        "candidates": rows,
        "skipped": [{"hash": each.name, "reason": each.reason} for each in skipped],
        "warnings": list(_warnings(candidates, found, chosen)),
    }
    show(data, lambda: _screen(data, rows, skipped))


def _fractions(texts: str) -> list[Fraction]:
    return [split_fraction(text, "--split-fraction") for text in texts.split(",")]


def _look(directory: Path) -> Iterator[Candidate | Skipped]:
    """Every checkpoint of the pool, by hash."""
    from p2pfusion.daemon.pool import Pool

    for told in Pool(directory).listed():
        name = str(told["hash"])
        if told["verified"]:
            yield _candidate(name, Path(str(told["path"])))
        else:
            yield Skipped(name, "it is damaged")


def _candidate(name: str, path: Path) -> Candidate | Skipped:
    from p2pfusion.cli.checkpoint import read_metadata
    from p2pfusion.cli.trainer import describe

    header = read_metadata(path)
    if "model" not in header:
        return Skipped(name, "it does not say which model it is")
    try:
        arguments = json.loads(header.get("model_arguments", "{}"))
        described = describe(header["model"], dict(arguments), None)
    except P2PFusionError as error:
        return Skipped(name, error.message)
    except (ValueError, TypeError):
        return Skipped(name, "the arguments of its model cannot be read")
    if not described.is_deep:
        return Skipped(name, f"{header['model']} cannot be cut in depth")
    return Candidate(name, header["model"], cut_in_depth(described.layout))


def _nothing(directory: Path, skipped: list[Skipped]) -> DataError:
    why = "; ".join(f"{each.name[:16]}: {each.reason}" for each in skipped)
    return DataError(
        f"there is no model to choose in {directory}" + (f" ({why})" if why else ""),
        hint="add one that `p2pfusion sim --train --save` or `export` made: p2pfusion "
        "pool add FILE",
    )


def _row(candidate: Candidate, prospect: Prospect) -> Data:
    return {
        "hash": candidate.name,
        "model": candidate.model,
        "parameters": candidate.layout.size,
        "blocks": prospect.blocks,
        "trained_blocks": list(prospect.trained_blocks),
        "trained_blocks_mean": float(prospect.mean),
        "trained_part": float(prospect.part),
        "split_fractions": list(map(str, prospect.split_fractions)),
    }


def _warnings(
    candidates: list[Candidate], found: list[Prospect], chosen: int
) -> Iterator[str]:
    """What the rule does not see."""
    level = [each for each in found if each.mean == found[chosen].mean]
    if len(level) > 1:
        yield (
            f"peers train as many blocks of {len(level)} models; try which of them is "
            "better: p2pfusion sim --train --pretrained FILE"
        )
    sizes = {round(_block_size(each.layout)) for each in candidates}
    if len(sizes) > 1:
        yield (
            "the models' blocks are not equally large, and yet count as equal, but for "
            "--limit upload"
        )


def _block_size(layout: Layout) -> float:
    """Parameters of a block, on average; 0 without blocks."""
    inner = set(layout.layers[1:-1])
    sizes = {layer: 0 for layer in inner}
    for parameter in layout.parameters:
        if parameter.layer in inner:
            sizes[parameter.layer] += parameter.size
    return fmean(sizes.values()) if sizes else 0.0


def _screen(data: Data, rows: list[Data], skipped: list[Skipped]) -> str:
    heads = ["HASH", "MODEL", "BLOCKS", "TRAINED", "MEAN", "CHOSEN"]
    cells = [
        [
            str(row["hash"]),
            str(row["model"]),
            str(row["blocks"]),
            _ranged(row["trained_blocks"]),
            number(row["trained_blocks_mean"]),
            "yes" if row["hash"] == data["chosen"] else "",
        ]
        for row in rows
    ]
    lines = [table(heads, cells, screen_width())]
    lines += [f"Skipped {each.name[:16]}: {each.reason}" for each in skipped]
    warnings = data["warnings"]
    assert isinstance(warnings, list)
    lines += [f"Warning: {warning}" for warning in warnings]
    lines.append(f'In the founder\'s profile: pretrained = "{data["chosen"]}"')
    (chosen,) = (row for row in rows if row["hash"] == data["chosen"])
    fractions = chosen["split_fractions"]
    assert isinstance(fractions, list)
    shown = ", ".join(f'"{each}"' for each in fractions)
    lines.append(f"In the peers' profiles: split_fraction = {shown}")
    return "\n".join(lines)


def _ranged(counts: object) -> str:
    """Blocks that peers train: of the weakest to the strongest."""
    assert isinstance(counts, list)
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} to {most}"
