"""Profiles of peers: which there are, what one says, and whether it is in order."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import click

from p2pfusion.cli.budget import fitting
from p2pfusion.cli.command import LazyGroup, command
from p2pfusion.cli.model import JsonTable
from p2pfusion.cli.output import Data, Failure, show
from p2pfusion.cli.text import number, screen_width, size, table
from p2pfusion.cli.toml_text import toml_text
from p2pfusion.cli.trainer import ask_trainer, describe
from p2pfusion.daemon.budget import candidate
from p2pfusion.daemon.config import DataSettings, Profile, load_profile
from p2pfusion.daemon.memory import fitting_fraction, predicted_bytes
from p2pfusion.daemon.swarm_settings import read_swarm
from p2pfusion.daemon.training import memory_of, step_of
from p2pfusion.errors import DeviceError, NotFoundError, P2PFusionError, ResourceError
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.depth import check_depth
from p2pfusion.split.windows import check_fraction

READY_ONES = Path(__file__).resolve().parents[2] / "peers"
"""In a checkout; an installed package has none."""

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
@click.option(
    "--measure", is_flag=True, help="By steps of a trainer, where its device is here."
)
def profiles_check(
    profiles: tuple[Path, ...],
    model: str | None,
    model_arguments: Data,
    measure: bool,
) -> None:
    """Whether profiles are in order: keys, values, files, and memory for the model.

    A founder's is checked with its own model; others with --model, if it is given.
    """
    found = [
        _checked(path, model, model_arguments, measures=measure) for path in profiles
    ]
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
            told = self.problem.line.removeprefix("p2pfusion: ")
            return f"{self.path}: NOT in order: {told}"
        if self.needs is None:
            return f"{self.path}: in order"
        return (
            f"{self.path}: in order; trains {self.needs['split_fraction']} of the "
            f"widths of {self.needs['name']} ({number(self.needs['parameters'])} "
            f"parameters), {_about(self.needs['measured'])}"
            f"{size(float(str(self.needs['trainer_bytes'])))} for the trainer"
        )


def _checked(
    path: Path, model: str | None, arguments: Data, *, measures: bool
) -> Checked:
    try:
        profile = load_profile(path)
        _check_data(profile)
        needs = _needs(profile, model, arguments, measures=measures)
        return Checked(path, None, needs)
    except P2PFusionError as error:
        return Checked(path, Failure.of(error), None)


def _check_data(profile: Profile) -> None:
    """Reads it; the model of a founder is described by it anyway."""
    profile.check_data()
    if profile.swarm is None and profile.data != DataSettings():
        ask_trainer({"do": "read", "data": profile.data.to_data()})


def _needs(
    profile: Profile, model: str | None, arguments: Data, *, measures: bool
) -> Data | None:
    """What the model would take on such a machine; None if there is no model."""
    manifest = _manifest(profile, model, arguments, suited=measures)
    if manifest is None:
        return None
    needs = None
    if measures:
        # A profile of another machine, which has a device that this one lacks.
        with contextlib.suppress(DeviceError):
            needs = _measured(profile, manifest)
    if needs is None:
        needs = _estimated(profile, manifest)
    if profile.peer.memory is not None and needs.trainer_bytes > memory_of(profile):
        raise _too_large(profile, manifest.model, needs)
    return {
        "name": manifest.model,
        "parameters": manifest.layout.size,
        "split_fraction": str(needs.fraction),
        "trainer_bytes": needs.trainer_bytes,
        "memory_bytes": memory_of(profile),
        "measured": needs.is_measured,
    }


def _manifest(
    profile: Profile, model: str | None, arguments: Data, *, suited: bool
) -> Manifest | None:
    """The swarm that a profile founds, or one with this model that says nothing else;
    ``suited``: to the profile's data."""
    if profile.swarm is not None:
        stated, data = profile.swarm, profile.data.to_data()
        found = describe(stated.model, stated.model_arguments, data, stated.vocabulary)
    elif model is not None:
        stated = read_swarm({"name": "planned", "model": model}, profile.source)
        found = describe(model, arguments, profile.data.to_data() if suited else None)
    else:
        return None
    told = {"model_arguments": found.arguments, "vocabulary": found.vocabulary}
    stated = dataclasses.replace(stated, values={**stated.values, **told})
    manifest = stated.manifest(found.layout)
    check_depth(manifest.layout, is_deep=found.is_deep)
    return manifest


@dataclass(frozen=True)
class _Needs:
    """What a trainer would take."""

    fraction: Fraction
    trainer_bytes: int
    is_measured: bool


def _estimated(profile: Profile, manifest: Manifest) -> _Needs:
    """By the widths alone."""
    layout, (batch, copies) = manifest.layout, step_of(profile, manifest)
    fraction = profile.peer.split_fraction
    if profile.auto_fraction:
        memory_bytes = memory_of(profile)
        fraction = fitting_fraction(layout, batch, memory_bytes, copies=copies)
    check_fraction(layout, fraction, f"{profile.source}: [peer]")
    needed_bytes = predicted_bytes(layout, fraction, batch, copies=copies)
    return _Needs(fraction, needed_bytes, is_measured=False)


def _measured(profile: Profile, manifest: Manifest) -> _Needs:
    """By steps of a trainer on this machine, as the daemon's would train there."""
    stated = profile.peer.split_fraction
    check_fraction(manifest.layout, stated, f"{profile.source}: [peer]")
    options = [] if profile.auto_fraction else [candidate(manifest, stated)]
    peer = dataclasses.replace(
        profile.peer,
        models=(*profile.models, manifest.model),
        objectives=(*profile.objectives, manifest.objective),
    )
    found = fitting(manifest, peer, profile.data, memory_of(profile), options)
    return _Needs(
        Fraction(str(found["split_fraction"])),
        int(str(found["peak_bytes"])),
        is_measured=True,
    )


def _too_large(profile: Profile, model: str, needs: _Needs) -> ResourceError:
    return ResourceError(
        f"{profile.source}: {needs.fraction} of {model} takes "
        f"{_about(needs.is_measured)}{size(needs.trainer_bytes)}, more than the memory "
        f"of {profile.peer.memory} that [peer] states",
        hint='take a smaller split_fraction, or "auto"',
    )


def _about(is_measured: object) -> str:
    return "" if is_measured else "about "
