"""The set algebra of splits: who has which rectangle of which parameter.

Plans, homes and coverage need numpy and are imported from their own modules.
"""

from p2pfusion.split.atoms import Atom, refine
from p2pfusion.split.indices import IndexSet, Span
from p2pfusion.split.layout import (
    Axis,
    Dimension,
    Initial,
    Layout,
    ParameterSpec,
    Signature,
)
from p2pfusion.split.segment import Segment, Split, overlap

__all__ = [
    "Atom",
    "Axis",
    "Dimension",
    "IndexSet",
    "Initial",
    "Layout",
    "ParameterSpec",
    "Segment",
    "Signature",
    "Span",
    "Split",
    "overlap",
    "refine",
]
