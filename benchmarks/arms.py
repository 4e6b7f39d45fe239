"""What ``methods.py`` compares: tasks, and the arms that are run on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

Table = Mapping[str, object]


@dataclass(frozen=True)
class Task:
    """Data, model and training; ``widths`` are the model arguments that are cut."""

    data: str
    model: str
    widths: Mapping[str, int | tuple[int, ...]]
    options: Table
    rates: Mapping[str, float]
    """Learning rates of the ``whole`` model, the ``small`` one, and a ``split``, and of
    arms, by name, that do better with another than their kind's."""
    arguments: Table = field(default_factory=dict)
    higher_is_better: bool = True

    def model_arguments(self, fraction: Fraction) -> dict[str, object]:
        """Of a model that is so wide, of the whole one's width."""

        def cut(width: int | tuple[int, ...]) -> object:
            if isinstance(width, tuple):
                return [int(each * fraction) for each in width]
            return int(width * fraction)

        cuts = {key: cut(width) for key, width in self.widths.items()}
        return {**self.arguments, **cuts}


ROUNDS = 40
IMAGES = {"--limit": 4000, "--limit-test": 2000, "--rounds": ROUNDS, "--alpha": 0.5}
FASHION = Task(
    data="fashion-mnist",
    model="cnn",
    widths={"channels": (32, 32, 32)},
    options=IMAGES,
    rates={"whole": 0.2, "small": 0.4, "split": 0.2},
)
TASKS = {
    "fashion": FASHION,
    # Wide enough for a sixteenth.
    "fashion-64": replace(FASHION, widths={"channels": (64, 64, 64)}),
    "cifar": Task(
        data="cifar10-jpeg",
        model="cnn",
        widths={"channels": (64, 64, 64)},
        options=IMAGES,
        rates={"whole": 0.2, "small": 0.4, "split": 0.2},
    ),
    "shakespeare": Task(
        data="tiny-shakespeare",
        model="transformer",
        widths={"width": 64, "inner": 128, "heads": 8},
        arguments={"length": 32, "layers": 2, "group": 4},
        options={
            **{"--vocabulary": '{"level": "character"}', "--optimiser": "adamw"},
            **{"--limit": 4000, "--limit-test": 1000, "--rounds": ROUNDS},
        },
        rates={"whole": 0.01, "small": 0.02, "split": 0.02},
        higher_is_better=False,
    ),
    "sst2": Task(
        data="sst2",
        model="transformer-classifier",
        widths={"width": 64, "inner": 128, "heads": 8},
        arguments={"length": 32, "layers": 2, "group": 4},
        options={
            **{"--vocabulary": '{"level": "word", "size": 4096}', "--alpha": 0.5},
            # Of 4,000 sentences a model of any width learns the wording by heart.
            **{"--limit": 16000, "--rounds": ROUNDS, "--local-steps": 16},
            "--optimiser": "adamw",
        },
        rates={"whole": 0.005, "small": 0.005, "split": 0.02},
    ),
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

TASKS |= {
    "views": UNLABELLED,
    # A quarter of the peers in each round, drawn anew.
    "views-few": replace(
        UNLABELLED, options={**UNLABELLED.options, "--participants": 25}
    ),
}


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

TASKS["unequal"] = UNEQUAL


@dataclass(frozen=True)
class Arm:
    """One row of the table. ``width`` of the model: whole, or as small as a split."""

    title: str
    method: str
    small: bool = False
    faster: float = 1.0
    """Times the kind's learning rate."""
    options: Callable[[Fraction], Table] = lambda fraction: {}
    arguments: Callable[[Fraction], Table] = lambda fraction: {}


def msfusion(
    title: str, options: Table | None = None, faster: float = 1.0, **arguments: object
) -> Arm:
    """An arm of msfusion; ``blocks`` follows from the fraction where there are any."""

    def settled(fraction: Fraction) -> Table:
        if arguments.get("shift") == "blocks" or arguments.get("start") == "silent":
            return {**arguments, "blocks": int(1 / fraction)}
        return arguments

    return Arm(
        title,
        "msfusion",
        faster=faster,
        options=lambda _: options or {},
        arguments=settled,
    )


def plainly(title: str, method: str, **options: object) -> Arm:
    """An arm whose options do not depend on the fraction."""
    words = {f"--{key.replace('_', '-')}": value for key, value in options.items()}
    return Arm(title, method, options=lambda _: words)


def co_s2p(title: str, options: Table | None = None, **arguments: object) -> Arm:
    """An arm of co-s2p."""
    return Arm(
        title, "co-s2p", options=lambda _: options or {}, arguments=lambda _: arguments
    )


def hasty(fraction: Fraction) -> Table:
    """Rounds that do not wait are short, so there are more of them in the same time."""
    return {"--rounds": 5 * ROUNDS, "--max-staleness": 10, "--eval-every": 5}


PAST = {"--logit-adjustment": 0, "--label-mask": None}
"""The objective of the published baselines."""

MOMENTUM = {"--outer-momentum": 0.6}
SLOWER = 0.5
"""Outer momentum makes steps 2.5 times as long."""

BLOCKS = {"shift": "blocks", "start": "silent"}
TIED = {"shift": "tied", "start": "dense"}
ARMS = {
    "whole": plainly("whole model, FedAvg", "fedavg"),
    "whole-short": Arm(
        "whole model, as many FLOPs and bytes: mu^2 times the rounds",
        "fedavg",
        options=lambda f: {"--rounds": max(1, round(ROUNDS * f * f))},
    ),
    "whole-few": Arm(
        "whole model, as few peer-updates per entry",
        "fedavg",
        options=lambda f: {"--participants": max(1, round(8 * f * f))},
    ),
    "small": Arm("small model, FedAvg (fedavg-small)", "fedavg", small=True),
    "small-momentum": Arm(
        "small model, outer momentum",
        "fedavg",
        small=True,
        options=lambda _: MOMENTUM,
        faster=SLOWER,
    ),
    "alone": Arm(
        "small model, one peer alone",
        "fedavg",
        small=True,
        options=lambda _: {"--peers": 1, "--shares": 8},
    ),
    "ensemble": Arm(
        "ensemble of small models, each by all peers (1/mu times the cost)",
        "fedavg",
        small=True,
        options=lambda f: {"--ensemble": int(1 / f)},
    ),
    "heterofl": plainly("heterofl", "heterofl"),
    "fedrolex": plainly("fedrolex", "fedrolex"),
    "federated-dropout": plainly("federated-dropout", "federated-dropout"),
    "tied": msfusion("msfusion, tied windows (published idea)", **TIED),
    "blocks-1": msfusion("msfusion, silent blocks, dwell 1", **BLOCKS, dwell=1),
    "blocks-4": msfusion("msfusion, silent blocks, dwell 4", **BLOCKS, dwell=4),
    "blocks-8": msfusion("msfusion, silent blocks, dwell 8", **BLOCKS, dwell=8),
    "blocks-0": msfusion("msfusion, silent blocks that stay", **BLOCKS, dwell=0),
    "blocks-momentum": msfusion(
        "msfusion, silent blocks, dwell 4, outer momentum",
        MOMENTUM,
        SLOWER,
        **BLOCKS,
        dwell=4,
    ),
    "blocks-dense": msfusion(
        "msfusion, blocks, dense start, dwell 4", shift="blocks", start="dense", dwell=4
    ),
    "tied-silent": msfusion(
        "msfusion, tied windows, silent start", shift="tied", start="silent"
    ),
    "tied-4": msfusion("msfusion, tied windows, dwell 4", **TIED, dwell=4),
    "skewed": msfusion("msfusion, skewed windows", shift="skewed", start="dense"),
    "tied-forward": msfusion(
        "msfusion, tied windows, whole forward pass (whole cost)",
        {"--full-forward": None},
        **TIED,
    ),
    "small-plain": Arm(
        "small model, no logit adjustment",
        "fedavg",
        small=True,
        options=lambda _: {"--logit-adjustment": 0},
    ),
    "small-mask": Arm(
        "small model, label mask", "fedavg", small=True, options=lambda _: PAST
    ),
    "blocks-plain": msfusion(
        "msfusion, silent blocks, dwell 4, no logit adjustment",
        {"--logit-adjustment": 0},
        **BLOCKS,
        dwell=4,
    ),
    "blocks-mask": msfusion(
        "msfusion, silent blocks, dwell 4, label mask", PAST, **BLOCKS, dwell=4
    ),
    "paper": Arm(
        "msfusion, preset paper (tied windows, contrastive objective, label mask)",
        "msfusion",
        options=lambda _: {"--preset": "paper"},
    ),
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
    "tied-mask": msfusion("msfusion, tied windows, label mask", PAST, **TIED),
    "heterofl-mask": Arm("heterofl, label mask", "heterofl", options=lambda _: PAST),
}

SETS = {
    "main": "whole whole-short whole-few small small-momentum alone ensemble "
    "heterofl fedrolex federated-dropout paper tied blocks-1 blocks-4",
    "ablations": "blocks-0 blocks-8 blocks-momentum blocks-dense tied-silent tied-4 "
    "skewed tied-forward small-plain small-mask blocks-plain blocks-mask tied-mask "
    "heterofl-mask",
    "masked": "masked-all masked-untaught masked-static masked-mean masked "
    "masked-stale strong",
    "layerwise": "end-to-end lw-1 lw-2 prog-1 prog-2",
}
