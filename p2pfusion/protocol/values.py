"""Values of which several are made with every message, or every stream.

They are frozen dataclasses like all others, but for assignment to a field it is the
type checker alone that forbids it: a class that forbids it at run time has to set each
field by a call, and so its values take five times as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

Kind = TypeVar("Kind")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(kind: type[Kind]) -> type[Kind]:
    """A class of values: equal if their fields are, good as keys, with no other
    attributes."""
    return dataclass(unsafe_hash=True, slots=True)(kind)
