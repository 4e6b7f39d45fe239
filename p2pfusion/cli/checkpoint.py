"""Whole models in files: what one says of itself, and those that this peer keeps."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from p2pfusion.cli.command import LazyGroup, command
from p2pfusion.cli.connection import ask
from p2pfusion.cli.output import Data, note, settings, show
from p2pfusion.cli.text import is_terminal, screen_width, size, table
from p2pfusion.daemon.home import Home

checkpoint_group = LazyGroup(
    "checkpoint",
    {
        "ls": "p2pfusion.cli.checkpoint:checkpoint_ls",
        "create": "p2pfusion.cli.checkpoint:checkpoint_create",
    },
    text="Whole models that this peer keeps in its home.",
    example="p2pfusion checkpoint ls",
)


def read_metadata(path: Path) -> dict[str, str]:
    """The texts that were written into the file with the values."""
    from p2pfusion.store.checksum import read_header

    return read_header(path)


@command("ls", example="p2pfusion checkpoint ls --json")
@click.argument(
    "directory", required=False, type=click.Path(path_type=Path, file_okay=False)
)
@click.option("--no-verify", is_flag=True, help="Do not read the values.")
def checkpoint_ls(directory: Path | None, no_verify: bool) -> None:
    """List the whole models that this peer keeps, newest first.

    DIRECTORY is for a profile that names another one than the home's.
    """
    from p2pfusion.daemon.checkpoints import listed

    home: Home = settings().chosen_home
    place = directory or home.checkpoints
    found = listed(place, verified=not no_verify)
    show({"checkpoints": found}, lambda: _screen(found, str(place)))


def _screen(found: list[Data], directory: str) -> str:
    if not found:
        return (
            f"No checkpoints in {directory}. Make one: p2pfusion checkpoint create; or "
            "set checkpoint_every in the profile."
        )
    words = {True: "yes", False: "NO: damaged, do not use", None: "not read"}
    rows = [
        [
            str(each["id"]),
            "unknown" if each["round"] is None else str(each["round"]),
            size(float(str(each["bytes"]))),
            str(each["when"]),
            words[each["verified"]],  # type: ignore[index]
        ]
        for each in found
    ]
    heads = ["ID", "ROUND", "SIZE", "WHEN", "VERIFIED"]
    return f"{table(heads, rows, screen_width())}\nThey lie in {directory}"


@command("create", example="p2pfusion checkpoint create")
def checkpoint_create() -> None:
    """Assemble the whole model from the swarm and keep it in the home."""
    data = ask(
        settings().chosen_home,
        "checkpoint-create",
        {},
        timeout_s=None,
        on_event=_show_progress if is_terminal(sys.stderr) else None,
    )
    show(data, lambda: f"Wrote {data.get('path')}, after round {data.get('round')}.")


def _show_progress(event: Mapping[str, object]) -> None:
    done, total = event.get("done_bytes"), event.get("total_bytes")
    if isinstance(done, int) and isinstance(total, int):
        note(f"pulled {size(done)} of {size(total)}")
