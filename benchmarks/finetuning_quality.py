"""What finetuning a language model gives, by what a peer can afford, beside LoRA.

    python benchmarks/finetuning_quality.py [--seeds 3] [--minutes 60] [--processes 2]
    python benchmarks/finetuning_quality.py --table

A byte-level transformer of 6 blocks, and one of 2, are pretrained on WikiText-2 (once,
kept in ``build/``) and finetuned by eight peers on tiny-shakespeare, each of which has
some documents. Three questions: whether peers that can afford little help those that
can afford more (half of them train the last 3 blocks, half the last one; against the
strong half alone, and everybody at the last one); what is best for the memory of a
third (the last 2 blocks of 6; everything of 2 blocks; LoRA on 2 blocks); and what is
best for the upload of a sixth (the last block of 6; LoRA on 6). LoRA is a model from
outside the package (``benchmarks/lora``). Runs are kept with those of ``methods.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction

from arms import ARMS, SETS, TASKS
from depth_arms import BLOCKS_OF_LM, LM, pretrained
from runs import (
    PEERS,
    Found,
    Run,
    asked,
    collected,
    do,
    paired,
    spread,
    train_once,
)
from runs import scores as scores_of

TASK = "language"
FLOOR = "tune-all"
WHOLE = Fraction(1)
PRETRAINING = {
    "--data": "wikitext-2",
    "--vocabulary": '{"level": "byte"}',
    "--peers": 1,
    "--split-fraction": 1,
    "--method": "fedavg",
    "--model": "transformer",
    "--optimiser": "adamw",
    "--learning-rate": 0.002,
    "--limit": 20_000,
    "--limit-test": 500,
    "--rounds": 3,
    "--seed": 0,
}

UNCOUNTED = {"lora", "short-lora"}
"""Their additions lie inside frozen blocks, which the count takes to have no backward
pass; ``finetuning.py`` has a bound."""

HEAD = (
    "| arm | perplexity per byte | against everything, paired | seeds "
    "| sent per peer and round | activations | training FLOPs |\n"
    "|---|---|---|---|---|---|---|"
)


def pretrain(blocks: int) -> None:
    """Makes the checkpoint of so many blocks, if it is not there."""
    model = {"--model-arguments": json.dumps({**LM, "layers": blocks})}
    train_once(pretrained(blocks), {**PRETRAINING, **model})


def chosen(seeds: int) -> Iterator[Run]:
    """All arms of one seed before the next seed."""
    for seed in range(seeds):
        for arm in SETS["finetuning"].split():
            yield Run(TASK, arm, WHOLE, seed)


def ratio(one: Found, other: Found, key: str) -> str:
    """How a cost of two arms compares."""
    return f"{float(str(one[key])) / float(str(other[key])):.3f}"


def table() -> str:
    """Markdown, as far as there are runs."""
    arms = collected().get((TASK, WHOLE, PEERS), {})
    if FLOOR not in arms:
        return ""
    task, whole = TASKS[TASK], arms[FLOOR][0]
    floor = scores_of(task, arms[FLOOR])
    lines = [HEAD]
    for arm in SETS["finetuning"].split():
        if arm in arms:
            first, ours = arms[arm][0], scores_of(task, arms[arm])
            costs = ("bytes_per_peer_round", "peak_activation_bytes")
            cells = (
                *(ARMS[arm].title, spread(list(ours.values()), places=2)),
                *(spread(paired(ours, floor), sign="+", places=2), str(len(ours))),
                *(ratio(first, whole, key) for key in costs),
                "not counted"
                if arm in UNCOUNTED
                else ratio(first, whole, "train_flops_per_peer_round"),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Does what is missing, then prints the table."""
    options = asked(__doc__)
    if not options.table:
        for blocks in (2, BLOCKS_OF_LM):
            pretrain(blocks)
        do(chosen(options.seeds), options.processes, options.minutes)
    print(table())


if __name__ == "__main__":
    main()
