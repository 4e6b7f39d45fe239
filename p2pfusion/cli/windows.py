"""The screen of ``split show``. Pure: the report in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2pfusion.cli.budget import memory_text
from p2pfusion.cli.fields import rows
from p2pfusion.cli.text import coloured, percent, plural, size, table
from p2pfusion.split.layout import GATE

MAX_PEER_COLUMNS = 6
"""Peers whose windows stand side by side; ``--peer`` shows any other."""


def split_screen(data: Mapping[str, object], width: int) -> str:
    """Costs per peer, windows per axis, coverage, and what is wrong with it."""
    peers, axes = rows(data, "peers"), rows(data, "axes")
    parts = [
        f"{data['method']} on {data['model']}, {plural(len(peers), 'peer')}, "
        f"round {data['round']} of {data['rounds']} (counted from 0), "
        f"seed {data['seed']}",
        _costs(peers, _whole(data, "full_model_parameters"), width),
        _windows(peers, axes, width),
        f"Coverage  {percent(_real(data, 'coverage'))} of the parameters this round, "
        f"held by {_real(data, 'holders_mean'):.1f} peers on average\n"
        f"Trained   {percent(_real(data, 'ever_trained_fraction'))} of the parameters "
        f"after this round, {percent(_real(data, 'ever_trained_fraction_at_end'))} "
        "after the last",
    ]
    if isinstance(data.get("memory"), Mapping):
        parts.append(memory_text(data["memory"], width))  # type: ignore[arg-type]
    warnings = data["warnings"]
    assert isinstance(warnings, list)
    if warnings:
        parts.append("\n".join(f"{coloured('warn', 'warn')}  {w}" for w in warnings))
    if data.get("held"):
        parts.append("\n".join(f"whole  {each}" for each in data["held"]))  # type: ignore[attr-defined]
    if "plot" in data:
        parts.append(f"Wrote {data['plot']}")
    return "\n\n".join(parts)


def _costs(peers: Sequence[Mapping[str, object]], full: int, width: int) -> str:
    head = ("PEER", "FRACTION", "PARAMETERS", "OF ALL", "SIZE", "SENT", "RECEIVED")
    return table(
        head,
        [
            [
                str(peer["name"]),
                f"{_real(peer, 'split_fraction'):g}",
                f"{_whole(peer, 'parameters'):,}",
                percent(_whole(peer, "parameters") / max(full, 1)),
                size(_whole(peer, "sub_model_bytes")),
                size(_whole(peer, "sent_bytes")),
                size(_whole(peer, "received_bytes")),
            ]
            for peer in peers
        ],
        width,
    )


def _windows(
    peers: Sequence[Mapping[str, object]],
    axes: Sequence[Mapping[str, object]],
    width: int,
) -> str:
    shown = peers[:MAX_PEER_COLUMNS]
    head = ("AXIS", "SIZE", "COVERED", *(str(peer["name"]) for peer in shown))
    lines = table(
        head,
        [
            [
                str(axis["name"]),
                str(axis["size"]),
                percent(_real(axis, "covered")),
                *(_spans(peer, str(axis["name"])) for peer in shown),
            ]
            for axis in axes
        ],
        width,
    )
    hidden = len(peers) - len(shown)
    return lines + (f"\n({hidden} more peers: see --peer)" if hidden else "")


def _spans(peer: Mapping[str, object], axis: str) -> str:
    windows, frozen = peer["windows"], peer["frozen"]
    assert isinstance(windows, Mapping) and isinstance(frozen, list)
    if axis.startswith(GATE):
        there = "frozen" if axis in frozen else "trained"
        return there if windows[axis] else "-"
    return " ".join(f"{start}-{stop - 1}" for start, stop in windows[axis])


def _real(data: Mapping[str, object], key: str) -> float:
    value = data[key]
    assert isinstance(value, (int, float))
    return float(value)


def _whole(data: Mapping[str, object], key: str) -> int:
    value = data[key]
    assert isinstance(value, int)
    return value
