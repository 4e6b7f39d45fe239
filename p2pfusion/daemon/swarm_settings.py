"""``[swarm]``: what a founder decides for all, on its way to becoming the manifest.

Meaning and default of every key stand in ``protocol.manifest.Manifest``; all of its
fields are keys, but ``layout`` and ``versions``, which follow from the model and its
code, and ``founder``. Values are checked when the file is read, not when the swarm is
founded. The key ``preset`` is none of the manifest's: it stands for several others
(``presets.py``). ``pretrained`` may name a file: it is added to the pool when the swarm
is founded, and the manifest has its hash.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import get_type_hints

from p2pfusion.daemon.pool import Pool, is_hash
from p2pfusion.daemon.presets import expanded, suited
from p2pfusion.daemon.sections import Place, Table, reject_unknown, typed
from p2pfusion.errors import ConfigError
from p2pfusion.methods import initial_layout
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.layout import Layout
from p2pfusion.store.checksum import file_hash

PRESET = "preset"
PRETRAINED = "pretrained"

FOLLOWS = ("layout", "versions", "founder")
"""Fields of the manifest that nobody states."""

COMPLETED = ("model_arguments", "vocabulary")
"""Keys whose tables the trainer completes when the swarm is founded."""


@dataclass(frozen=True, kw_only=True)
class SwarmSettings:
    """The keys of a ``[swarm]`` section, checked."""

    values: Mapping[str, object]
    """The keys that the file states, a preset's among them."""
    source: str
    """The file, for errors."""
    pretrained_file: Path | None = None
    """The checkpoint to begin with, if it is named as a file."""

    @property
    def model(self) -> str:
        """The model's name; the trainer knows its layout."""
        return str(self.values["model"])

    @property
    def objective(self) -> str:
        """The objective's name; the trainer knows its loss."""
        return str(self.values.get("objective", Manifest.objective))

    @property
    def model_arguments(self) -> Mapping[str, object]:
        """The model's arguments; empty where the file states none."""
        found = self.values.get("model_arguments", {})
        assert isinstance(found, Mapping)
        return found

    @property
    def vocabulary(self) -> Mapping[str, object]:
        """What the file states about tokens; the trainer completes it."""
        found = self.values.get("vocabulary", {})
        assert isinstance(found, Mapping)
        return found

    def completed(
        self,
        arguments: Mapping[str, object],
        vocabulary: Mapping[str, object],
        pool: Pool,
        *,
        versions: Mapping[str, object] | None = None,
    ) -> SwarmSettings:
        """The same swarm with all arguments of the model, its vocabulary and the
        versions of its code, as the trainer told them, and with the hash of a file,
        which is in the pool then."""
        told: dict[str, object] = {"model_arguments": dict(arguments)}
        told["vocabulary"] = dict(vocabulary)
        told["versions"] = dict(versions or {})
        if self.pretrained_file is not None:
            told["pretrained"] = pool.add(self.pretrained_file)
        return dataclasses.replace(self, values={**self.values, **told})

    def manifest(self, layout: Layout, founder: bytes = b"") -> Manifest:
        """The manifest of the swarm, once the trainer has told the layout."""
        try:
            manifest = Manifest(
                **suited(self.values),  # type: ignore[arg-type]
                layout=layout,
                founder=founder.hex(),
            )
            begins = initial_layout(manifest.trained_by, layout)
            manifest = dataclasses.replace(manifest, layout=begins)
        except ConfigError as error:
            raise ConfigError(f"{self.source}: {error}", hint=error.hint) from None
        return manifest

    def differs_from(self, manifest: Manifest) -> str | None:
        """The first stated key that this manifest contradicts, or None."""
        for key in sorted(self.values):
            stated, found = self.values[key], getattr(manifest, key)
            if key in COMPLETED:
                found = {inner: found.get(inner) for inner in stated}  # type: ignore[attr-defined]
            if stated != found:
                return key
        file = self.pretrained_file
        # A file that has gone since then contradicts nothing.
        if (
            file is not None
            and file.exists()
            and file_hash(file) != manifest.pretrained
        ):
            return PRETRAINED
        return None

    def beside(self, directory: Path) -> SwarmSettings:
        """The same; a relative path starts at this directory."""
        if self.pretrained_file is None:
            return self
        file = directory / self.pretrained_file.expanduser()
        return dataclasses.replace(self, pretrained_file=file)


def read_swarm(table: Table, source: str) -> SwarmSettings:
    """The settings in a ``[swarm]`` table; ``ConfigError`` names the key."""
    hints = get_type_hints(Manifest)
    known = [f for f in fields(Manifest) if f.name not in FOLLOWS]
    place = Place(source, "swarm")
    reject_unknown(table, [*(f.name for f in known), PRESET], place)
    for f in known:
        required = f.default is MISSING and f.default_factory is MISSING
        if required and f.name not in table:
            raise ConfigError(
                f"{source}: [swarm] lacks the key {f.name!r}",
                hint="a founder names at least the swarm and the model",
            )
    values = {
        key: typed(hints[key], table[key], place, key) for key in table if key != PRESET
    }
    if PRESET in table:
        try:
            values = expanded(table[PRESET], values)
        except ConfigError as error:
            raise ConfigError(f"{source}: [swarm] {error}", hint=error.hint) from None
    begins = str(values.get(PRETRAINED, ""))
    file = None
    if begins and not is_hash(begins):
        file = Path(str(values.pop(PRETRAINED)))
    settings = SwarmSettings(values=values, source=source, pretrained_file=file)
    settings.manifest(Layout((), ()))  # checks all values; the layout comes later
    return settings
