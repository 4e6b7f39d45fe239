"""LW-FedSSL: one layer after the other; what is below the new ones is frozen.

Source: Tun et al., arXiv 2401.11647, version 4, algorithm 1. It is Prog-FedSSL that
leaves alone what earlier stages have trained: the input layer is trained with the first
stage, the head in every one. Frozen layers are held, because activations pass through
them, and never sent: only who was not there when they were trained gets them, from
their homes.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pfusion.methods.prog_fedssl import ProgFedSSL
from p2pfusion.methods.stages import Stage


@dataclass(frozen=True)
class LwFedSSL(ProgFedSSL):
    """The stage's own blocks and the head."""

    def _frozen(self, stage: Stage, layers: tuple[int, ...]) -> tuple[int, ...]:
        return layers[: stage.first] if stage.first > 1 else ()
