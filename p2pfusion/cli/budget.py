"""How much of a model fits into so much memory, and why not more: split show --memory.

A trainer process tells, with the swarm's settings and some data; nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from p2pfusion.cli.datasets import named_data
from p2pfusion.cli.output import Data
from p2pfusion.cli.text import size, table
from p2pfusion.cli.trainer import ask_in_turn
from p2pfusion.daemon.budget import Candidate, candidates
from p2pfusion.daemon.config import DataSettings, PeerSettings
from p2pfusion.daemon.memory import parse_size
from p2pfusion.daemon.trainer_requests import setup_request
from p2pfusion.protocol.manifest import Manifest

PARTS = {
    "process": "program, libraries and data",
    "parameters": "of the sub-model",
    "states": "gradients, the optimiser's, and what the round began with",
    "activations": "what grows with the batch",
}
"""What takes a trainer's memory, in words."""


@dataclass(frozen=True)
class Budget:
    """What the command line says of memory, and of what is trained in it."""

    memory_bytes: int | None
    """None: nobody asks."""
    settings: DataSettings
    batch: int

    @classmethod
    def of(cls, memory: str | None, data: str | None, batch: int | None) -> Budget:
        """From the options; a usage error where they mean nothing."""
        if memory is None and (data is not None or batch is not None):
            name = "--batch" if data is None else "--data"
            raise click.BadOptionUsage(name, f"Option '{name}' works with --memory")
        memory_bytes = None if memory is None else parse_size(memory)
        if memory is not None and not memory_bytes:
            raise click.BadParameter(
                f"{memory!r} is not a size: write 2GiB or 800MB", param_hint="--memory"
            )
        return cls(memory_bytes, named_data(data or "digits"), batch or Manifest.batch)

    @property
    def data(self) -> Data | None:
        """The data that the model shall suit, if memory is asked about."""
        return None if self.memory_bytes is None else self.settings.to_data()

    def explain(self, manifest: Manifest) -> Data | None:
        """What fits, and why not more; None if nobody asks."""
        if self.memory_bytes is None:
            return None
        # Who asks has named the code, or runs it in the daemon already.
        code = PeerSettings(models=(manifest.model,), objectives=(manifest.objective,))
        return fitting(manifest, code, self.settings, self.memory_bytes)


def fitting(
    manifest: Manifest,
    peer: PeerSettings,
    data: DataSettings,
    memory_bytes: int,
    options: Sequence[Candidate] = (),
) -> Data:
    """The largest split fraction that so much memory suffices for, what it takes, and
    what the next larger one would. ``options``: fractions, ascending; none: all."""
    options = options or candidates(manifest)
    answer = ask_in_turn(
        [
            setup_request(manifest, peer, data),
            {
                "do": "fit",
                "splits": [each.split.to_data() for each in options],
                "memory": memory_bytes,
            },
        ]
    )
    chosen, predicted = answer["chosen"], answer["predicted"]
    assert isinstance(chosen, int) and isinstance(predicted, dict)
    found = _row(options[chosen], predicted.get(str(chosen)))
    following = chosen + 1
    return {
        **found,
        "memory_bytes": memory_bytes,
        "next": None
        if following == len(options)
        else _row(options[following], predicted.get(str(following))),
    }


def _row(option: Candidate, predicted: Mapping[str, int] | None) -> Data:
    """Of what cannot even be built, nothing is predicted."""
    parts = None if predicted is None else {f"{k}_bytes": predicted[k] for k in PARTS}
    return {
        "split_fraction": str(option.fraction),
        "parts": parts,
        "peak_bytes": None if predicted is None else sum(predicted.values()),
    }


def memory_text(found: Mapping[str, object], width: int) -> str:
    """What fits, by what takes it, and why not more."""
    memory, peak = _whole(found["memory_bytes"]), _whole(found["peak_bytes"])
    parts, following = found["parts"], found["next"]
    assert isinstance(parts, Mapping)
    verdict = "suffices for" if peak <= memory else "does not suffice even for"
    lines = [
        f"Memory    {size(memory)} {verdict} {found['split_fraction']} of the model: "
        f"the trainer's peak is {size(peak)}",
        table(
            ("PART", "SIZE", "IS"),
            [[k, size(parts[f"{k}_bytes"]), text] for k, text in PARTS.items()],
            width,
        ),
    ]
    if isinstance(following, Mapping):
        more, fraction = following["peak_bytes"], following["split_fraction"]
        lines.append(
            f"{fraction} would take {size(more)}, {size(more - memory)} too much"
            if isinstance(more, int)
            else f"{fraction} does not fit: its parameters and gradients alone are "
            "too large"
        )
    return "\n".join(lines)


def _whole(value: object) -> int:
    assert isinstance(value, int)
    return value
