"""Methods at equal bytes, from the runs in ``docs/methods.jsonl``; it trains nothing.

    python benchmarks/budgets.py

At equal rounds every arm that trains a part, and the small model, computes the same, so
that equal rounds are equal training FLOPs; what they send differs. Here the default and
a rival are compared after as many bytes as the thriftier of the two has sent in its
whole training: that one's last accuracy beside what the other had when it was measured
last before it had sent more, in the middle of its training, with a learning rate that
was still high. Accuracy in percent (of running text: perplexity), mean and deviation
over the seeds that both have.
"""

from __future__ import annotations

from collections.abc import Iterator

from arms import ARMS, TASKS
from contest import Task
from runs import (
    PEERS,
    Found,
    bytes_per_round,
    collected,
    paired,
    points,
    score,
    spread,
)

DEFAULT = "blocks-momentum"
RIVALS = (
    *("small", "small-momentum", "heterofl", "fedrolex", "federated-dropout"),
    *("tied", "paper"),
)
HEAD = (
    "| task | split fraction | rival | sent per peer, MiB | rival | default | paired "
    "| seeds |\n"
    "|---|---|---|---|---|---|---|---|"
)


def sent(run: Found, point: Found) -> float:
    """Bytes, by one peer, until then."""
    return bytes_per_round(run) * int(str(point["round"]))


def whole(run: Found) -> float:
    """Bytes, by one peer, in the whole training."""
    return sent(run, points(run)[-1])


def within(task: Task, run: Found, budget: float) -> float | None:
    """What the run had reached with that many bytes; None if it had not been measured
    until then."""
    reached = [each for each in points(run) if sent(run, each) <= budget]
    return score(task, reached[-1]) if reached else None


def compared(
    task: Task, rivals: list[Found], ours: list[Found]
) -> tuple[dict[int, float], dict[int, float], float]:
    """Scores of the rival and of the default by seed, and the mean of the budgets."""
    theirs_by_seed, ours_by_seed, budgets = {}, {}, []
    defaults = {int(str(run["seed"])): run for run in ours}
    for rival in rivals:
        seed = int(str(rival["seed"]))
        if seed not in defaults:
            continue
        budget = min(whole(rival), whole(defaults[seed]))
        theirs = within(task, rival, budget)
        own = within(task, defaults[seed], budget)
        if theirs is not None and own is not None:
            theirs_by_seed[seed], ours_by_seed[seed] = theirs, own
            budgets.append(budget)
    return theirs_by_seed, ours_by_seed, sum(budgets) / max(1, len(budgets))


def rows() -> Iterator[str]:
    """Markdown, one line for each task, split fraction and rival."""
    for (name, fraction, peers), arms in sorted(collected().items()):
        if peers != PEERS or DEFAULT not in arms:
            continue
        task = TASKS[name]
        for rival in RIVALS:
            theirs, ours, budget = compared(task, arms.get(rival, []), arms[DEFAULT])
            if not theirs:
                continue
            cells = (
                *(name, str(fraction), ARMS[rival].title, f"{budget / 2**20:.2f}"),
                *(spread(list(theirs.values())), spread(list(ours.values()))),
                *(spread(paired(ours, theirs), sign="+"), str(len(theirs))),
            )
            yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints the table."""
    print(HEAD)
    print("\n".join(rows()))


if __name__ == "__main__":
    main()
