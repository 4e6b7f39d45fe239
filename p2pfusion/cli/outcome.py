"""How the demo's result reads: what came out, and what it is worth. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from p2pfusion.cli.text import duration, percent, size


def result_text(result: Mapping[str, object]) -> str:
    """The result in a few lines, each number beside what it compares with."""
    sub, full = (
        _real(result, f"{which}_model_parameters") for which in ("sub", "full")
    )
    sent, whole = _real(result, "bytes_sent"), _real(result, "bytes_full_exchange")
    kept = "held-out examples" if result["held_out"] else "examples, NOT held out"
    killed, missed = result["killed_peers"], result["contributions_missed"]
    assert isinstance(killed, list)
    lines = [
        f"Accuracy    {percent(_real(result, 'accuracy'))} on {result['samples']} "
        f"{kept}; guessing gives {percent(_real(result, 'chance_accuracy'))}",
        f"            {result['peers']} peers with unequal shares of {result['data']}, "
        f"{result['rounds']} rounds of {result['method']}",
    ]
    if "random_encoder_accuracy" in result:
        lines.append(
            f"            trained without labels; {result['probe_labels']} of them for "
            "a linear classifier on top, with which a random encoder has "
            f"{percent(_real(result, 'random_encoder_accuracy'))}"
        )
    if "pretrained_accuracy" in result:
        lines.append(
            "            began as a model that one peer had trained to "
            f"{percent(_real(result, 'pretrained_accuracy'))}: {result['pretrained']}"
        )
    if missed:
        lines.append(f"            {missed} contributions came too late or not at all")
    strong = result["strong_peers"]
    lines.append(
        f"Each peer   {f'but {strong} ' if strong else ''}trained {sub:,.0f} of "
        f"{full:,.0f} parameters at a time ({percent(sub / full)})"
    )
    sealed = "encrypted" if result["encrypted"] else "NOT ENCRYPTED"
    lines.append(
        f"Traffic     {size(sent)} sent by all peers, {sealed}; exchanging whole "
        f"models: {size(whole)}"
    )
    if killed:
        lines.append(f"Killed      {', '.join(killed)}; restarted and back")
    lines.append(f"Time        {duration(_real(result, 'seconds'))}")
    lines.append(f"Checkpoint  {result['checkpoint']}")
    return "\n".join(lines)


def _real(result: Mapping[str, object], key: str) -> float:
    value = result[key]
    assert isinstance(value, (int, float))
    return float(value)
