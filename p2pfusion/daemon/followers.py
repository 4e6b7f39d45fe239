"""Whoever asked for the events: told at once, or as they happen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfusion.daemon.arguments import number
from p2pfusion.daemon.control import Request
from p2pfusion.limits import MAX_EVENTS_IN_MEMORY

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node


@dataclass
class Follower:
    """A client that wants to hear everything after an event."""

    request: Request
    heard: int


class Followers:
    """The clients that follow the events."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._followers: list[Follower] = []

    def take(self, request: Request) -> None:
        """Answers with the newest events, or begins to tell them one by one."""
        chronicle = self._node.chronicle
        since = int(number(request.arguments, "since", 0.0))
        count = int(number(request.arguments, "count", MAX_EVENTS_IN_MEMORY))
        events = chronicle.since(since, max(0, count)) if count > 0 else []
        if request.arguments.get("follow") is not True:
            request.reply({"events": events, "newest": chronicle.newest})
            return
        for event in events:
            request.progress(event)
        self._followers.append(Follower(request, chronicle.newest))

    def tell(self) -> None:
        """Tells everybody what is new."""
        chronicle = self._node.chronicle
        self._followers = [f for f in self._followers if not f.request.closed]
        for follower in self._followers:
            if follower.heard < chronicle.newest:
                for event in chronicle.since(follower.heard):
                    follower.request.progress(event)
                follower.heard = chronicle.newest

    def end(self) -> None:
        """The daemon ends, and so does the story."""
        self.tell()
        for follower in self._followers:
            follower.request.reply({"newest": follower.heard})
        self._followers.clear()
