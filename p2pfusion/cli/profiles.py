"""Profiles of peers: which there are, what one says, and whether it is in order."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import click

from p2pfusion.cli.command import LazyGroup, command
from p2pfusion.cli.model import JsonTable
from p2pfusion.cli.output import Data, Failure, show
from p2pfusion.cli.text import number, screen_width, size, table
from p2pfusion.cli.toml_text import toml_text
from p2pfusion.cli.trainer import Description, describe
from p2pfusion.daemon.config import Profile, load_profile
from p2pfusion.daemon.memory import fitting_fraction, predicted_bytes
from p2pfusion.daemon.training import memory_of
from p2pfusion.errors import NotFoundError, P2PFusionError, ResourceError
from p2pfusion.methods import build_method, initial_layout
from p2pfusion.split.depth import check_depth
from p2pfusion.split.windows import check_fraction

READY_ONES = Path(__file__).resolve().parents[2] / "peers"
"""In a checkout; an installed package has none."""

METHOD, BATCH = "msfusion", 32
"""As swarms have it that say nothing else: the method, and the examples of a step."""

profiles_group = LazyGroup(
    "profiles",
    {
        "ls": "p2pfusion.cli.profiles:profiles_ls",
        "show": "p2pfusion.cli.profiles:profiles_show",
        "check": "p2pfusion.cli.profiles:profiles_check",
    },
    text="Profiles of peers: the ready ones in peers/, and your own.",
    example="p2pfusion profiles check peers/laptop-cpu.toml",
)


@command("ls", example="p2pfusion profiles ls")
@click.argument(
    "directory", required=False, type=click.Path(path_type=Path, file_okay=False)
)
def profiles_ls(directory: Path | None) -> None:
    """The profiles of a directory, by default the ready ones, and what each is for."""
    folder = READY_ONES if directory is None else directory
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no directory {folder}",
            hint="name one: p2pfusion profiles ls DIRECTORY",
        )
    found = [_row(path) for path in sorted(folder.glob("*.toml"))]
    show({"directory": str(folder), "profiles": found}, lambda: _list(found))


def _row(path: Path) -> Data:
    profile = load_profile(path)
    return {
        "name": path.stem,
        "path": str(path),
        "text": purpose(path.read_text(encoding="utf-8")),
        "device": profile.peer.device,
        "split_fraction": _fraction(profile),
        "memory": profile.peer.memory,
        "founds": profile.swarm is not None,
    }


def purpose(text: str) -> str:
    """The first sentence of the comment at the head of a profile."""
    words: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        words += line.removeprefix("#").split()
    sentence, dot, _ = " ".join(words).partition(". ")
    return (sentence + dot.strip()).partition(":")[0].rstrip(".")


def _fraction(profile: Profile) -> str:
    return "auto" if profile.auto_fraction else str(profile.peer.split_fraction)


def _list(found: Sequence[Data]) -> str:
    heads = ("NAME", "DEVICE", "FRACTION", "MEMORY", "FOUNDS", "FOR")
    cells = [
        [
            str(each["name"]),
            str(each["device"]),
            str(each["split_fraction"]),
            str(each["memory"] or "not stated"),
            "a swarm" if each["founds"] else "no",
            str(each["text"]),
        ]
        for each in found
    ]
    return table(heads, cells, screen_width(), ("FOUNDS",))


@command("show", example="p2pfusion profiles show peers/laptop-cpu.toml")
@click.argument("profile", type=click.Path(path_type=Path))
def profiles_show(profile: Path) -> None:
    """A profile with all that it leaves to the defaults."""
    data = effective(load_profile(profile))
    show({"path": str(profile), **data}, lambda: toml_text(_sections(data)).rstrip())


def effective(profile: Profile) -> Data:
    """Every key of a profile with its value; null where there is none."""
    peer = dataclasses.asdict(profile.peer)
    peer["split_fraction"] = _fraction(profile)
    swarm = None if profile.swarm is None else dict(profile.swarm.values)
    return {"peer": peer, "data": dataclasses.asdict(profile.data), "swarm": swarm}


def _sections(data: Data) -> dict[str, Mapping[str, object]]:
    return {key: value for key, value in data.items() if isinstance(value, Mapping)}


@command("check", example="p2pfusion profiles check peers/jetson-8gb.toml --model vit")
@click.argument(
    "profiles",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE…",
)
@click.option("--model", metavar="NAME", help="Say what this model would take there.")
@click.option(
    "--model-arguments", type=JsonTable(), default="{}", metavar="JSON", help="Its own."
)
def profiles_check(
    profiles: tuple[Path, ...], model: str | None, model_arguments: Data
) -> None:
    """Whether profiles are in order: keys, values, files, and memory for the model.

    A founder's is checked with its own model; others with --model, if it is given.
    """
    found = [_checked(path, model, model_arguments) for path in profiles]
    problems = [each.problem for each in found if each.problem is not None]
    failure = problems[0] if problems else None
    data = {"profiles": [each.to_data() for each in found]}
    show(data, lambda: "\n".join(each.text for each in found), failure)
    if failure is not None:
        raise click.exceptions.Exit(failure.code)


@dataclass(frozen=True)
class Checked:
    """A profile that was looked at."""

    path: Path
    problem: Failure | None
    needs: Data | None
    """What a model would take there, if there is one."""

    def to_data(self) -> Data:
        """For the answer."""
        problem = None if self.problem is None else self.problem.to_data()
        return {
            "path": str(self.path),
            "ok": problem is None,
            "problem": problem,
            "model": self.needs,
        }

    @property
    def text(self) -> str:
        """The verdict, on one line."""
        if self.problem is not None:
            told = f"{self.problem.message}; {self.problem.hint}"
            return f"{self.path}: NOT in order: {told}"
        if self.needs is None:
            return f"{self.path}: in order"
        return (
            f"{self.path}: in order; trains {self.needs['split_fraction']} of the "
            f"widths of {self.needs['name']} ({number(self.needs['parameters'])} "
            f"parameters), about {size(float(str(self.needs['trainer_bytes'])))} for "
            "the trainer"
        )


def _checked(path: Path, model: str | None, arguments: Data) -> Checked:
    try:
        profile = load_profile(path)
        profile.check_data()
        return Checked(path, None, _needs(profile, model, arguments))
    except P2PFusionError as error:
        return Checked(path, Failure.of(error), None)


def _needs(profile: Profile, model: str | None, arguments: Data) -> Data | None:
    """What the model would take on such a machine; None if there is no model."""
    swarm = profile.swarm
    if swarm is not None:
        found = describe(swarm.model, swarm.model_arguments, profile.data.to_data())
        return _budget(profile, swarm.model, found, swarm.values)
    if model is None:
        return None
    return _budget(profile, model, describe(model, arguments, None), {})


def _budget(
    profile: Profile, model: str, found: Description, swarm: Mapping[str, object]
) -> Data:
    """``swarm``: the keys that a founder states."""
    arguments = swarm.get("method_arguments", {})
    assert isinstance(arguments, Mapping), "load_profile has checked that"
    method = build_method(str(swarm.get("method", METHOD)), arguments)
    layout = initial_layout(method, found.layout)
    check_depth(layout, is_deep=found.is_deep)
    batch, memory_bytes = int(str(swarm.get("batch", BATCH))), memory_of(profile)
    fraction = profile.peer.split_fraction
    if profile.auto_fraction:
        fraction = fitting_fraction(layout, batch, memory_bytes)
    check_fraction(layout, fraction, f"{profile.source}: [peer]")
    needed_bytes = predicted_bytes(layout, fraction, batch)
    if profile.peer.memory is not None and needed_bytes > memory_bytes:
        raise _too_large(profile, model, fraction, needed_bytes)
    return {
        "name": model,
        "parameters": layout.size,
        "split_fraction": str(fraction),
        "trainer_bytes": needed_bytes,
        "memory_bytes": memory_bytes,
    }


def _too_large(
    profile: Profile, model: str, fraction: Fraction, needed_bytes: int
) -> ResourceError:
    return ResourceError(
        f"{profile.source}: {fraction} of {model} takes about {size(needed_bytes)}, "
        f"more than the memory of {profile.peer.memory} that [peer] states",
        hint='take a smaller split_fraction, or "auto"',
    )
