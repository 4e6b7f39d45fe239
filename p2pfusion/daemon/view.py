"""Everything that the web page shows, in one answer; what is past, in instalments.

The page says up to which round and event it knows the story, and is told at most
``AT_ONCE`` further ones: a full instalment says that there may be more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from p2pfusion.daemon.arguments import number
from p2pfusion.daemon.members import member_rows
from p2pfusion.daemon.windows import axes_told
from p2pfusion.limits import ROUND_HISTORY

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node

Data = dict[str, object]

AT_ONCE = 50
"""Rounds and windows in one answer, so that no answer takes the loop long."""

EVENTS_AT_ONCE = 200
"""The newest events: an answer that leaves out older ones leaves them out for good."""


def view(node: Node, status: Data, arguments: Mapping[str, object]) -> Data:
    """The answer, after the round, windows and event that the arguments name."""
    round_, window, event = (
        int(number(arguments, key, -1.0)) for key in ("round", "window", "event")
    )
    history, manifest = node.history, node.peer.manifest
    # What is told once is whole: a round whose accuracy is to come comes with it.
    due = history.measured_now
    known = history.rounds(ROUND_HISTORY)
    rounds = [
        r for r in known if round_ < _number(r) and (due is None or _number(r) < due)
    ]
    return {
        "status": status,
        "peers": member_rows(node),
        "axes": axes_told(manifest.layout) if manifest else [],
        "rounds": rounds[:AT_ONCE],
        "windows": history.windows.after(window, AT_ONCE),
        "events": node.chronicle.since(event, EVENTS_AT_ONCE),
        "at_once": AT_ONCE,
    }


def _number(row: Data) -> int:
    found = row["number"]
    assert isinstance(found, int)
    return found
