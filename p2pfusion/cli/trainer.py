"""Asking a trainer process of our own one thing, so that torch is never imported here.

Used by commands that need a model's layout, ask what training takes, or evaluate a
file. The process lives for one question, or a few, and is gone afterwards, whatever
happens.
"""

from __future__ import annotations

import selectors
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2pfusion.cli.output import Data
from p2pfusion.daemon.trainer_link import TrainerLink
from p2pfusion.errors import TrainerError, reported
from p2pfusion.split.layout import Layout

STOP_TIMEOUT_S = 2.0
TICK_S = 0.1
"""How often ``on_tick`` runs while the trainer works."""


@dataclass(frozen=True)
class Description:
    """A model's layout and all its arguments, and the vocabulary, if it is for text."""

    layout: Layout
    arguments: Data
    is_deep: bool
    """Whether methods can leave out layers of it."""
    held: tuple[str, ...]
    """What of it is whole in every sub-model, each with the reason."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Other names of parameters in the module's state dictionary."""
    buffers: frozenset[str] = frozenset()
    """Names of what is no parameter in it."""
    vocabulary: Data = field(default_factory=dict)


def describe(
    model: str,
    arguments: Mapping[str, object],
    data: Mapping[str, object] | None,
    vocabulary: Mapping[str, object] | None = None,
) -> Description:
    """What a trainer says of a model; with data, arguments that suit it."""
    question: Data = {"do": "describe", "model": model, "arguments": dict(arguments)}
    if data is not None:
        question["data"] = dict(data)
    question["vocabulary"] = dict(vocabulary or {})
    question["models"] = [model]  # who asks has named it
    answer = ask_trainer(question)
    held, tied, buffers = (answer.get(key) for key in ("held", "tied", "buffers"))
    found, told = answer.get("arguments"), answer.get("vocabulary")
    return Description(
        layout=Layout.from_data(answer.get("layout")),
        arguments=found if isinstance(found, dict) else dict(arguments),
        is_deep=answer.get("deep") is True,
        held=tuple(map(str, held)) if isinstance(held, list) else (),
        tied=tied if isinstance(tied, dict) else {},
        buffers=frozenset(map(str, buffers if isinstance(buffers, list) else ())),
        vocabulary=told if isinstance(told, dict) else {},
    )


def ask_trainer(
    question: Mapping[str, object], on_tick: Callable[[], None] = lambda: None
) -> Data:
    """The trainer's answer; raises the error that it names."""
    return ask_in_turn([question], on_tick)


def ask_in_turn(
    questions: Sequence[Mapping[str, object]],
    on_tick: Callable[[], None] = lambda: None,
) -> Data:
    """The answer to the last of several questions to one trainer; raises the error
    that it names."""
    with tempfile.TemporaryDirectory(prefix="p2pfusion-") as folder:
        link = TrainerLink(Path(folder) / "trainer.log")
        try:
            answers = [_answer(link, question, on_tick) for question in questions]
        finally:
            link.stop(STOP_TIMEOUT_S)
    return answers[-1]


def _answer(
    link: TrainerLink, question: Mapping[str, object], on_tick: Callable[[], None]
) -> Data:
    link.send(question)
    while True:
        _wait(link)
        on_tick()
        for message in link.ready():
            if message.get("done") == question["do"]:
                return message
            _raise_failure(message)


def _wait(link: TrainerLink) -> None:
    with selectors.DefaultSelector() as selector:
        for descriptor, events in link.descriptors().items():
            selector.register(descriptor, events)
        selector.select(TICK_S)


def _raise_failure(message: Data) -> None:
    if "died" in message:
        log = message.get("log")
        words = " | ".join(map(str, log[-3:])) if isinstance(log, list) else ""
        raise TrainerError(
            f"the trainer process died ({message['died']})",
            hint=f"its last words: {words}" if words else "is torch installed?",
        )
    error = message.get("error")
    if "failed" in message and isinstance(error, dict):
        raise reported(error)
