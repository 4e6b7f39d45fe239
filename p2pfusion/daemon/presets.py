"""Presets: a name for many of the ``[swarm]`` section's keys at once.

A preset is written out when a profile or the command line is read, so a manifest states
every value and knows no preset. What is stated beside one must not contradict it:
whoever wants some of it differently writes out the rest.

``paper`` is MSfusion as ``docs/methods.md`` reconstructs it from what is known of the
paper: tied windows that move every round, an overlap that grows to the largest that
still covers every axis, the contrastive term, label masks; and nothing of ours: no
silent start, no adjusted logits, no outer momentum.

Some values suit one method and not the others. They are the defaults of a swarm that is
founded with it, and of an experiment, but of no manifest: whoever reads one finds all.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pfusion.errors import ConfigError
from p2pfusion.protocol.manifest import Manifest

Values = Mapping[str, object]

PRESETS: dict[str, Values] = {
    "paper": {
        "method": "msfusion",
        "method_arguments": {
            "shift": "tied",
            "start": "dense",
            "dwell": 1,
            "step": "half",
            "overlap": "cosine min(0.25,full) full",
        },
        "objective": "contrastive",
        "objective_arguments": {"weight": 1.0, "temperature": 0.5, "previous": 1},
        "label_mask": True,
        "logit_adjustment": 0.0,
        "outer_momentum": 0.0,
    },
}

SUGGESTED: dict[str, Values] = {"paper": {"model_arguments": {"projection": 64}}}
"""What a preset adds where nothing else is stated: it depends on the model's size."""


HIDDEN: Values = {"max_staleness": 0}
"""What suits secure aggregation, in the same way."""

BY_METHOD: dict[str, Values] = {"msfusion": {"outer_momentum": 0.6}}
"""What suits a method, where neither the founder nor a preset states anything."""


def suited(stated: Values) -> dict[str, object]:
    """The stated values, and beside them what suits their method and other keys."""
    method = stated.get("method", Manifest.method)
    is_hidden = (stated.get("secure_aggregation") or "off") != "off"
    hidden = HIDDEN if is_hidden else {}
    unstated = {key: v for key, v in hidden.items() if stated.get(key) is None}
    return {**BY_METHOD.get(str(method), {}), **stated, **unstated}


def expanded(name: object, stated: Values) -> dict[str, object]:
    """The stated values and the preset's; ``ConfigError`` names what contradicts it."""
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(
            f"preset {name!r} is unknown", hint=f"known presets: {', '.join(PRESETS)}"
        )
    values = dict(stated)
    for key, value in PRESETS[name].items():
        if isinstance(value, Mapping):
            inner = _table(values.get(key, {}), key)
            for argument, wanted in value.items():
                _agree(name, f"{key}.{argument}", inner.get(argument, wanted), wanted)
            for argument in inner:
                if argument not in value:
                    raise _contradiction(name, f"no {key}.{argument}", inner[argument])
            values[key] = dict(value)
        else:
            _agree(name, key, values.get(key, value), value)
            values[key] = value
    for key, value in SUGGESTED[name].items():
        assert isinstance(value, Mapping)
        values[key] = {**value, **_table(values.get(key, {}), key)}
    return values


def _table(value: object, key: str) -> Values:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} is {value!r}: it must be a table")
    return value


def _agree(name: str, key: str, stated: object, wanted: object) -> None:
    if stated != wanted or isinstance(stated, bool) != isinstance(wanted, bool):
        raise _contradiction(name, f"{key} = {wanted!r}", stated)


def _contradiction(name: str, has: str, stated: object) -> ConfigError:
    return ConfigError(
        f"preset {name!r} has {has}, and {stated!r} is asked for",
        hint="leave that out, or leave out the preset and write out the rest of it",
    )
