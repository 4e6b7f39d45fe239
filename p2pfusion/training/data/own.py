"""Data of one's own: a function that gives records, as for any torch program.

``package.module:function`` is called with those of ``part`` (``train`` or ``test``) and
``path`` (of ``[data]``, or None) that it has parameters for. A function that does not
ask for the part has no test part. What it may return:

    (images, labels)    arrays or tensors, or a sequence of images of one shape
    (texts, labels)     a list of texts with a label each
    text, or [text, …]  running text: one document, or several
    a data set          with a length and items ``(image, label)``, as torch's are
    records             of the contract in ``records.py``
    None                there is no such part

Pixels of one byte are mapped to -1 ... 1, floating-point ones are used as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from torch import Tensor

from p2pfusion.errors import ConfigError, DataError
from p2pfusion.training.data.examples import examples
from p2pfusion.training.data.language import running_text
from p2pfusion.training.data.records import Records
from p2pfusion.training.data.texts import texts
from p2pfusion.training.data.vocabulary import Coding
from p2pfusion.training.outside import (
    DATA,
    allow,
    find_own,
    foreign_code,
    lacking,
    parameters,
)

RETURNS = "return (images, labels), (texts, labels), texts, or a data set of pairs"


def load_own(name: str, path: str | None, part: str, coding: Coding) -> Records | None:
    """The records that a function gives; ``ConfigError`` or ``DataError`` says in one
    line why it gives none."""
    allow(DATA, [name])  # it can only come from this machine's own profile
    function = find_own(DATA, name)
    known = parameters(DATA, name, function)
    told = {"part": part, "path": path}
    missing = lacking(known, told)
    if missing is not None:
        raise ConfigError(
            f"data {name!r}: its parameter {missing!r} has no default",
            hint="it can be told part and path, and nothing else",
        )
    if part == "test" and "part" not in known:
        return None
    where = f"data {name!r}"
    with foreign_code(where, DataError):
        found = function(**{key: told[key] for key in told if key in known})
    return records_of(found, where, coding)


def records_of(found: object, where: str, coding: Coding) -> Records | None:
    """What was returned, as records; ``DataError`` names ``where``, record and
    reason."""
    if found is None:
        return None
    if hasattr(found, "traits"):
        return cast(Records, found)
    if isinstance(found, str):
        return _running([found], where, coding)
    if isinstance(found, tuple) and len(found) == 2:
        return _labelled(*found, where, coding)
    if not hasattr(found, "__len__") or not hasattr(found, "__getitem__"):
        raise DataError(f"{where} gives {type(found).__name__}", hint=RETURNS)
    items = cast(Sequence[object], found)
    if len(items) and all(isinstance(each, str) for each in items):
        return _running(cast(Sequence[str], items), where, coding)
    return _labelled(*_pairs(items, where), where, coding)


def _running(documents: Sequence[str], where: str, coding: Coding) -> Records:
    found = running_text(documents, coding)
    if found is None:
        raise DataError(
            f"{where}: there are not two tokens to learn from",
            hint="running text needs a token and one that follows it",
        )
    return found


def _pairs(items: Sequence[object], where: str) -> tuple[list[object], list[object]]:
    """A data set as two lists."""
    inputs, labels = [], []
    for record in range(len(items)):
        item = items[record]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise DataError(
                f"{where}: record {record} is no pair of an image and a label",
                hint=RETURNS,
            )
        inputs.append(item[0])
        labels.append(item[1])
    return inputs, labels


def _labelled(inputs: object, labels: object, where: str, coding: Coding) -> Records:
    classes = _labels(labels, where)
    listed = isinstance(inputs, (list, tuple))
    if listed and inputs and all(isinstance(each, str) for each in inputs):  # type: ignore[attr-defined]
        written = cast(Sequence[str], inputs)
        if len(written) != len(classes):
            raise DataError(f"{where}: {len(written)} texts but {len(classes)} labels")
        checked = examples(np.zeros((len(classes), 1), np.uint8), classes, where)
        return texts(written, checked.labels.tolist(), coding, "word")
    return examples(_images(inputs, where), classes, where)


def _labels(labels: object, where: str) -> np.ndarray:
    try:
        return _array(labels)
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: its labels are no array", hint="one whole number per record"
        ) from None


def _images(inputs: object, where: str) -> np.ndarray:
    """All images in one array; those of a sequence must have one shape."""
    if not isinstance(inputs, (list, tuple)):
        return _array(inputs)
    images = [_array(each) for each in inputs]
    for record, image in enumerate(images):
        if image.shape != images[0].shape:
            raise DataError(
                f"{where}: the image of record {record} has the shape {image.shape}, "
                f"and that of record 0 {images[0].shape}",
                hint="resize or crop them to one shape",
            )
    return np.stack(images) if images else np.zeros((0, 1), np.uint8)


def _array(values: object) -> np.ndarray:
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(values)
