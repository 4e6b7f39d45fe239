"""What a founder's manifest says of its model, out of a name and some data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from p2pfusion.split.layout import Layout
from p2pfusion.training.data import Coding, DataOptions, check_share, load
from p2pfusion.training.models import check_fit, find_model, held, is_deep, settle
from p2pfusion.training.objectives import check_name
from p2pfusion.training.outside import MODEL, OBJECTIVE, Kind, code_versions


@dataclass(frozen=True)
class Description:
    """What a founder's manifest says of the model: all arguments, the layout, and, for
    text, the vocabulary."""

    arguments: dict[str, object]
    layout: Layout
    vocabulary: dict[str, object]
    is_deep: bool
    """Whether methods can leave out layers of the model."""
    held: list[str]
    """What of a traced model is whole in every sub-model, each with the reason."""
    versions: dict[str, str]
    """The packages from outside that model and objective are of, with versions."""


def describe(
    name: str,
    arguments: Mapping[str, object],
    data: DataOptions | None = None,
    vocabulary: Mapping[str, object] | None = None,
    *,
    objective: str = "task",
) -> Description:
    """What follows from a model's name and arguments, and from the founder's data.

    With data, arguments that are not given take the values that the data needs, and a
    vocabulary that is not given in full is made of the training text. ``DataError`` if
    the data does not suit the others, or has no share for this peer.
    """
    model = find_model(name)
    check_name(objective)
    suited: dict[str, object] = {}
    completed = dict(vocabulary or {})
    if data is not None:
        records = load(data, "train", coding_of(arguments, completed))
        assert records is not None, "every loader has a training part"
        check_share(records, data)
        suited = model.suited(records.traits)
        check_fit(model, {**suited, **arguments}, records.traits)
        if records.vocabulary is not None:
            completed |= records.vocabulary.to_data()
    settled = settle(model, {**suited, **arguments})
    return Description(
        settled,
        model.layout(settled),
        completed,
        is_deep(model),
        held(model, settled),
        code_versions(code_of(name, {"name": objective})),
    )


def code_of(model: str, objective: Mapping[str, object]) -> dict[Kind, str]:
    """What a swarm trains by, and may come from outside: names by their kind."""
    return {MODEL: model, OBJECTIVE: str(objective.get("name", "task"))}


def coding_of(
    arguments: Mapping[str, object], vocabulary: Mapping[str, object]
) -> Coding:
    """How text becomes records: as long as the model's arguments say, if they do."""
    return Coding.from_data(vocabulary, length=arguments.get("length"))
