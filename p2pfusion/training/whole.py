"""Whole models, as they are assembled and exported: built, and evaluated."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from torch import nn

from p2pfusion.errors import VerificationError
from p2pfusion.split.segment import Split
from p2pfusion.store.beside import KEY
from p2pfusion.store.files import clear_errors
from p2pfusion.training import submodel
from p2pfusion.training.data import NO_CODING, Coding, DataOptions, Records, load
from p2pfusion.training.devices import find_device
from p2pfusion.training.loop import Evaluation, evaluate
from p2pfusion.training.models import check_fit, find_model
from p2pfusion.training.probe import linear_probe
from p2pfusion.training.tracing import Trace
from p2pfusion.training.tracing.rest import Rest


@dataclass(frozen=True)
class FullEvaluation:
    """The whole model on data nobody trained on, unless ``held_out`` is False."""

    result: Evaluation
    chance_accuracy: float
    """The accuracy of always answering the commonest class."""
    chance_perplexity: float | None
    """Of running text, the perplexity of who only knows how often each token occurs."""
    held_out: bool


def whole_module(
    name: str, arguments: Mapping[str, object], values: Mapping[str, np.ndarray]
) -> nn.Module:
    """The whole model with these values, by parameter name; ``VerificationError`` if
    one is missing or has another shape."""
    model = find_model(name)
    layout = model.layout(arguments)
    for parameter in layout.parameters:
        found = values.get(parameter.name)
        if found is not None and not found.shape and parameter.shape == (1,):
            continue  # a traced model's parameter without dimensions
        if found is None or found.shape != parameter.shape:
            raise VerificationError(
                f"the checkpoint has no parameter {parameter.name} of shape "
                f"{parameter.shape}",
                hint="it belongs to another model or to other model arguments",
            )
    module = submodel.build(model, arguments, layout, Split.full(layout))
    submodel.load(module, (values[p.name] for p in layout.parameters))
    return module


def state_names(name: str, arguments: Mapping[str, object]) -> dict[str, object]:
    """What the state dictionary of a traced model has beside its layout."""
    trace = getattr(find_model(name), "trace", None)
    if trace is None:
        return {"tied": {}, "buffers": []}
    rest: Rest = trace(arguments).rest
    return {"tied": dict(rest.tied), "buffers": sorted(rest.buffers)}


def save_beside(name: str, arguments: Mapping[str, object], path: Path) -> None:
    """Keeps the same with its values, for whoever writes the whole model
    (``store/beside.py``)."""
    trace = getattr(find_model(name), "trace", None)
    if trace is None:  # a model of the table has nothing else
        path.unlink(missing_ok=True)
        return
    found: Trace = trace(arguments)
    told = {"tied": dict(found.rest.tied), "scalars": sorted(found.scalars)}
    temporary = path.with_suffix(".tmp")
    with clear_errors(path):
        save_file(dict(found.rest.buffers), temporary, {KEY: json.dumps(told)})
        temporary.replace(path)


def evaluate_full(
    name: str,
    arguments: Mapping[str, object],
    values: Mapping[str, np.ndarray],
    records: Records,
    *,
    device: str = "cpu",
    held_out: bool = True,
    labelled: Records | None = None,
) -> FullEvaluation:
    """The whole model with these values, by parameter name, on these records.

    ``labelled``: records to fit a linear classifier to, in place of the model's own.
    """
    check_fit(find_model(name), arguments, records.traits)
    module = whole_module(name, arguments, values)
    target = find_device(device)
    if labelled is None:
        result = evaluate(module.to(target), records, target)
    else:
        result = linear_probe(module, labelled, records, target)
    counts = records.answer_counts(records.traits.classes)
    shares = counts[counts > 0] / counts.sum()
    surprise = float(-(shares * np.log(shares)).sum())
    return FullEvaluation(
        result,
        chance_accuracy=float(shares.max()),
        chance_perplexity=None if result.perplexity is None else math.exp(surprise),
        held_out=held_out,
    )


def evaluation_records(
    data: DataOptions,
    coding: Coding = NO_CODING,
) -> tuple[Records, bool]:
    """The records to evaluate on, and whether they are held out.

    A file without a test part is evaluated whole; the result says so.
    """
    found = load(data, "test", coding)
    if found is not None:
        return found, True
    records = load(data, "train", coding)
    assert records is not None, "every loader has a training part"
    return records, False
