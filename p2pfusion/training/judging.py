"""The answer to ``evaluate``: how good a whole model from a file is."""

from __future__ import annotations

import math
from pathlib import Path

from p2pfusion.store import read_checkpoint
from p2pfusion.training.data import DataOptions, load
from p2pfusion.training.description import coding_of
from p2pfusion.training.objectives import SELF_SUPERVISED
from p2pfusion.training.probe import PROBE_LABELS, initial_model
from p2pfusion.training.request import Fields, Request
from p2pfusion.training.whole import evaluate_full, evaluation_records


def judged(request: Request) -> Fields:
    """An assembled model, from a safetensors file, on the test part of the data.

    After a self-supervised ``objective`` a linear probe stands in for the model's
    classifier. It is fitted with labels of the training part. Beside it is the same
    of initial values, of the swarm's ``seed`` where it is told; none are silent.
    """
    values, _ = read_checkpoint(Path(request.text("file")))
    model, arguments = request.text("model"), request.table("arguments")
    options = DataOptions.from_data(request.table("data"))
    coding = coding_of(arguments, request.table("vocabulary"))
    records, held_out = evaluation_records(options, coding)
    probed = request.fields.get("objective") in SELF_SUPERVISED
    labelled = load(options, "train", coding) if probed else None
    found = evaluate_full(
        model, arguments, values, records, held_out=held_out, labelled=labelled
    )
    beside: Fields = {}
    if labelled is not None:
        seed = request.whole("seed") if "seed" in request.fields else 0
        fresh = initial_model(model, arguments, seed)
        random = evaluate_full(model, arguments, fresh, records, labelled=labelled)
        beside = {
            "probe_labels": min(PROBE_LABELS, len(labelled)),
            "random_encoder_accuracy": random.result.accuracy,
        }
    return {
        **beside,
        "accuracy": found.result.accuracy,
        "loss": _finite(found.result.loss),
        "perplexity": _finite(found.result.perplexity),
        "samples": found.result.samples,
        "chance_accuracy": found.chance_accuracy,
        "chance_perplexity": found.chance_perplexity,
        "held_out": found.held_out,
    }


def _finite(value: float | None) -> float | None:
    # JSON has no name for what is not finite; unknown is null.
    return value if value is not None and math.isfinite(value) else None
