"""Layer-wise training without labels, beside training everything end to end.

    python benchmarks/layerwise.py [--seeds 3] [--minutes 60] [--processes 2]
    python benchmarks/layerwise.py --table

LW-FedSSL and Prog-FedSSL with one and two of six layers per stage, MoCo v3's objective,
on 4,000 images of Fashion-MNIST without their labels: once with ten peers that all take
part in every round, once with 25 of 100 (the claim that matters most to a swarm: where
few take part, layer-wise training loses less). Accuracy is a linear probe's on the
frozen encoder, beside that of a random encoder; costs are ratios to end-to-end
training's. Runs are kept with those of ``methods.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from arms import ARMS, SETS, TASKS
from runs import Found, Run, collected, compare, paired, scores, spread

WHOLE = Fraction(1)
PLACES = (("views", 10), ("views-few", 100))
FLOOR = "end-to-end"

HEAD = (
    "| arm | probe, % | against end-to-end, paired | random encoder, % | seeds "
    "| FLOPs, one view | traffic | activations |\n|---|---|---|---|---|---|---|---|"
)


def chosen(seeds: int) -> Iterator[Run]:
    """All arms of one seed before the next seed."""
    for seed in range(seeds):
        for task, peers in PLACES:
            for arm in SETS["layerwise"].split():
                yield Run(task, arm, WHOLE, seed, peers=peers)


def real(found: Found, key: str) -> float:
    """A number of a result."""
    return float(str(found[key]))


def tables() -> Iterator[str]:
    """Markdown of both settings, as far as there are runs."""
    for name, peers in PLACES:
        arms = collected().get((name, WHOLE, peers), {})
        if FLOOR not in arms:
            continue
        task, whole = TASKS[name], arms[FLOOR][0]
        floor = scores(task, arms[FLOOR])
        drawn = task.options.get("--participants", peers)
        lines = [f"{peers} peers, {drawn} of them in each round:", "", HEAD]
        for arm in SETS["layerwise"].split():
            if arm not in arms:
                continue
            runs, first = arms[arm], arms[arm][0]
            ours = scores(task, runs)
            random = [100 * real(run, "random_encoder_accuracy") for run in runs]
            ratios = (
                real(first, key) / real(whole, key)
                for key in (
                    *("one_view_flops_per_peer_round", "bytes_per_peer_round"),
                    "peak_activation_bytes",
                )
            )
            cells = (
                *(ARMS[arm].title, spread(list(ours.values()))),
                *(spread(paired(ours, floor), sign="+"), spread(random)),
                *(str(len(ours)), *(f"{ratio:.3f}" for ratio in ratios)),
            )
            lines.append(f"| {' | '.join(cells)} |")
        yield "\n".join(lines)


if __name__ == "__main__":
    compare(__doc__, chosen, tables)
