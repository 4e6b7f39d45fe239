"""What ``methods.py`` compares: tasks, and arms that cut widths, or nothing."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from contest import ROUNDS, Arm, Table, Task, plainly

IMAGES = {"--limit": 4000, "--limit-test": 2000, "--rounds": ROUNDS, "--alpha": 0.5}
FASHION = Task(
    data="fashion-mnist",
    model="cnn",
    widths={"channels": (32, 32, 32)},
    options=IMAGES,
    rates={"whole": 0.2, "small": 0.4, "split": 0.2, "stay-momentum": 0.1},
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
        rates={
            **{"whole": 0.2, "small": 0.4, "split": 0.2},
            **{"small-momentum": 0.2, "blocks-momentum": 0.1},
        },
    ),
    # Half of the usual width, and fewer rounds than others, because of what it costs.
    "cifar-resnet": Task(
        data="cifar10-jpeg",
        model="resnet18",
        widths={"width": 32},
        arguments={"group": 4},
        options={**IMAGES, "--rounds": 24},
        rates={
            **{"whole": 0.1, "small": 0.2, "split": 0.1},
            **{"small-momentum": 0.1},
        },
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
        rates={
            **{"whole": 0.005, "small": 0.005, "split": 0.02},
            **{"blocks-momentum": 0.005},
        },
    ),
}


def msfusion(
    title: str,
    options: Table | None = None,
    outer_momentum: float = 0,
    **arguments: object,
) -> Arm:
    """An arm of msfusion; ``blocks`` follows from the fraction where there are any."""

    def settled(fraction: Fraction) -> Table:
        if (
            arguments.get("shift") in ("blocks", "lines")
            or arguments.get("start") == "silent"
        ):
            return {**arguments, "blocks": int(1 / fraction)}
        return arguments

    return Arm(
        title,
        "msfusion",
        options=lambda _: {**(options or {}), "--outer-momentum": outer_momentum},
        arguments=settled,
    )


PAST = {"--logit-adjustment": 0, "--label-mask": None}
"""The objective of the published baselines."""

TWICE = {"--rounds": 2 * ROUNDS}
OUTER = 0.6
MOMENTUM = {"--outer-momentum": OUTER}
OFTEN = {**TWICE, "--local-steps": 8}
"""As many steps in twice as many rounds: a peer of these tasks has 16 a round."""

EVEN = {"--partition": "iid"}
"""No peer's data is special."""

BLOCKS = {"shift": "blocks", "start": "silent"}
TIED = {"shift": "tied", "start": "dense"}
WIDENING = "cosine min(0.25,full) full"
NARROWING = "cosine full min(0.25,full)"
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
    ),
    "small-twice": Arm(
        "small model, twice the rounds", "fedavg", small=True, options=lambda _: TWICE
    ),
    "small-momentum-twice": Arm(
        "small model, outer momentum, twice the rounds",
        "fedavg",
        small=True,
        options=lambda _: {**MOMENTUM, **TWICE},
    ),
    "small-momentum-often": Arm(
        "small model, outer momentum, twice the rounds of half as many steps",
        "fedavg",
        small=True,
        options=lambda _: {**MOMENTUM, **OFTEN},
    ),
    "small-momentum-even": Arm(
        "small model, outer momentum, data dealt out evenly",
        "fedavg",
        small=True,
        options=lambda _: {**MOMENTUM, **EVEN},
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
    "heterofl-momentum": plainly(
        "heterofl, outer momentum", "heterofl", outer_momentum=OUTER
    ),
    "fedrolex-momentum": plainly(
        "fedrolex, outer momentum", "fedrolex", outer_momentum=OUTER
    ),
    "dropout-momentum": plainly(
        "federated-dropout, outer momentum",
        "federated-dropout",
        outer_momentum=OUTER,
    ),
    "tied": msfusion("msfusion, tied windows (published idea)", **TIED),
    "tied-momentum": msfusion(
        "msfusion, tied windows, outer momentum", outer_momentum=OUTER, **TIED
    ),
    "blocks-1": msfusion("msfusion, silent blocks, dwell 1", **BLOCKS, dwell=1),
    "blocks-4": msfusion("msfusion, silent blocks, dwell 4", **BLOCKS, dwell=4),
    "blocks-8": msfusion("msfusion, silent blocks, dwell 8", **BLOCKS, dwell=8),
    "blocks-0": msfusion("msfusion, silent blocks that stay", **BLOCKS, dwell=0),
    "blocks-momentum": msfusion(
        "msfusion, silent blocks, dwell 1, outer momentum (the default)",
        outer_momentum=OUTER,
        **BLOCKS,
        dwell=1,
    ),
    "blocks-momentum-twice": msfusion(
        "msfusion, silent blocks, dwell 1, outer momentum, twice the rounds",
        TWICE,
        outer_momentum=OUTER,
        **BLOCKS,
        dwell=1,
    ),
    "blocks-momentum-often": msfusion(
        "msfusion, silent blocks, dwell 1, outer momentum, twice the rounds of half as "
        "many steps",
        OFTEN,
        outer_momentum=OUTER,
        **BLOCKS,
        dwell=1,
    ),
    "blocks-momentum-even": msfusion(
        "msfusion, silent blocks, dwell 1, outer momentum, data dealt out evenly",
        EVEN,
        outer_momentum=OUTER,
        **BLOCKS,
        dwell=1,
    ),
    "blocks-twice": msfusion(
        "msfusion, silent blocks, dwell 1, twice the rounds", TWICE, **BLOCKS, dwell=1
    ),
    "stay-momentum": msfusion(
        "msfusion, silent blocks that stay, outer momentum",
        outer_momentum=OUTER,
        **BLOCKS,
        dwell=0,
    ),
    "blocks-dense": msfusion(
        "msfusion, blocks, dense start, dwell 4", shift="blocks", start="dense", dwell=4
    ),
    "tied-silent": msfusion(
        "msfusion, tied windows, silent start", shift="tied", start="silent"
    ),
    "tied-4": msfusion("msfusion, tied windows, dwell 4", **TIED, dwell=4),
    "tied-widening": msfusion(
        "msfusion, tied windows, overlap grows to the largest", **TIED, overlap=WIDENING
    ),
    "tied-narrowing": msfusion(
        "msfusion, tied windows, overlap shrinks from the largest",
        **TIED,
        overlap=NARROWING,
    ),
    "lines": msfusion("msfusion, lines, dense start", shift="lines", start="dense"),
    "lines-8": msfusion(
        "msfusion, lines, dense start, dwell 8", shift="lines", start="dense", dwell=8
    ),
    "lines-silent-8": msfusion(
        "msfusion, lines, silent start, dwell 8, outer momentum",
        outer_momentum=OUTER,
        shift="lines",
        start="silent",
        dwell=8,
    ),
    "blocks-proximal": msfusion(
        "msfusion, silent blocks, dwell 1, outer momentum, proximal term 0.1",
        {"--proximal": 0.1},
        outer_momentum=OUTER,
        **BLOCKS,
        dwell=1,
    ),
    "blocks-clipped": msfusion(
        "msfusion, silent blocks, dwell 1, outer momentum, relative clipping 0.1",
        {"--clip-relative": 0.1},
        outer_momentum=OUTER,
        **BLOCKS,
        dwell=1,
    ),
    "small-clipped": Arm(
        "small model, outer momentum, relative clipping 0.1",
        "fedavg",
        small=True,
        options=lambda _: {**MOMENTUM, "--clip-relative": 0.1},
    ),
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
    "paper-plain": msfusion(
        "msfusion, preset paper without its contrastive objective",
        PAST,
        **TIED,
        overlap=WIDENING,
    ),
    "tied-mask": msfusion("msfusion, tied windows, label mask", PAST, **TIED),
    "heterofl-mask": Arm("heterofl, label mask", "heterofl", options=lambda _: PAST),
}


SETS = {
    "main": "whole whole-short whole-few small small-momentum alone ensemble "
    "heterofl fedrolex federated-dropout paper tied blocks-1 blocks-momentum",
    "ablations": "blocks-0 blocks-4 blocks-8 stay-momentum blocks-dense "
    "tied-silent tied-4 tied-widening tied-narrowing skewed tied-forward small-plain "
    "small-mask blocks-plain blocks-mask paper-plain tied-mask heterofl-mask "
    "lines lines-8 lines-silent-8 blocks-proximal blocks-clipped small-clipped",
    "controls": "small-momentum-often blocks-momentum-often small-momentum-even "
    "blocks-momentum-even heterofl-momentum fedrolex-momentum dropout-momentum "
    "tied-momentum",
    "saturation": "small small-twice small-momentum small-momentum-twice blocks-1 "
    "blocks-twice blocks-momentum blocks-momentum-twice",
}
