"""What an experiment is: a manifest, peers, their data, and what only comparisons need.

From a specification, checked; and what each peer's trainer is told of it. This is one
of the modules beside ``training`` that import torch code.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from p2pfusion.errors import ConfigError
from p2pfusion.methods import build_method, initial_layout, skipping
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.simulation.attacks import Hostile
from p2pfusion.simulation.saving import hash_of
from p2pfusion.simulation.specification import (
    Controls,
    Fields,
    Files,
    Threat,
    check_keys,
    data_table,
    optional,
    real,
    slownesses,
    split_fractions,
    stated,
    table,
    whole,
)
from p2pfusion.training.data import DataOptions
from p2pfusion.training.descent import Optimiser
from p2pfusion.training.description import describe
from p2pfusion.training.examination import Labels
from p2pfusion.training.loop import Schedule
from p2pfusion.training.outside import MODEL, OBJECTIVE, allow
from p2pfusion.training.privacy import Privacy, repeatable
from p2pfusion.training.setup import Setup


@dataclass(frozen=True)
class Experiment:
    """What is trained, by how many, and how often it is looked at."""

    manifest: Manifest
    peers: int
    split_fractions: tuple[Fraction, ...]
    """One for each peer."""
    slowness: tuple[float, ...]
    """How much longer each peer takes than one of slowness 1."""
    data: Fields
    data_name: str
    eval_every: int
    controls: Controls
    files: Files
    labels: Labels
    privacy: Privacy | None
    """How every peer hides its data; the noise follows from the seed."""
    threat: Threat

    def hostile(self, peers: list[str]) -> Hostile | None:
        """The hostile ones among these peers, if there are any."""
        manifest, threat = self.manifest, self.threat
        if threat.attack is None:
            return None
        return Hostile.drawn(
            threat.attack,
            threat.attackers,
            peers,
            seed=manifest.seed,
            layout=manifest.layout,
            changes=manifest.sends_changes,
        )

    @classmethod
    def of(cls, fields: Fields) -> Experiment:
        """From a specification; missing keys have the manifest's defaults.

        ``ConfigError`` names a key that is missing, unknown or wrong.
        """
        check_keys(fields)
        data, files = data_table(fields), Files.of(fields)
        options = DataOptions.from_data({**data, "partition": None})
        objective = str(fields.get("objective", Manifest.objective))
        # Whoever starts an experiment names its code.
        allow(MODEL, [str(fields["model"])])
        allow(OBJECTIVE, [objective])
        described = describe(
            str(fields["model"]),
            table(fields, "model_arguments"),
            options,
            table(fields, "vocabulary"),
            objective=objective,
        )
        method = build_method(
            str(fields.get("method", Manifest.method)),
            table(fields, "method_arguments"),
        )
        manifest = Manifest(
            name="experiment",
            model=str(fields["model"]),
            model_arguments=described.arguments,
            vocabulary=described.vocabulary,
            layout=initial_layout(method, described.layout),
            pretrained=hash_of(files.pretrained),
            **stated(fields),  # type: ignore[arg-type]
        )
        _refuse_what_means_nothing(fields, manifest)
        data["partition"] = table(fields, "partition")
        peers = whole(fields, "peers")
        return cls(
            manifest=manifest,
            peers=peers,
            controls=Controls.of(fields, peers),
            threat=Threat.of(fields, peers),
            files=files,
            labels=Labels(
                optional(fields, "probe_labels"), optional(fields, "fine_tune_labels")
            ),
            privacy=_privacy(fields),
            split_fractions=split_fractions(fields["split_fraction"], peers),
            slowness=slownesses(fields.get("slowness") or 1.0, peers),
            data=data,
            data_name=str(fields.get("data_name", data.get("kind"))),
            eval_every=optional(fields, "eval_every") or 1,
        )


def experiment_setup(
    experiment: Experiment, number: int, *, past: Path, owed: Path
) -> Setup:
    """What the trainer of one of an experiment's peers is told: ``past`` is where it
    may keep what rounds began with, ``owed`` where it is kept what it lost."""
    manifest = experiment.manifest
    share = f"{number}/{experiment.controls.shares}"
    partition = {**table(experiment.data, "partition"), "share": share}
    return Setup(
        model=manifest.model,
        arguments=manifest.model_arguments,
        vocabulary=manifest.vocabulary,
        augment=manifest.augment,
        layout=manifest.layout,
        seed=manifest.seed,
        schedule=Schedule(
            batch=manifest.batch,
            epochs=manifest.local_epochs,
            steps=manifest.local_steps or None,
        ),
        data=DataOptions.from_data({**experiment.data, "partition": partition}),
        optimiser=Optimiser.from_data(manifest.step_settings),
        outer_momentum=manifest.outer_momentum,
        past=past,
        depth_dropout=skipping(manifest.trained_by),
        changes=manifest.sends_changes,
        summed=manifest.adds_changes,
        owed=owed if manifest.wire.is_lossy else None,
        objective=manifest.objective_options,
        privacy=experiment.privacy
        and repeatable(experiment.privacy, [manifest.seed, number]),
    )


def _privacy(fields: Fields) -> Privacy | None:
    if not fields.get("privacy_noise"):
        return None
    noise, clip = real(fields, "privacy_noise"), real(fields, "privacy_clip")
    if noise <= 0 or clip <= 0:
        raise ConfigError("privacy_noise and privacy_clip must be above 0")
    return Privacy(noise, clip)


def _refuse_what_means_nothing(fields: Fields, manifest: Manifest) -> None:
    waits = not manifest.adds_changes and fields.get("quorum") is None
    if waits and not manifest.wire.hides and fields.get("max_staleness") is not None:
        raise ConfigError(
            f"max_staleness means nothing to the method {manifest.method!r}",
            hint="its rounds wait for everybody; --quorum lets them close earlier",
        )
    for key, hint in (
        ("weighting", "its shares of changes follow from their sizes"),
        ("quorum", "its own argument quorum says when a round closes"),
    ):
        if manifest.adds_changes and fields.get(key) is not None:
            raise ConfigError(
                f"{key} means nothing to the method {manifest.method!r}", hint=hint
            )
