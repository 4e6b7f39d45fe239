"""The pool of this home: checkpoints that swarms begin with."""

from __future__ import annotations

from pathlib import Path

import click

from p2pfusion.cli.command import LazyGroup, command
from p2pfusion.cli.output import Data, settings, show
from p2pfusion.cli.text import screen_width, size, table

pool_group = LazyGroup(
    "pool",
    {
        "add": "p2pfusion.cli.pool:pool_add",
        "ls": "p2pfusion.cli.pool:pool_ls",
        "choose": "p2pfusion.cli.choosing:pool_choose",
    },
    text="Checkpoints that swarms begin with; each peer needs the one of its swarm.",
    example="p2pfusion pool add pretrained.safetensors",
)


@command("add", example="p2pfusion pool add pretrained.safetensors")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def pool_add(file: Path) -> None:
    """Copy the checkpoint FILE into the pool of this home, and print its hash."""
    from p2pfusion.daemon.pool import Pool

    home = settings().chosen_home
    home.create()
    pool = Pool(home.pool)
    name = pool.add(file)
    show({"hash": name, "path": str(pool.path(name))}, lambda: name)


@command("ls", example="p2pfusion pool ls --json")
def pool_ls() -> None:
    """List the checkpoints in the pool of this home; each is read and verified."""
    from p2pfusion.daemon.pool import Pool

    home = settings().chosen_home
    found = Pool(home.pool).listed()
    show({"pool": found}, lambda: _screen(found, str(home.pool)))


def _screen(found: list[Data], directory: str) -> str:
    if not found:
        return f"Nothing in {directory}. Add a checkpoint: p2pfusion pool add FILE"
    rows = [
        [
            str(each["hash"]),
            str(each["model"] or "unknown"),
            "unknown" if each["parameters"] is None else f"{each['parameters']:,}",
            size(float(str(each["bytes"]))),
            "yes" if each["verified"] else "NO: damaged, do not use",
        ]
        for each in found
    ]
    heads = ["HASH", "MODEL", "PARAMETERS", "SIZE", "VERIFIED"]
    return f"{table(heads, rows, screen_width())}\nThey lie in {directory}"
