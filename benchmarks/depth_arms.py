"""Tasks, and arms that cut depth, of ``layerwise.py``, ``finetuning_quality.py`` and
``masked.py``."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

from contest import ROUNDS, Arm, Table, Task, plainly

BLOCKS_OF_LM = 6
LM: Table = {
    **{"length": 64, "layers": BLOCKS_OF_LM, "width": 96, "inner": 192, "heads": 4},
    "group": 96,
}

UNLABELLED = Task(
    data="fashion-mnist",
    model="vit",
    widths={},
    arguments={
        **{"patch": 7, "width": 64, "heads": 4, "layers": 6, "inner": 128},
        **{"group": 64, "head_hidden": 128, "head_output": 64},
    },
    options={
        **{"--objective": "moco", "--optimiser": "adamw", "--batch": 64},
        **{"--limit": 4000, "--limit-test": 2000, "--rounds": 24, "--alpha": 0.5},
    },
    rates={"whole": 0.001, "split": 0.001},
)
"""Images without labels, for methods that cut depth (``layerwise.py``)."""


LANGUAGE = Task(
    data="tiny-shakespeare",
    model="transformer",
    widths={},
    arguments=LM,
    options={
        **{"--vocabulary": '{"level": "byte"}', "--optimiser": "adamw"},
        **{"--limit": 2000, "--limit-test": 1000, "--rounds": 20},
    },
    rates={
        **{"whole": 0.002, "split": 0.01, "tune-all": 0.002, "short": 0.002},
        **{"lora": 0.02, "short-lora": 0.02},
    },
    higher_is_better=False,
)
"""A small language model for another kind of text (``finetuning_quality.py``)."""


UNEQUAL = Task(
    data="fashion-mnist",
    model="vit-units",
    widths={},
    arguments={
        **{"patch": 7, "width": 96, "heads": 8, "layers": 8, "inner": 192, "exits": 4},
    },
    options={
        **{"--split-fraction": "1,1,1/2,1/2,1/2,1/4,1/4,1/4"},
        **{"--slowness": "1,1.2,1,1.5,4,1,1.5,4", "--eval-every": 1},
        **{"--objective": "exits", "--optimiser": "adamw", "--batch": 32},
        **{"--limit": 4000, "--limit-test": 2000, "--rounds": ROUNDS, "--alpha": 1.0},
        "--pretrained": "{pretrained}",
    },
    rates={"whole": 0.001, "split": 0.001},
)
"""Peers of different strength and speed, and a model that is warm (``masked.py``)."""


TASKS = {
    "views": UNLABELLED,
    # A quarter of the peers in each round, drawn anew.
    "views-few": replace(
        UNLABELLED, options={**UNLABELLED.options, "--participants": 25}
    ),
    "language": LANGUAGE,
    "unequal": UNEQUAL,
}

NO_BLOCK = "1/100"
"""Less than any block: only the last layer is trained."""
MIXED = ",".join(4 * ["1/2"] + 4 * ["1/6"])


def pretrained(blocks: int) -> str:
    """The checkpoint of so many blocks, from the repository's root."""
    return f"build/pretrained-{blocks}.safetensors"


def finetuned(
    title: str,
    fraction: str,
    *,
    blocks: int = BLOCKS_OF_LM,
    rank: int = 0,
    **options: object,
) -> Arm:
    """An arm that begins pretrained; with a rank it trains additions to all maps."""
    model = {**LM, "layers": blocks, **({"rank": rank} if rank else {})}
    told = {
        "--split-fraction": fraction,
        "--model": "transformer-lora" if rank else "transformer",
        "--model-arguments": json.dumps(model),
        "--pretrained": pretrained(blocks),
        **options,
    }
    return Arm(title, "layer-finetune", options=lambda _: told)


def co_s2p(title: str, options: Table | None = None, **arguments: object) -> Arm:
    """An arm of co-s2p."""
    return Arm(
        title, "co-s2p", options=lambda _: options or {}, arguments=lambda _: arguments
    )


def hasty(fraction: Fraction) -> Table:
    """Rounds that do not wait are short, so there are more of them in the same time."""
    return {"--rounds": 5 * ROUNDS, "--max-staleness": 10, "--eval-every": 5}


ARMS = {
    "end-to-end": plainly("end-to-end", "fedavg"),
    **{
        f"{short}-{count}": Arm(
            f"{method}, {count} of 6 layers per stage",
            method,
            arguments=lambda _, count=count: {"layers_per_stage": count},  # type: ignore[misc]
        )
        for short, method in (("lw", "lw-fedssl"), ("prog", "prog-fedssl"))
        for count in (1, 2)
    },
    "tune-all": finetuned("everything", "1"),
    "tune-1": finetuned("last block", "1/6"),
    "tune-2": finetuned("last 2 blocks", "1/3"),
    "mixed": finetuned("half of the peers last 3 blocks, half the last one", MIXED),
    "strong-only": finetuned(
        "half of the peers last 3 blocks, half left out",
        "1/2",
        **{"--peers": 4, "--shares": 8},
    ),
    "short": finetuned("everything of a model of 2 blocks", "1", blocks=2),
    "lora": finetuned("LoRA, rank 8, on everything", NO_BLOCK, rank=8),
    "short-lora": finetuned(
        "LoRA, rank 8, on a model of 2 blocks", NO_BLOCK, blocks=2, rank=8
    ),
    "from-scratch": plainly("everything, not pretrained", "fedavg"),
    "masked": Arm("co-s2p, 4 of 8 close a round", "co-s2p", options=hasty),
    "masked-all": co_s2p("co-s2p, all close a round", quorum=1),
    "masked-untaught": co_s2p(
        "all, no distillation", {"--objective-arguments": '{"weight": 0}'}, quorum=1
    ),
    "masked-static": co_s2p(
        "all, first cells in place of masks", mask="static", quorum=1
    ),
    "masked-mean": co_s2p("all, mean in place of shares", merge="mean"),
    "masked-stale": Arm(
        "4 of 8, mean in place of shares",
        "co-s2p",
        options=lambda f: {**hasty(f), "--quorum": 4},
        arguments=lambda _: {"merge": "mean"},
    ),
    "strong": plainly(
        "the two strongest alone, FedAvg",
        "fedavg",
        peers=2,
        shares=8,
        split_fraction=1,
        slowness="1,1.2",
    ),
}

SETS = {
    "layerwise": "end-to-end lw-1 lw-2 prog-1 prog-2",
    "finetuning": "tune-all tune-1 tune-2 mixed strong-only short lora short-lora "
    "from-scratch",
    "masked": "masked-all masked-untaught masked-static masked-mean masked "
    "masked-stale strong",
}
