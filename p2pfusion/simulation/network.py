"""What happens to messages on their way: latency, bandwidth, loss, cuts, clogs.

Between two machines there is a link for each direction and plane, as there is a
connection. Nothing overtakes on it unless that is asked for. Bytes queue at the
bandwidth. A *cut* link loses what is sent; a *clogged* one holds everything back until
it is unclogged; a *broken* one loses what is on the way, as a connection does that is
reset. Chance is one seeded generator, asked in the order of events.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, TypeVar

CALM_LATENCY_S = 0.005
CALM_JITTER_S = 0.002

Content = TypeVar("Content")


@dataclass(frozen=True)
class Conditions:
    """How a link behaves."""

    latency_s: float = CALM_LATENCY_S
    jitter_s: float = CALM_JITTER_S
    """Up to so much is added, anew for each message."""
    bytes_per_s: float = 0.0
    """0 for as many as there are."""
    loss: float = 0.0
    """Share of messages that never arrive."""
    duplicates: float = 0.0
    """Share of messages that arrive twice."""
    in_order: bool = True
    """Nothing overtakes, as on a connection."""

    @cached_property
    def is_calm(self) -> bool:
        """Whether every message arrives once, in order, without queueing."""
        return self.in_order and not (self.loss or self.duplicates or self.bytes_per_s)


class Link(Generic[Content]):
    """One direction and plane between two machines; it carries ``Content``."""

    __slots__ = (
        *("clogged", "conditions", "cut", "free_at", "generation", "held"),
        *("last_arrival", "_random"),
    )

    def __init__(self, conditions: Conditions, chance: random.Random) -> None:
        self.conditions = conditions
        self.cut = False
        self.clogged = False
        self.generation = 0
        """Messages of an earlier one are lost."""
        self.held: list[Content] = []
        """What has come as far as the clog, or the dead machine, in order."""
        self.free_at = 0.0
        self.last_arrival = 0.0
        self._random = chance.random

    def arrival(self, sent_at: float) -> float:
        """When a message arrives on a calm link."""
        conditions = self.conditions
        arrival = sent_at + conditions.latency_s
        if conditions.jitter_s:
            arrival += conditions.jitter_s * self._random()
        if arrival < self.last_arrival:
            return self.last_arrival
        self.last_arrival = arrival
        return arrival

    def arrivals(self, sent_at: float, size_bytes: int) -> tuple[float, ...]:
        """When the copies of a message arrive; none: it is lost."""
        if self.conditions.is_calm:
            return (self.arrival(sent_at),)
        return tuple(self._rough(sent_at, size_bytes))

    def _rough(self, sent_at: float, size_bytes: int) -> Iterator[float]:
        conditions = self.conditions
        arrival = sent_at + conditions.latency_s
        if conditions.jitter_s:
            arrival += conditions.jitter_s * self._random()
        if conditions.bytes_per_s:
            begin = max(sent_at, self.free_at)
            self.free_at = begin + self.takes_s(size_bytes)
            arrival += self.free_at - sent_at
        for _ in range(1 + (self._random() < conditions.duplicates)):
            if self._random() < conditions.loss:
                continue
            if conditions.in_order:
                self.last_arrival = max(self.last_arrival, arrival)
                yield self.last_arrival
            else:
                yield arrival
            arrival += conditions.jitter_s * self._random()

    def takes_s(self, size_bytes: int) -> float:
        """How long so many bytes take to pass, by themselves."""
        rate = self.conditions.bytes_per_s
        return size_bytes / rate if rate else 0.0

    def release(self) -> list[Content]:
        """Takes out what was held."""
        held, self.held = self.held, []
        return held


class Network(Generic[Content]):
    """All links, made when something first goes over them."""

    def __init__(self, chance: random.Random, conditions: Conditions) -> None:
        self.conditions = conditions
        self._chance = chance
        self.links: dict[tuple[str, str, bool], Link[Content]] = {}
        """By their ends, and whether they are of the data plane."""
        self._cut: set[tuple[str, str]] = set()
        self._clogged: set[tuple[str, str]] = set()
        self._special: dict[tuple[str, str], Conditions] = {}

    def link(self, source: str, target: str, *, on_data: bool) -> Link[Content]:
        """The link from one machine to another on a plane."""
        key = (source, target, on_data)
        link = self.links.get(key)
        if link is None:
            ends = (source, target)
            conditions = self._special.get(ends, self.conditions)
            link = self.links[key] = Link(conditions, self._chance)
            link.cut, link.clogged = ends in self._cut, ends in self._clogged
        return link

    def between(
        self, sources: Iterable[str], targets: Iterable[str]
    ) -> Iterator[Link[Content]]:
        """The links that there are from some machines to some others."""
        targets = list(targets)
        for source in sources:
            for target in targets:
                for on_data in (False, True):
                    link = self.links.get((source, target, on_data))
                    if link is not None:
                        yield link

    def is_open(self, source: str, target: str) -> bool:
        """Whether something that is sent from one to the other can arrive."""
        pair = (source, target)
        return pair not in self._cut and pair not in self._clogged

    def into(self, target: str) -> Iterator[Link[Content]]:
        """The links that lead to a machine."""
        return (link for (_, to, _), link in self.links.items() if to == target)

    def change(self, pairs: Iterable[tuple[str, str]], **changes: object) -> None:
        """Other conditions on the links of these pairs, those to come included."""
        for source, target in pairs:
            before = self._special.get((source, target), self.conditions)
            after = replace(before, **changes)  # type: ignore[arg-type]
            self._special[source, target] = after
            for link in self.between([source], [target]):
                link.conditions = after

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """From now on these links lose everything, also what is on the way."""
        for source, target in pairs:
            self._cut.add((source, target))
            for link in self.between([source], [target]):
                link.cut = True
                link.generation += 1

    def break_(self, pairs: Iterable[tuple[str, str]]) -> None:
        """What is on the way on these links is lost."""
        for source, target in pairs:
            for link in self.between([source], [target]):
                link.generation += 1

    def clog(self, pairs: Iterable[tuple[str, str]]) -> None:
        """From now on these links hold everything back."""
        for source, target in pairs:
            self._clogged.add((source, target))
            for link in self.between([source], [target]):
                link.clogged = True

    def unclog(self, pairs: Iterable[tuple[str, str]]) -> list[Link[Content]]:
        """These links flow again; gives those that hold something."""
        flowing: list[Link[Content]] = []
        for source, target in pairs:
            self._clogged.discard((source, target))
            for link in self.between([source], [target]):
                link.clogged = False
                flowing += [link] if link.held else []
        return flowing

    def heal(self) -> list[Link[Content]]:
        """All links are as at the beginning; gives those that hold something."""
        clogged = sorted(self._clogged)
        self._cut.clear()
        self._special.clear()
        for link in self.links.values():
            link.cut = False
            link.conditions = self.conditions
        return self.unclog(clogged)
